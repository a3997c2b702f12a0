"""Search rows that are kept in memory, for one small set of queries after another, exactly.

`topk.search` codes the gallery for each search, which pays for many queries. Here the codes are
kept (see `held.rows`), so that a search of one query costs a pass over them, and the
scores of the few rows that they nominate.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.held.rows import HeldRows, HeldTiles
from pipeline.core.neighbors.heaps import push
from pipeline.core.neighbors.topk import TopK, best_first
from pipeline.core.products.kernels import read_only, score_at
from pipeline.core.products.masks import at_least, first_bit
from pipeline.core.products.tiles import reach

# Below this share of allowed rows, scoring them directly is faster than reading all codes.
_FEW = 1 / 16
# Enough for threads to end at about the same time.
_TURNS = 64
_ALL = np.empty(0, np.bool_)


class HeldPart(NamedTuple):
    """Some rows of a gallery, and the position int64 `[N]` of each in it."""

    rows: HeldRows
    positions: NDArray[np.int64]


def search_held(
    queries: NDArray[np.float32],
    parts: Sequence[HeldPart],
    k: int,
    *,
    run: Run,
    allowed: NDArray[np.bool_] | None = None,
) -> TopK:
    """The `k` best positions of every query `[Q, D]`, by the scores and the order of `topk.search`.

    Only positions that are `allowed` `[G]` are found. `run` spreads the blocks over its threads. If
    fewer than k rows are allowed, padding fills the lists (see `TopK`). Raise ValueError for k
    below 1, queries that are not finite, and queries of another dimension.

    >>> from pipeline.core.held.rows import hold
    >>> from pipeline.core.products.tiles import here
    >>> rows = np.eye(3, dtype=np.float32)
    >>> part = HeldPart(hold(rows), np.array([10, 11, 12]))
    >>> search_held(rows[1:2], [part], 2, run=here).rows
    array([[11, 10]])
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite")
    dimensions = {queries.shape[1], *(each.rows.features.shape[1] for each in parts)}
    if len(dimensions) > 1:
        raise ValueError(f"queries and rows have several dimensions: {sorted(dimensions)}")
    heaps = _Heaps(len(queries), k)
    if len(queries) == 0:
        return heaps.result()
    if allowed is not None and allowed.sum() < _FEW * len(allowed):
        work = _direct(queries, parts, allowed, heaps)
        run(work, blocks(len(parts), max(1, len(parts) // _TURNS)))
    else:
        tasks = [(part, block) for part in parts for block in range(part.rows.blocks)]
        if len(queries) * len(tasks):
            work = _by_tiles(queries, tasks, _ALL if allowed is None else allowed, heaps)
            run(work, blocks(len(tasks), max(1, len(tasks) // _TURNS)))
    return heaps.result()


class _Heaps:
    """The best rows that each thread has found."""

    def __init__(self, queries: int, k: int) -> None:
        self._shape, self._lock = (queries, k), threading.Lock()
        self._own = threading.local()
        self._all: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []

    def own(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The scores and positions `[Q, k]` of this thread."""
        if not hasattr(self._own, "heaps"):
            scores = np.full(self._shape, -np.inf, np.float32)
            self._own.heaps = scores, np.full(self._shape, -1, np.int64)
            with self._lock:
                self._all.append(self._own.heaps)
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = self._own.heaps
        return found

    def result(self) -> TopK:
        """The best of all threads."""
        if not self._all:
            return TopK.none(*self._shape)
        scores, rows = (np.concatenate(side, axis=1) for side in zip(*self._all, strict=True))
        return best_first(scores, rows, self._shape[1])


def _direct(
    queries: NDArray[np.float32],
    parts: Sequence[HeldPart],
    allowed: NDArray[np.bool_],
    heaps: _Heaps,
) -> Callable[[int, int], None]:
    """Scores every allowed row of some of the parts."""

    def work(start: int, stop: int) -> None:
        scores, rows = heaps.own()
        for part in parts[start:stop]:
            chosen = np.flatnonzero(allowed[part.positions])
            if len(chosen):
                _offer_rows(
                    read_only(queries), part.rows.address, chosen, part.positions, scores, rows
                )

    return work


def _by_tiles(
    queries: NDArray[np.float32],
    tasks: Sequence[tuple[HeldPart, int]],
    allowed: NDArray[np.bool_],
    heaps: _Heaps,
) -> Callable[[int, int], None]:
    """Scores the rows of some blocks that their tiles nominate."""
    asked, tiles = read_only(queries), HeldTiles.of(queries)

    def work(start: int, stop: int) -> None:
        scores, rows = heaps.own()
        for part, block in tasks[start:stop]:
            values, lines, columns, bounds = tiles.tile(part.rows, block)
            _offer_tile(
                values, lines, columns, bounds, asked, part.rows.address, part.positions, allowed,
                scores, rows,
            )  # fmt: skip

    return work


@njit(nogil=True, cache=True)
def _offer_rows(
    queries: NDArray[np.float32],
    address: int,
    chosen: NDArray[np.int64],
    positions: NDArray[np.int64],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    """Offer the `chosen` rows of the part at an address to the heaps of all queries."""
    dimension = queries.shape[1]
    first, size = queries.ctypes.data, 4 * dimension
    for j in chosen:
        for i in range(queries.shape[0]):
            value = score_at(first + size * i, address + size * j, dimension)
            if value >= scores[i, 0]:
                push(scores[i], rows[i], value, positions[j])


@njit(nogil=True, cache=True)
def _offer_tile(
    values: NDArray[Any],
    lines: NDArray[np.int64],
    columns: NDArray[np.int64],
    of_tile: tuple[float, float, float],
    queries: NDArray[np.float32],
    address: int,
    positions: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    """Offer the pairs of a tile `[Q, C]` that may beat the roots of the heaps.

    `lines` are the queries of its rows, `columns` the part's rows of its columns; the part's
    features lie at an address.
    """
    dimension, own = queries.shape[1], np.empty(1, values.dtype)
    first, size = queries.ctypes.data, 4 * dimension
    for r in range(values.shape[0]):
        line, i = values[r], lines[r]
        own[0] = reach(scores[i, 0], of_tile)
        for start in range(0, line.shape[0], 64):
            near = at_least(line, start, own[0])
            while near != 0:
                c = start + first_bit(near)
                near &= near - np.uint64(1)
                if line[c] < own[0]:
                    continue
                j = columns[c]
                position = positions[j]
                if allowed.shape[0] > 0 and not allowed[position]:
                    continue
                value = score_at(first + size * i, address + size * j, dimension)
                if value >= scores[i, 0]:
                    push(scores[i], rows[i], value, position)
                    own[0] = reach(scores[i, 0], of_tile)
