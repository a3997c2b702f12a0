import numpy as np

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.row_hashes import row_signatures
from tests.core.strategies import unit_rows


def test_one_bit_of_one_number_changes_a_signature():
    rows = unit_rows(64, 33)
    before = row_signatures(ArrayRows(rows))
    changed = rows.copy()
    changed.view(np.uint32)[np.arange(64), np.arange(64) % 33] ^= 1
    assert (row_signatures(ArrayRows(changed)) != before).all()
    assert len(np.unique(before)) == 64


def test_order_within_a_row_counts_and_that_of_the_rows_does_not():
    rows = unit_rows(20, 8)
    before = row_signatures(ArrayRows(rows))
    assert (row_signatures(ArrayRows(rows[::-1])) == before[::-1]).all()
    assert (row_signatures(ArrayRows(rows[:, ::-1])) != before).all()


def test_blocks_and_threads_change_nothing():
    rows = ArrayRows(unit_rows(50, 8))
    found = row_signatures(rows, at_once=7, tiling=Tiling(threads=2))
    assert (found == row_signatures(rows)).all()
