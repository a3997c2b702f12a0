import threading

import pytest

from pipeline.core.blocks import ArrayRows, Tiling, blocks
from pipeline.core.sweep import make_ahead, sweep
from tests.core.strategies import unit_rows


class ToldRows(ArrayRows):
    """Rows that tell when they are read, and cannot be from row 8 on."""

    def read(self, start, stop):
        self.__dict__.setdefault("reads", []).append(start)
        if stop > 8:
            raise OSError("row 8 cannot be read")
        return super().read(start, stop)


def test_the_next_run_is_read_while_one_is_in_hand():
    rows = ToldRows(unit_rows(12, 2))
    runs = make_ahead(rows.read, blocks(8, 3))
    start, stop, held = next(runs)
    assert (start, stop, held.tolist()) == (0, 3, rows.array[:3].tolist())
    left = list(runs)
    assert [(start, stop) for start, stop, _ in left] == [(3, 6), (6, 8)]
    assert left[0][2].tolist() == rows.array[3:6].tolist()
    assert rows.reads == [0, 3, 6]
    assert list(make_ahead(rows.read, blocks(0, 3))) == []


def test_what_cannot_be_read_ahead_is_told_in_its_turn():
    runs = make_ahead(ToldRows(unit_rows(12, 2)).read, blocks(12, 4))
    assert [next(runs)[0], next(runs)[0]] == [0, 4]
    with pytest.raises(OSError, match="row 8 cannot be read"):
        next(runs)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "queries", "size"), [(10, 7, 2), (1, 1, 5), (0, 3, 2), (6, 0, 2)])
def test_a_sweep_takes_every_pair_of_blocks_once_in_the_order_of_the_gallery(
    rows, queries, size, threads
):
    met, entered, in_hand = [], [], []

    def enter(start, stop, made):
        assert not in_hand  # no query block of the last gallery block is still being taken
        entered.append((start, stop, made))
        return start

    def take(start, a, b):
        in_hand.append(start)
        met.append((start, a, b, threading.get_ident()))
        in_hand.remove(start)

    gallery = list(blocks(rows, 4))
    with Tiling(threads=threads).workers() as run:
        sweep(gallery, lambda a, b: b - a, enter, (queries, size), take, run)
    assert entered == [(a, b, b - a) for a, b in gallery]
    pairs = [(start, a, b) for start, _ in gallery for a, b in blocks(queries, size)]
    assert sorted(each[:3] for each in met) == pairs
    assert [each[0] for each in met] == sorted(each[0] for each in met)
    assert threading.get_ident() not in {each[3] for each in met}


def test_what_a_part_of_a_sweep_raises_ends_it():
    def take(start, a, _b):
        if (start, a) == (4, 2):
            raise ArithmeticError("block 4, query 2")

    with Tiling(threads=2).workers() as run, pytest.raises(ArithmeticError, match="block 4"):
        sweep(blocks(9, 4), lambda a, b: None, lambda a, b, _: a, (3, 1), take, run)
