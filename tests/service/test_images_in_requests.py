"""Images in requests: the features of extraction, and sentences for what cannot be used."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.model.networks import NetworkFile
from pipeline.runs.extraction import extract
from pipeline.runs.settings import RecipeSettings
from pipeline.service.embedding import Embedder
from pipeline.service.shelf import Shelf
from tests.service.asking import client, message
from tests.service.making import plain_gallery
from tests.stages.making import save_network, save_source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source, a gallery that was extracted from it, and the network."""
    folder = tmp_path_factory.mktemp("images")
    source, network = save_source(folder / "source", 12), save_network(folder)
    recipe = RecipeSettings(height=32, width=16)
    extract(str(source), str(folder / "yard"), network, recipe=recipe)
    return source, str(folder / "yard"), network


@pytest.fixture
def asked(made):
    _, location, network = made
    shelf, embedder = Shelf([location]), Embedder(network)
    embedder.check([shelf.get("yard").gallery])
    return client(shelf, network=embedder, max_pixels=100_000)


def search(asked, **body):
    return asked.post("/v1/galleries/yard/search", json=body)


def text(data):
    return base64.b64encode(data).decode()


def test_an_image_of_the_gallery_finds_itself(made, asked):
    for number, file in enumerate(sorted(made[0].iterdir())[:3]):
        (found,) = search(asked, image=text(file.read_bytes()), limit=2).json()["results"]
        first = found["hits"][0]
        assert (first["row_id"], first["path"]) == (number, file.name)
        assert first["score"] == pytest.approx(1, abs=1e-5)
        again = asked.post(
            "/v1/galleries/yard/search?limit=2", content=file.read_bytes(),
            headers={"Content-Type": "image/png"},
        )  # fmt: skip
        assert again.json()["results"] == [found]


def test_a_box_is_the_part_of_a_picture(made, asked):
    file = sorted(made[0].iterdir())[5]
    crop = np.asarray(Image.open(file).convert("RGB"))
    frame = np.zeros((crop.shape[0] + 30, crop.shape[1] + 50, 3), np.uint8)
    frame[10 : 10 + crop.shape[0], 20 : 20 + crop.shape[1]] = crop
    held = io.BytesIO()
    Image.fromarray(frame).save(held, "PNG")
    box = [20, 10, crop.shape[1], crop.shape[0]]
    (found,) = search(asked, image=text(held.getvalue()), box=box, limit=1).json()["results"]
    assert found["hits"][0]["row_id"] == 5
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    outside = search(asked, image=text(held.getvalue()), box=[5000, 0, 5, 5])
    assert "is empty in a picture of" in message(outside, 400)


def test_a_part_of_the_frame_of_a_row(made, asked):
    """A crop that was not cut from a video is its own frame."""
    (found,) = search(asked, frame={"row": 7}, limit=1).json()["results"]
    assert found["query"] == {"frame": 7, "box": None}
    assert found["hits"][0]["row_id"] == 7
    (part,) = search(asked, frame={"row": 7}, box=[1, 1, 6, 9], limit=1).json()["results"]
    assert part["hits"][0]["score"] < found["hits"][0]["score"]
    assert "has no row 99" in message(search(asked, frame={"row": 99}), 400)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"<html>", "not-an-image"), (b"\x89PNG\r\n\x1a\n", "image 1 cannot be used")],
)
def test_files_that_are_no_pictures(asked, data, reason):
    assert reason in message(search(asked, image=text(data)), 400)


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(asked):
    """A few kilobytes that would become a hundred megabytes."""
    held = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(held, "PNG")
    assert len(held.getvalue()) < 20_000
    assert "too-large" in message(search(asked, image=text(held.getvalue())), 400)


def test_a_network_of_another_gallery_is_refused(made, tmp_path):
    other = plain_gallery(tmp_path / "other", range(5))
    with pytest.raises(InputError, match="features of two networks are never compared"):
        Embedder(made[2]).check([other])
    assert isinstance(made[2], NetworkFile)
