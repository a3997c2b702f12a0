"""Galleries without rows, tracklets, damaged files, and sources out of reach."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from jobs import cli
from pipeline.gallery.sidecars.calibrations import calibration_file, write_calibration
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from pipeline.service.events import Listeners
from pipeline.service.faults import Refused
from pipeline.service.shelf import Shelf
from tests.gallery.making import unit
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE
from tests.service.asking import client, computed, message
from tests.stages.making import save_network


def _gallery(location, source="/nowhere"):
    """A gallery without a row."""
    recipe = Recipe(weights="0" * 64)
    return Gallery.create(
        str(location),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=8,
        source=source,
        layout="none",
    )


@pytest.mark.parametrize(
    "path",
    ["", "/rows", "/people", "/verdicts", "/quality", "/points", "/rows?camera=c1", "/people?q=x"],
)
def test_a_gallery_without_rows_is_answered(tmp_path, path):
    _gallery(tmp_path / "g")
    answer = computed(client(Shelf([str(tmp_path / "g")])), f"/v1/galleries/g{path}")
    assert answer.status_code == 200, answer.text


def test_what_needs_rows_tells_that_there_are_none(tmp_path):
    _gallery(tmp_path / "g")
    asked = client(Shelf([str(tmp_path / "g")]), allow_erase=True)
    assert "a pair needs two" in message(computed(asked, "/v1/galleries/g/review"), 400)
    message(asked.get("/v1/galleries/g/rows/0/image"), 404)
    message(asked.get("/v1/galleries/g/people/1"), 404)
    body = {"where": "camera = 'c1'", "confirm": "g"}
    message(asked.post("/v1/galleries/g/erasures", json=body), 400)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """A gallery `boxes` of frames with two tracks, and a gallery `tracks` of its tracklets."""
    place = tmp_path_factory.mktemp("tracks")
    frames = place / "frames"
    frames.mkdir()
    images, boxes = [], []
    for number in range(3):
        pixels = np.full((90, 160, 3), 60 * number + 20, np.uint8)
        pixels[::2, ::2] += 40
        Image.fromarray(pixels).save(frames / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 90})
        for track in (1, 2):
            boxes.append(
                {
                    "id": len(boxes), "image_id": number, "category_id": 1, "track_id": track,
                    "bbox": [40 * track, 10, 20 + number, 40],
                }
            )  # fmt: skip
    coco = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "person"}],
    }
    (frames / "boxes.json").write_text(json.dumps(coco))
    network = save_network(place).path
    extract = ("extract", frames / "boxes.json", "--gallery", place / "boxes", "--model", network)
    assert cli.main([*map(str, (*extract, *SIZE[:4], "--actors", 0))]) == 0
    made = ("tracklets", "--gallery", place / "boxes", "--out", place / "tracks")
    assert cli.main([*map(str, made)]) == 0
    return place


def test_a_tracklet_is_shown_by_a_crop_in_its_middle(tracks):
    asked = client(Shelf([str(tracks / "tracks"), str(tracks / "boxes")]))
    rows = asked.get("/v1/galleries/tracks/rows").json()["rows"]
    assert len(rows) == 2
    for row in rows:
        answer = asked.get(f"/v1/galleries/tracks/rows/{row['row_id']}/image")
        assert Image.open(io.BytesIO(answer.content)).size == (21, 40)
        frame = asked.get(f"/v1/galleries/tracks/rows/{row['row_id']}/image?kind=frame")
        assert Image.open(io.BytesIO(frame.content)).size == (160, 90)
        assert frame.headers["x-box"] in ("40,10,21,40", "80,10,21,40")
    summary = asked.get("/v1/galleries/tracks").json()
    assert (summary["tracklets"], summary["frames"]) == (True, True)


def test_a_tracklet_without_its_parent_is_told(tracks):
    parent = tracks / "boxes"
    moved = parent.rename(tracks / "moved")
    try:
        asked = client(Shelf([str(tracks / "tracks")]))
        answer = asked.get("/v1/galleries/tracks/rows/0/image")
        assert "cannot be shown" in message(answer, 404)
    finally:
        moved.rename(parent)


def test_a_source_out_of_reach_is_told(tmp_path):
    gallery = _gallery(tmp_path / "g", "no-such-protocol://bucket/crops")
    gallery.commit([unit(gallery.target, range(2))], run_id="a")
    answer = client(Shelf([str(tmp_path / "g")])).get("/v1/galleries/g/rows/0/image")
    assert "its source cannot be reached" in message(answer, 409)
    assert "bucket" not in answer.text


def test_a_damaged_calibration_is_told_where_the_threshold_would_be(tmp_path):
    features, identity, camera = people(3, 20, dimension=8)
    gallery = labeled_gallery(tmp_path / "g", features, identity, camera)
    write_calibration(gallery, {"threshold": 0.5, "rule": "far", "parameters": {}})
    asked = client(Shelf([str(tmp_path / "g")]))
    summary = asked.get("/v1/galleries/g").json()
    assert (summary["threshold"], summary["calibration"]) == (0.5, [])
    path = calibration_file(gallery)
    path.write_text(path.read_text().replace("0.5", "0.1"))
    summary = asked.get("/v1/galleries/g").json()
    assert summary["threshold"] is None and "calibrat" in summary["threshold_from"]
    assert computed(asked, "/v1/galleries/g/quality").json()["camera_pairs"] == []


def test_a_report_that_was_changed_is_left_out(tmp_path):
    features, identity, camera = people(6, 60, dimension=8)
    labeled_gallery(tmp_path / "g", features, identity, camera)
    report = tmp_path / "report"
    arguments = ("evaluate", "--query", tmp_path / "g", "--gallery", tmp_path / "g")
    assert cli.main([*map(str, (*arguments, "--out", report, "--workers", 0))]) == 0
    asked = client(Shelf([str(tmp_path / "g")]))
    assert computed(asked, "/v1/galleries/g/quality").json()["evaluation"] is not None
    for content in ("{", "[]", '{"created": 1}', ""):
        (report / "report.json").write_text(content)
        answer = computed(asked, "/v1/galleries/g/quality")
        assert answer.json()["evaluation"] is None


def test_many_listeners_are_enough():
    listeners = Listeners()
    held = [listeners.listening() for _ in range(100)]
    for each in held:
        listeners.check_room()
        each.__enter__()
    with pytest.raises(Refused, match="100 clients follow"):
        listeners.check_room()
    listeners.tell({"gallery": "g"})
    for each in held:
        each.__exit__(None, None, None)
    listeners.check_room()
