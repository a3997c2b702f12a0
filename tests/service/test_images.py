"""Crops and frames of rows, read again from the source."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from jobs import cli
from pipeline.gallery.table import Gallery
from pipeline.service.shelf import Shelf
from tests.jobs.running import SIZE
from tests.service.asking import client, message
from tests.stages.making import save_crop, save_network, save_source

YARD = "/v1/galleries/yard"


def picture(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def test_a_crop_is_that_of_the_source(yard, made):
    asked = client(yard)
    for row in yard.get("yard").rows(np.arange(3)):
        shown = picture(asked.get(f"{YARD}/rows/{row['row_id']}/image"))
        given = np.asarray(Image.open(made / "crops" / row["path"]).convert("RGB")).astype(int)
        assert shown.shape == given.shape
        assert abs(shown.mean() - given.mean()) < 5
    small = picture(asked.get(f"{YARD}/rows/0/image?height=16"))
    assert small.shape[0] == 16
    assert (
        picture(asked.get(f"{YARD}/rows/0/image?height=2000")).shape
        == picture(asked.get(f"{YARD}/rows/0/image")).shape
    )
    for wrong in ("height=15", "height=99999", "height=x", "kind=other"):
        message(asked.get(f"{YARD}/rows/0/image?{wrong}"), 400)


def test_a_crop_is_known_again(yard):
    asked = client(yard)
    first = asked.get(f"{YARD}/rows/0/image")
    assert first.headers["cache-control"] == "private, no-cache"
    tag = {"If-None-Match": first.headers["etag"]}
    assert asked.get(f"{YARD}/rows/0/image", headers=tag).status_code == 304
    for other in ("rows/1/image", "rows/0/image?height=16", "rows/0/image?kind=frame"):
        assert asked.get(f"{YARD}/{other}", headers=tag).status_code == 200


def test_a_frame_has_the_box_of_its_row(yard, made):
    asked = client(yard)
    whole = asked.get("/v1/galleries/boxes/rows/1/image?kind=frame")
    assert picture(whole).shape == (90, 160, 3)
    assert whole.headers["x-box"] == "100,5,40,80"
    assert whole.headers["x-frame-size"] == "160,90"
    half = asked.get("/v1/galleries/boxes/rows/0/image?kind=frame&height=45")
    assert picture(half).shape == (45, 80, 3)
    assert (half.headers["x-box"], half.headers["x-frame-size"]) == ("5,10,15,30", "160,90")
    crop = picture(asked.get("/v1/galleries/boxes/rows/1/image"))
    assert crop.shape == (80, 40, 3)
    frame = np.asarray(Image.open(made / "frames" / "a.png").convert("RGB")).astype(int)
    assert abs(crop.mean() - frame[5:85, 100:140].mean()) < 5
    plain = asked.get(f"{YARD}/rows/0/image?kind=frame")
    assert picture(plain).shape == picture(asked.get(f"{YARD}/rows/0/image")).shape


@pytest.fixture
def own(tmp_path):
    """A gallery whose source the test may change."""
    network = save_network(tmp_path).path
    source = save_source(tmp_path / "crops", 3)
    arguments = ("extract", source, "--gallery", tmp_path / "own", "--model", network, *SIZE)
    assert cli.main([*map(str, arguments)]) == 0
    return tmp_path


def test_images_that_changed_or_left_are_told(own):
    asked = client(Shelf([str(own / "own")]))
    paths = sorted((own / "crops").iterdir())
    save_crop(paths[0], 77)
    paths[1].unlink()
    paths[2].write_bytes(b"")
    ids = {
        row["path"]: row["row_id"]
        for row in Gallery.open(str(own / "own")).rows(["row_id", "path"]).to_pylist()
    }
    for path, status, told in zip(
        paths, (409, 404, 409), ("has changed since", "does not exist", "has changed"), strict=True
    ):
        answer = asked.get(f"/v1/galleries/own/rows/{ids[path.name]}/image")
        assert told in message(answer, status) and str(own) not in answer.text
    shutil.rmtree(own / "crops")
    message(asked.get("/v1/galleries/own/rows/0/image"), 404)


def test_a_frame_that_changed_is_told(made, tmp_path):
    frames = tmp_path / "frames"
    shutil.copytree(made / "frames", frames)
    network = made / "tiny.pt"
    arguments = (
        "extract", frames / "boxes.json", "--gallery", tmp_path / "own", "--model", network,
        *SIZE[:4], "--actors", 0,
    )  # fmt: skip
    assert cli.main([*map(str, arguments)]) == 0
    asked = client(Shelf([str(tmp_path / "own")]))
    assert asked.get("/v1/galleries/own/rows/0/image").status_code == 200
    Image.new("RGB", (160, 90)).save(frames / "a.png")
    for kind in ("crop", "frame"):
        answer = asked.get(f"/v1/galleries/own/rows/0/image?kind={kind}")
        assert "has changed" in message(answer, 409)


def test_rejects_are_shown_by_their_number_only(yard):
    asked = client(yard)
    assert "not an image" in message(asked.get(f"{YARD}/rejects/0/image"), 409)
    assert "has 1 rejects" in message(asked.get(f"{YARD}/rejects/1/image"), 404)
    message(asked.get(f"{YARD}/rejects/..%2fcrops/image"), 404)
    message(asked.get(f"{YARD}/rejects/x/image"), 400)
