import threading

import numpy as np
import pytest
import torch

from pipeline.core.blocks import (
    ArrayRows,
    StackedRows,
    Tiling,
    alone,
    blocks,
    empty_rows,
    on_lines,
)
from tests.core.strategies import unit_rows


def test_blocks_cover_every_row_once():
    for length in range(9):
        for size in range(1, 11):
            rows = [row for start, stop in blocks(length, size) for row in range(start, stop)]
            assert rows == list(range(length))
    assert list(blocks(9, 4, first=3)) == [(3, 7), (7, 9)]


def test_an_error_in_a_thread_reaches_the_caller():
    def work(start, stop):
        raise RuntimeError(f"block {start}")

    with pytest.raises(RuntimeError, match="block 0"), Tiling(threads=2).workers() as run:
        run(work, blocks(4, 2))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_block_is_worked_on_once_and_after_an_error_none_begins(threads):
    met, last_failed = [], threading.Event()

    def work(start, _stop):
        met.append(start)
        if start not in wrong:
            return
        if start == max(wrong):
            last_failed.set()
        elif threads > 1:
            last_failed.wait(20)  # the first block that fails is not the first to fail
        raise RuntimeError(f"block {start}")

    with Tiling(threads=threads).workers() as run:
        for count in 0, 1, 5, 100:
            wrong = set()
            run(work, blocks(count, 1))
            assert sorted(met) == list(range(count))
            met.clear()
        wrong = {3, 4}
        with pytest.raises(RuntimeError, match="block 3"):
            run(work, blocks(10_000, 1))
        assert len(met) < 10_000
        met.clear()
        run(work, [(5, 6)])  # the threads live on
        assert met == [5]


def test_stacked_rows_cross_the_edge():
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    union = StackedRows(ArrayRows(x[:4]), ArrayRows(x[4:]))
    for start in range(11):
        for stop in range(start, 11):
            assert (union.read(start, stop) == x[start:stop]).all()


@pytest.mark.parametrize("shape", [(5, 16), (5, 7), (1, 1)])
def test_rows_on_lines_begin_where_a_cache_line_does(shape):
    for _ in range(3):
        rows = empty_rows(*shape)
        assert rows.shape == shape
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        assert rows.ctypes.data % 64 == 0
        rows[:] = unit_rows(*shape)
        assert on_lines(rows) is rows
        for elsewhere in (np.concatenate([rows, rows])[1:], rows[::-1], np.asfortranarray(rows)):
            copied = on_lines(elsewhere)
            assert copied.ctypes.data % 64 == 0
            assert copied.flags.c_contiguous
            assert (copied == elsewhere).all()
    assert on_lines(empty_rows(0, 512)).shape == (0, 512)


def test_tiles_of_a_gpu_are_large_and_few():
    wide = Tiling(10, 20, threads=64, gpus=0.5).for_gpu()
    assert wide == Tiling(80, 160, threads=8, gpus=0.5)
    flat = Tiling(10, 20, threads=64, gpus=0.5).flat_for_gpu()
    assert flat == Tiling(40, 160, threads=8, gpus=0.5)
    assert Tiling(1, 99).flat_for_gpu().query_block == 1
    for huge in (Tiling(2**20, 2**20), Tiling(2**20, 2**40), Tiling(1, 2**40)):
        assert huge.for_gpu().tile ** 2 < 2**31
        flat = huge.flat_for_gpu()
        assert flat.query_block * flat.gallery_block < 2**31
    assert Tiling(threads=2, gpus=1).for_gpu().threads == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_block": 0}, "at least one row"),
        ({"gallery_block": 0}, "at least one row"),
        ({"threads": -1}, "threads must be"),
    ],
)
def test_wrong_tilings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Tiling(**settings)


def test_some_of_the_stacked_sets_may_be_empty():
    sets = [ArrayRows(np.full((count, 4), count, np.float32)) for count in (0, 3, 0, 1)]
    rows = StackedRows(*sets)
    assert rows.read(0, 4)[:, 0].tolist() == [3, 3, 3, 1]
    assert rows.read(2, 2).shape == (0, 4)
    assert rows.take(np.array([3, 0]))[:, 0].tolist() == [1, 3]


def test_wrong_rows_are_told():
    with pytest.raises(ValueError, match="matrix"):
        ArrayRows(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="float32"):
        ArrayRows(np.ones((3, 2)))
    with pytest.raises(ValueError, match="cannot be stacked"):
        StackedRows(ArrayRows(np.ones((1, 2), np.float32)), ArrayRows(np.ones((1, 3), np.float32)))
    with pytest.raises(ValueError, match="features of no dimensions cannot be stacked"):
        StackedRows()


def test_what_runs_alone_has_one_thread_for_its_linear_algebra():
    with Tiling(threads=2).workers() as run:
        assert alone(run, torch.get_num_threads) == 1
        assert alone(run, threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            alone(run, lambda: 1 / 0)
