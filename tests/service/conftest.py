"""Small real galleries: crops, frames with boxes, and what is served from them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import cli
from pipeline.service.shelf import Shelf
from tests.jobs.running import SIZE
from tests.stages.making import save_network, save_source

_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 160, "height": 90}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box}
        for number, box in enumerate(([10, 20, 30, 60], [100, 5, 40, 80]))
    ],
}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a gallery `yard` of 12 crops and a reject, and a gallery `boxes` of frames."""
    place = tmp_path_factory.mktemp("served")
    network = save_network(place).path
    source = save_source(place / "crops", 12)
    (source / "0009_c1s1_000099_00.png").write_bytes(b"not an image")
    _extract(source, place / "yard", network, *SIZE)
    frames = place / "frames"
    frames.mkdir()
    pixels = np.random.default_rng(0).integers(0, 200, (90, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(frames / "a.png")
    (frames / "boxes.json").write_text(json.dumps(_COCO))
    _extract(frames / "boxes.json", place / "boxes", network, *SIZE[:4], "--actors", 0)
    return place


def _extract(source, gallery, network, *more):
    arguments = ("extract", source, "--gallery", gallery, "--model", network, *more)
    assert cli.main([*map(str, arguments)]) in (0, 1)


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of both galleries, and of the crops, that a test may change."""
    for name in ("yard", "boxes"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def shelf(place):
    return Shelf([str(place / "yard"), str(place / "boxes")])


@pytest.fixture(scope="session")
def yard(made):
    """A shelf that tests only read."""
    return Shelf([str(made / "yard"), str(made / "boxes")])
