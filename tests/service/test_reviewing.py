"""Pairs to look at, computed once for a version and its verdicts."""

from pipeline.gallery.table import Gallery
from pipeline.runs.mined import MineSettings
from pipeline.runs.mining import mine
from pipeline.service.shelf import Shelf
from tests.jobs.labeled import labeled_gallery, people
from tests.service.asking import client, computed, message

REVIEW = "/v1/galleries/g/review"


def test_the_pairs_are_those_of_mine(tmp_path):
    features, identity, camera = people(8, 80, dimension=8)
    gallery = labeled_gallery(tmp_path / "g", features, identity, camera)
    asked = client(Shelf([str(tmp_path / "g")]), allow_verdicts=True)
    answer = computed(asked, f"{REVIEW}?limit=5").json()
    found = mine(gallery, MineSettings(k=200))
    told = [(each["a"]["row_id"], each["b"]["row_id"], each["gain"]) for each in answer["pairs"]]
    assert told == [(each.a, each.b, each.change) for each in found.proposed[:5]]
    assert answer["exact"] is True and answer["threshold"] == found.threshold
    first = answer["pairs"][0]
    assert first["a"]["path"] == found.proposed[0].path_a
    pair = {"a": first["a"]["row_id"], "b": first["b"]["row_id"]}
    asked.post("/v1/galleries/g/verdicts", json=pair | {"verdict": "different"})
    again = computed(asked, REVIEW).json()["pairs"]
    assert pair not in [{"a": p["a"]["row_id"], "b": p["b"]["row_id"]} for p in again]
    message(asked.get(f"{REVIEW}?limit=201"), 400)


def test_what_cannot_be_mined_is_told_each_time(tmp_path):
    features, identity, camera = people(1, 1, dimension=8)
    labeled_gallery(tmp_path / "g", features, identity, camera)
    assert Gallery.open(str(tmp_path / "g")).count == 1
    asked = client(Shelf([str(tmp_path / "g")]))
    for _ in range(2):
        assert "a pair needs two" in message(computed(asked, REVIEW), 400)
