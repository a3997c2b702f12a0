"""A gallery without rows, and one of a few."""

import pytest

from tests.gallery.making import new_gallery, unit


@pytest.fixture
def empty(tmp_path):
    return new_gallery(tmp_path / "g")


@pytest.fixture
def gallery(empty):
    """Row ids 0 to 19 in two units; 12 is a reject."""
    units = [unit(empty.target, range(10)), unit(empty.target, range(10, 20), rejected=[12])]
    return empty.commit(units, run_id="first")
