"""A gallery without rows, and one of a few."""

import shutil

import pytest

from pipeline.gallery.table import Gallery
from tests.gallery.making import new_gallery, unit


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """The folders of both galleries, of which each test has a copy: to make one takes longer."""
    folder = tmp_path_factory.mktemp("templates")
    empty = new_gallery(folder / "filled")
    shutil.copytree(folder / "filled", folder / "empty")
    units = [unit(empty.target, range(10)), unit(empty.target, range(10, 20), rejected=[12])]
    empty.commit(units, run_id="first")
    return folder


@pytest.fixture
def empty(templates, tmp_path):
    if not (tmp_path / "g").exists():  # where a test has both, this is the other's version 0
        shutil.copytree(templates / "empty", tmp_path / "g")
    return Gallery.open(str(tmp_path / "g"), 0)


@pytest.fixture
def gallery(templates, tmp_path):
    """Row ids 0 to 19 in two units; 12 is a reject."""
    shutil.copytree(templates / "filled", tmp_path / "g", dirs_exist_ok=True)
    return Gallery.open(str(tmp_path / "g"))
