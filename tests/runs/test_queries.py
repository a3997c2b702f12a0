"""What is searched: pictures that are hardly crops are told."""

import numpy as np
import pytest
from PIL import Image

from pipeline.model.extractor import Extractor
from pipeline.model.networks import default_recipe
from pipeline.runs.oddities import warn_of_oddities
from pipeline.runs.queries import read_queries
from tests.stages.making import save_crop, save_network


@pytest.fixture
def extractor(tmp_path):
    network = save_network(tmp_path)
    return Extractor(network, default_recipe(network, {"height": 32, "width": 16}), batch_size=4)


def test_a_frame_that_is_searched_as_one_crop_is_told(tmp_path, extractor, caplog):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 200, (360, 640, 3), dtype=np.uint8)).save(tmp_path / "f.png")
    Image.fromarray(np.full((60, 30, 3), 27, np.uint8)).save(tmp_path / "gray.png")
    save_crop(tmp_path / "crop.png", 1)
    names = [str(tmp_path / name) for name in ("f.png", "gray.png", "crop.png")]
    assert len(read_queries(names, extractor).images) == 3
    assert "f.png is as large and as wide as a whole frame" in caplog.text
    assert "gray.png uses next to nothing of the range" in caplog.text
    assert "crop.png" not in caplog.text


def test_odd_images_of_all_units_are_told_once(tmp_path, extractor, caplog):
    Image.fromarray(np.full((60, 30, 3), 27, np.uint8)).save(tmp_path / "gray.png")
    found = [("thin", 2, "gray.png"), ("frame", 1, "f.png"), ("thin", 3, "other.png")]
    warn_of_oddities(found, str(tmp_path), extractor.recipe, of=9)
    assert "5 of 9 images use less than 5 % of the range" in caplog.text
    assert "gray.png uses 0.0 %" in caplog.text
    assert "1 of 9 images are as large and as wide as whole frames, f.png for one" in caplog.text
    caplog.clear()
    warn_of_oddities([("thin", 1, "gone.png")], str(tmp_path), extractor.recipe, of=1)
    assert "gone.png can no longer be read" in caplog.text
