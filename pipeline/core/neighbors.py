"""The k best rows for every row, exactly, of one set or between two: the neighbor graph.

Similarity is symmetric, so every pair is computed once, and each tile feeds its rows and its
columns. Tiles are products of int8 codes, which only nominate pairs: those that `Codes.bound`
cannot exclude get their `score`. Where the codes exclude too little (rows nearly alike), tiles are
float32 products. What is found is the same to the bit either way.
"""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.kernels import at_least_either, first_bit, score
from pipeline.core.quantize import Codes, Run
from pipeline.core.tiles import Fold, Products, Side, Tile, make_side, take_codes, threshold
from pipeline.core.topk import TopK, best_first, prime, push

_SHORTEST = 1e-18
"""No score of rows that are longer underflows."""

_STRIP = 16
"""Rows of a tile that meet one run of 64 columns after another, so that both stay in the cache. It
divides 64, so that the diagonal crosses a strip in one run.
"""


def neighbors(
    features: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    first_row: int | NDArray[np.int64] = 0,
    opposite: bool = False,
    known: TopK | None = None,
    tiling: Tiling | None = None,
    products: Products = "auto",
) -> TopK:
    """The `k` best other rows for every row of `features` `[N, D]`: exact, ties by row.

    Equal to `topk.search(features, features, k, self_offset=0)`, in less than half the time.
    `first_row` is the number of the first row, where the features are part of a set, or the numbers
    `[N]` of all. Where they are `opposite`, the least similar rows are found: scores are those with
    the other row negated. What is `known`, neighbours among rows outside the features, takes part.

    Tiles are squares of the smaller of the tiling's blocks. `products` are of int8 codes or
    float32; `auto` takes int8 where the processor has instructions for it, and float32 for as long
    as codes nominate too many pairs. Memory is the features, a quarter of that for the codes,
    N x k, and a tile in each thread. ValueError names a row that is not finite or has length 0.

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> neighbors(x, 1).rows.ravel(), neighbors(x, 1, opposite=True).rows.ravel()
    (array([1, 2, 1]), array([2, 0, 0]))
    """
    rows = as_rows(features)
    coded = take_codes(products, rows.dimension, len(rows) ** 2 // 2, len(rows))
    tiling = tiling or Tiling()
    size = min(tiling.tile, max(1, len(rows)))
    with tiling.workers() as run:
        side, ends = _side(rows, first_row, size, k, len(rows), known, coded, None, run)
        fold = Fold(products, opposite=opposite)

        def work(x: int, y: int) -> None:
            def offer(tile: Tile) -> int:
                if x == y:
                    prime(tile, ends.scores)
                return _offer_tile(tile, ends, ends, x == y, opposite)

            # On the diagonal the heaps begin empty, which says nothing about the codes.
            fold(side, x, side, y, offer, patient=x == y)

        _run_tiles(work, _Tiles(_triangle(len(side))), run)
    return _found(ends)


def between(
    first: NDArray[np.float32] | FeatureRows,
    second: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    first_row: int | NDArray[np.int64] = 0,
    second_row: int | NDArray[np.int64] = 0,
    opposite: bool = False,
    known: tuple[TopK | None, TopK | None] = (None, None),
    tiling: Tiling | None = None,
    products: Products = "auto",
) -> tuple[TopK, TopK]:
    """The `k` best rows of `second` `[M, D]` for every row of `first` `[N, D]`, and the reverse.

    Equal to two calls of `topk.search`, in less than half the time of one: each tile feeds both.
    `first_row` and `second_row` are the numbers of their first rows in the set that both are part
    of, or of all their rows. With `neighbors` of each part and `topk.merge`, this makes up the
    neighbours of the whole set. What is `known` of either side, neighbours that are not in the
    other one, takes part; rows of which much is known cost little more than the products. The rest
    is as in `neighbors`.

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> there, back = between(x[:1], x[1:], 1, second_row=1)
    >>> there.rows.ravel(), back.rows.ravel()
    (array([1]), array([0, 0]))
    """
    one, other = as_rows(first), as_rows(second)
    if one.dimension != other.dimension:
        raise ValueError(f"rows of {one.dimension} and {other.dimension} dimensions do not compare")
    coded = take_codes(products, one.dimension, len(one) * len(other), len(one) + len(other))
    tiling = tiling or Tiling()
    with tiling.workers() as run:
        a, first_ends = _side(
            one, first_row, tiling.even_block(len(one)), k, len(other), known[0], coded, None, run
        )
        b, second_ends = _side(
            other, second_row, tiling.even_block(len(other)), k, len(one), known[1], coded, a.codes,
            run,
        )  # fmt: skip
        fold = Fold(products, opposite=opposite)

        def offer(tile: Tile) -> int:
            return _offer_tile(tile, first_ends, second_ends, False, opposite)

        tiles = _Tiles(_rectangle(len(a), len(b)), apart=len(a))
        _run_tiles(lambda x, y: fold(a, x, b, y, offer), tiles, run)
    return _found(first_ends), _found(second_ends)


class _Ends(NamedTuple):
    """The rows `[N, D]` of one side of a tile, and of each the k best others yet, worst first."""

    features: NDArray[np.float32]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


def _side(
    rows: FeatureRows,
    first_row: int | NDArray[np.int64],
    size: int,
    k: int,
    others: int,
    known: TopK | None,
    coded: bool,
    alike: Codes | None,
    run: Run,
) -> tuple[Side, _Ends]:
    """Make a side that is to meet `others` rows; its codes go with those of `alike`."""
    count = len(rows)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if known is not None and len(known) != count:
        raise ValueError(f"known neighbours of {len(known)} rows do not go with {count} rows")
    numbers = np.arange(count) + first_row if isinstance(first_row, int) else first_row
    whole = rows.read(0, count)
    side = make_side(
        whole, size, run,
        name="row", numbers=numbers, shortest=_SHORTEST, coded=coded, alike=alike,
    )  # fmt: skip
    k = min(k, others + (known.k if known else 0))
    scores = np.full((count, k), -np.inf, np.float32)
    found = np.full((count, k), -1, np.int64)
    if known:
        # Worst first, a sorted row is a heap.
        held = min(k, known.k)
        scores[:, k - held :] = known.scores[:, :held][:, ::-1]
        found[:, k - held :] = known.rows[:, :held][:, ::-1]
    return side, _Ends(whole, numbers, scores, found)


def _found(ends: _Ends) -> TopK:
    return best_first(ends.scores, ends.rows, ends.scores.shape[1])


def _triangle(count: int) -> list[tuple[int, int]]:
    """The tiles on and above the diagonal of a square of `count` x `count` blocks.

    First the diagonal, then rounds in which each block meets one other (the circle method), so
    that the next tile in line is hardly ever one that must wait.
    """
    line = [(x, x) for x in range(count)]
    circle = list(range(count + count % 2))
    for _ in range(len(circle) - 1):
        pairs = zip(circle[: len(circle) // 2], reversed(circle), strict=False)
        line += [(min(pair), max(pair)) for pair in pairs if max(pair) < count]
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return line


def _rectangle(rows: int, columns: int) -> list[tuple[int, int]]:
    """All tiles of `rows` x `columns` blocks, in rounds that use no block twice."""
    if rows > columns:
        return [(x, y) for y, x in _rectangle(columns, rows)]
    return [(x, (x + turn) % columns) for turn in range(columns) for x in range(rows)]


class _Tiles:
    """Hands out the tiles of `line`; no two that are out share a block.

    Rows and columns are blocks of one set, or of two: then `apart` is the number of the first's.
    """

    def __init__(self, line: Iterable[tuple[int, int]], apart: int = 0) -> None:
        self._left = list(line)[::-1]
        self._apart = apart
        self._out: set[int] = set()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> tuple[int, int]:
        """The next tile whose blocks are free; waits for one. As many calls as there are tiles."""
        with self._changed:
            while True:
                for place in range(len(self._left) - 1, -1, -1):
                    if self._out.isdisjoint(self._blocks(self._left[place])):
                        tile = self._left.pop(place)
                        self._out.update(self._blocks(tile))
                        return tile
                self._changed.wait()

    def give_back(self, tile: tuple[int, int]) -> None:
        """Free the blocks of `tile`."""
        with self._changed:
            self._out.difference_update(self._blocks(tile))
            self._changed.notify_all()

    def _blocks(self, tile: tuple[int, int]) -> tuple[int, int]:
        return tile[0], tile[1] + self._apart


def _run_tiles(work: Callable[[int, int], None], tiles: _Tiles, run: Run) -> None:
    def take_one(_start: int, _stop: int) -> None:
        tile = tiles.take()
        try:
            work(*tile)
        finally:
            tiles.give_back(tile)

    run(take_one, blocks(len(tiles), 1))


@njit(nogil=True, cache=True)
def _offer_tile(tile: Tile, first: _Ends, second: _Ends, diagonal: bool, opposite: bool) -> int:
    """Offer the pairs of a tile to the heaps of both ends, or some; gives the rows offered whole.

    Only pairs that may reach the root of either heap get their `score`. In a tile on the
    `diagonal`, only what lies above it counts.
    """
    height, width = tile.values.shape
    limits, own = np.empty(width, tile.values.dtype), np.empty(_STRIP, tile.values.dtype)
    for c in range(width):
        limits[c] = threshold(second.scores[tile.columns[c], 0], tile)
    scored = 0
    for top in range(0, height, _STRIP):
        if scored > tile.most:
            return top
        bottom = min(top + _STRIP, height)
        for r in range(top, bottom):
            own[r - top] = threshold(first.scores[tile.rows[r], 0], tile)
        for start in range(top // 64 * 64 if diagonal else 0, width, 64):
            for r in range(top, bottom):
                line, i = tile.values[r], tile.rows[r]
                near = at_least_either(line, start, own[r - top], limits)
                if diagonal and start <= r:
                    near &= ~((np.uint64(2) << np.uint64(r - start)) - np.uint64(1))
                while near != 0:
                    c = start + first_bit(near)
                    near &= near - np.uint64(1)
                    for_row, for_column = line[c] >= own[r - top], line[c] >= limits[c]
                    if not (for_row or for_column):
                        continue
                    j = tile.columns[c]
                    exact = score(first.features[i], second.features[j])
                    if opposite:
                        exact = np.float32(0) - exact  # and no -0
                    scored += 1
                    if for_row:
                        push(first.scores[i], first.rows[i], exact, second.numbers[j])
                        own[r - top] = threshold(first.scores[i, 0], tile)
                    if for_column:
                        push(second.scores[j], second.rows[j], exact, first.numbers[i])
                        limits[c] = threshold(second.scores[j, 0], tile)
    return height
