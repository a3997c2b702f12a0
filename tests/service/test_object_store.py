"""A gallery in an object store, and its images there, served as from a folder."""

import io

import pytest
from PIL import Image

from jobs import cli
from pipeline.archive.locations import locate
from pipeline.gallery.table import Gallery
from pipeline.service.shelf import Shelf
from tests.jobs.running import SIZE
from tests.service.asking import client, computed, message
from tests.stages.making import save_network, save_source

YARD = "/v1/galleries/yard"


@pytest.mark.slow
def test_a_gallery_in_a_bucket_is_served(tmp_path, bucket):
    source, network = save_source(tmp_path / "crops", 8), save_network(tmp_path).path
    filesystem, there = locate(f"{bucket}/crops")
    filesystem.put(f"{source}/", f"{there}/", recursive=True)
    arguments = ("extract", f"{bucket}/crops", "--gallery", f"{bucket}/yard", "--model", network)
    assert cli.main([*map(str, (*arguments, *SIZE))]) == 0
    asked = client(Shelf([f"{bucket}/yard"]), allow_verdicts=True, allow_erase=True)
    assert asked.get(YARD).json()["rows"] == 8
    hits = asked.post(f"{YARD}/search", json={"row": 0, "limit": 3}).json()["results"][0]["hits"]
    assert len(hits) == 3
    row = asked.get(f"{YARD}/rows/0").json()["row"]
    picture = Image.open(io.BytesIO(asked.get(f"{YARD}/rows/0/image").content))
    assert picture.size == Image.open(source / row["path"]).size
    filesystem.rm(f"{there}/{row['path']}")
    message(asked.get(f"{YARD}/rows/0/image"), 404)
    pair = {"a": 0, "b": 3, "verdict": "same"}
    assert asked.post(f"{YARD}/verdicts", json=pair).json()["recorded"] == 1
    assert asked.get(f"{YARD}/people").json()["people"][0]["rows"] > 2
    assert computed(asked, f"{YARD}/quality").status_code == 200
    assert len(computed(asked, f"{YARD}/points").content) > 12 * 8
    job = asked.post(f"{YARD}/erasures", json={"rows": [0], "confirm": "yard"}).json()["job"]
    while (told := asked.get(f"/v1/jobs/{job}").json())["state"] == "running":
        pass
    assert told["state"] == "done", told
    assert Gallery.open(f"{bucket}/yard").count == 7
