import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.neighbors import topk
from pipeline.stages.execution import Execution
from pipeline.stages.search import search_gallery
from tests.core.strategies import unit_rows
from tests.stages.making import Elsewhere

QUERIES, ROWS = unit_rows(5, 16), unit_rows(90, 16, seed=1, clusters=4)


def same(first, second):
    assert np.array_equal(first.rows, second.rows)
    assert np.array_equal(first.scores, second.scores)


@pytest.mark.parametrize("block", [1, 7, 90, 1000])
def test_parts_give_the_whole(block):
    done = []
    execution = Execution(tiling=Tiling(3, block), progress=lambda *_: done.append)
    found = search_gallery(ArrayRows(QUERIES), ArrayRows(ROWS), 6, execution=execution)
    same(found, topk.search(QUERIES, ROWS, 6))
    assert sum(done) == 90


def test_k_is_clipped_to_what_there_is():
    execution = Execution(tiling=Tiling(2, 2))
    found = search_gallery(ArrayRows(QUERIES), ArrayRows(ROWS[:4]), 10, execution=execution)
    assert found.rows.shape == (5, 4)
    assert (found.rows >= 0).all()


def test_workers_change_nothing():
    execution = Elsewhere(2, Tiling(3, 25))
    found = search_gallery(ArrayRows(QUERIES), ArrayRows(ROWS), 6, execution=execution)
    same(found, topk.search(QUERIES, ROWS, 6))
