"""Thumbnails: small, of the same shape, and nothing but data."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.report.results import Report
from pipeline.report.thumbnails import Thumbnails, pictured_paths, thumbnail
from tests.report.changing import changed


@pytest.mark.parametrize(
    ("shape", "size"),
    [((512, 256), (128, 256)), ((512, 512), (128, 128)), ((64, 32), (32, 64)), ((1, 1), (1, 1))],
)
def test_a_thumbnail_keeps_its_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    uri = thumbnail(np.full((*shape, 3), (200, 40, 90), np.uint8))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
    assert picture.format == "JPEG"
    assert picture.size == size
    assert np.abs(np.asarray(picture).astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_only_rgb_pictures(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"wants uint8 \[H, W, 3\]"):
        thumbnail(image)


@pytest.mark.parametrize(
    "uri",
    ["https://evil.example/x.jpg", "data:image/svg+xml;base64,AAAA", "data:image/jpeg;base64,A A"],
)
def test_only_data_uris_of_pictures(uri: str) -> None:
    with pytest.raises(InputError, match=r"thumbnail of 'a\.jpg'"):
        Thumbnails(query={"a.jpg": uri})
    with pytest.raises(InputError, match=r"thumbnail of 'a\.jpg'"):
        Thumbnails(gallery={"a.jpg": uri})


def test_wanted_names_each_crop_once(report: Report) -> None:
    queries, gallery = pictured_paths(report)
    assert queries == ["c1/best.jpg", "c1/median.jpg", "c1/worst.jpg"]
    assert gallery == ["c2/a.jpg", "c2/b.jpg", "c3/c.jpg"]
    assert pictured_paths(changed(report, "ranked", to=None)) == ([], [])
