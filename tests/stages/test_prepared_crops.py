"""Crops at a network's input size: the same pixels as in extraction, made once."""

import logging
import shutil

import numpy as np
import pyarrow as pa
import pytest

from pipeline.archive.decoding.images import decode
from pipeline.archive.listing.source import list_source
from pipeline.errors import RunError
from pipeline.model.input.preprocessing import empty_batch, fill_batch
from pipeline.model.recipe import Recipe
from pipeline.stages import prepared_crops
from pipeline.stages.crops import Decoding
from pipeline.stages.prepared_crops import drop_crops, images_hash, prepare_crops
from tests.stages.making import save_source

RECIPE = Recipe(weights="0" * 64, height=32, width=16)


@pytest.fixture
def listed(tmp_path):
    source = save_source(tmp_path / "source", 150)
    return source, list_source(str(source), "market1501").images


def test_each_crop_is_that_of_extraction(listed, tmp_path):
    source, images = listed
    shuffled = images.take(np.random.default_rng(0).permutation(len(images)))
    steps: list[int] = []
    path = prepare_crops(shuffled, Decoding(str(source)), RECIPE, tmp_path, steps.append)
    found = np.load(path)
    assert found.shape == (150, 3, 32, 16) and sum(steps) == 150
    batch = empty_batch(1, (32, 16))
    for place, name in enumerate(shuffled["path"].to_pylist()):
        fill_batch(batch, [decode((source / name).read_bytes())], RECIPE)
        np.testing.assert_array_equal(found[place], batch[0])


def test_they_are_made_once_and_again_for_anything_else(listed, tmp_path, monkeypatch):
    source, images = listed
    first = prepare_crops(images, Decoding(str(source)), RECIPE, tmp_path)
    monkeypatch.setattr(prepared_crops, "decoded_crops", None)
    steps: list[int] = []
    assert prepare_crops(images, Decoding(str(source)), RECIPE, tmp_path, steps.append) == first
    assert steps == [150]
    monkeypatch.undo()
    other = Recipe(weights="0" * 64, height=16, width=16)
    (tmp_path / "crops-cut.half").write_bytes(b"half")
    second = prepare_crops(images, Decoding(str(source)), other, tmp_path)
    assert [path.name for path in tmp_path.glob("crops-*")] == [second.name]
    drop_crops(tmp_path)
    assert not list(tmp_path.glob("crops-*"))


def test_images_without_size_or_time(listed, tmp_path):
    """As a manifest in an object store may have them."""
    source, images = listed
    bare = images
    for name in ("size", "mtime"):
        place = images.column_names.index(name)
        bare = bare.set_column(place, name, pa.nulls(len(images), images[name].type))
    first = prepare_crops(images, Decoding(str(source)), RECIPE, tmp_path)
    (tmp_path / "other").mkdir()
    second = prepare_crops(bare, Decoding(str(source)), RECIPE, tmp_path / "other")
    assert second.read_bytes() == first.read_bytes() and second.name != first.name
    hashes = {images_hash(each) for each in (images, bare, bare.slice(1))}
    hashes |= {images_hash(bare, others) for others in ([None], [1])}
    assert len(hashes) == 5


def test_crops_that_are_gone(listed, tmp_path, caplog):
    source, images = listed
    (source / images["path"][7].as_py()).unlink()
    with caplog.at_level(logging.WARNING):
        path = prepare_crops(images, Decoding(str(source)), RECIPE, tmp_path)
    assert "1 crops cannot be read any more" in caplog.text
    found = np.load(path)
    assert (found[7] == 128).all() and not (found[8] == 128).all()
    shutil.rmtree(source)
    drop_crops(tmp_path)
    with pytest.raises(RunError, match="150 of 150 crops cannot be read any more"):
        prepare_crops(images, Decoding(str(source)), RECIPE, tmp_path)
    assert not list(tmp_path.glob("crops-*.npy"))
