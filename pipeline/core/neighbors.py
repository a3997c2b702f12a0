"""The k best rows for every row, exactly, of one set or between two: the neighbor graph.

Similarity is symmetric, so every pair is computed once, and each tile feeds its rows and its
columns. Tiles are products of int8 codes, which only nominate pairs: those that `Codes.bound`
cannot exclude get their `score`. Where the codes exclude too little (rows nearly alike), tiles are
float32 products. What is found is the same to the bit either way.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Product, Tiling, as_rows, blocks
from pipeline.core.kernels import at_least_either, first_bit, product_slack, score
from pipeline.core.quantize import LARGEST_SUM, Codes, Run, can_code, fast, quantize
from pipeline.core.topk import TopK, best_first, push

Products = Literal["auto", "int8", "float32"]

# The share of a tile's pairs that codes may nominate before float32 products are the cheaper.
_WORTH_CODING = 1 / 8
_LONGEST_PAUSE = 64
_SHORTEST_BLOCK = 16


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
    _check_settings(k, products, rows.dimension)
    tiling = tiling or Tiling()
    size = min(tiling.query_block, tiling.gallery_block, max(1, len(rows)))
    count = -(-len(rows) // size)
    with tiling.workers() as run:
        coded = _coded(products, rows.dimension, count * (count + 1) // 2)
        side = _side(rows, first_row, size, k, len(rows), known, coded, None, run)
        choice = _Choice(side.codes is not None, products)
        _run_fold(_Fold(side, side, opposite, choice), _Tiles(_triangle(count)), run)
    return side.found()


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
    _check_settings(k, products, one.dimension)
    tiling = tiling or Tiling()
    sizes = [_block_size(len(rows), tiling) for rows in (one, other)]
    counts = [-(-len(rows) // size) for rows, size in zip((one, other), sizes, strict=True)]
    with tiling.workers() as run:
        coded = _coded(products, one.dimension, counts[0] * counts[1])
        a = _side(one, first_row, sizes[0], k, len(other), known[0], coded, None, run)
        b = _side(other, second_row, sizes[1], k, len(one), known[1], coded, a.codes, run)
        choice = _Choice(a.codes is not None, products)
        fold = _Fold(a, b, opposite, choice)
        _run_fold(fold, _Tiles(_rectangle(*counts), apart=counts[0]), run)
    return a.found(), b.found()


def _check_settings(k: int, products: Products, dimension: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if products not in ("auto", "int8", "float32"):
        raise ValueError(f"products must be auto, int8 or float32, not {products!r}")
    if products == "int8" and not can_code(dimension):
        raise ValueError(f"int8 products of {dimension} dimensions are not exact here")


def _coded(products: Products, dimension: int, tiles: int) -> bool:
    """Whether rows are worth coding for that many tiles."""
    return products == "int8" or (
        products == "auto" and tiles > 1 and fast() and can_code(dimension)
    )


def _block_size(rows: int, tiling: Tiling) -> int:
    """Rows of a block of one side: a few blocks at least, as no two threads share one."""
    share = max(_SHORTEST_BLOCK, -(-rows // (2 * tiling.thread_count())))
    return min(tiling.query_block, tiling.gallery_block, share)


class _Ends(NamedTuple):
    """The rows `[N, D]` of one side of a tile, and of each the k best others yet, worst first."""

    features: NDArray[np.float32]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


class _Bound(NamedTuple):
    """A value of a tile, in units of 1 / `per_unit`, lies within `slack` of the pair's score."""

    slack: float
    per_unit: float
    limit: float
    """What thresholds are cut to."""


@dataclass(frozen=True)
class _Side:
    """One side of all tiles: its rows in blocks of `size`, by their codes' order where coded."""

    ends: _Ends
    lengths: NDArray[np.float64]
    size: int
    codes: Codes | None

    def places(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        start, stop = block * self.size, min((block + 1) * self.size, len(self.lengths))
        return np.arange(start, stop) if self.codes is None else self.codes.order[start:stop]

    def block(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of what `places` gave, or of a run of it."""
        if self.codes is None:
            return self.ends.features[places[0] : places[-1] + 1]
        return self.ends.features[places]

    def found(self) -> TopK:
        return best_first(self.ends.scores, self.ends.rows, self.ends.scores.shape[1])


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
) -> _Side:
    """Make a side that is to meet `others` rows; its codes go with those of `alike`."""
    whole = rows.read(0, len(rows))
    if known is not None and len(known) != len(whole):
        raise ValueError(f"known neighbours of {len(known)} rows do not go with {len(whole)} rows")
    lengths = np.empty(len(whole), np.float64)
    run(lambda a, b: _lengths(whole[a:b], lengths[a:b]), blocks(len(whole), size))
    numbers = np.arange(len(whole)) + first_row if isinstance(first_row, int) else first_row
    _check(lengths, numbers)
    k = min(k, others + (known.k if known else 0))
    scores = np.full((len(whole), k), -np.inf, np.float32)
    places = np.full((len(whole), k), -1, np.int64)
    if known:
        # Worst first, a sorted row is a heap.
        held = min(k, known.k)
        scores[:, k - held :] = known.scores[:, :held][:, ::-1]
        places[:, k - held :] = known.rows[:, :held][:, ::-1]
    codes = None
    if coded and len(whole):
        codes = quantize(whole, size, run, alike.rotated if alike else None)
    return _Side(_Ends(whole, numbers, scores, places), lengths, size, codes)


def _check(lengths: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
    # Between these lengths no score overflows, and what underflows is less than rounding is.
    wrong = np.flatnonzero(~((lengths >= 1e-18) & (lengths <= 1e18)))
    if len(wrong) == 0:
        return
    row, length = int(numbers[wrong[0]]), float(lengths[wrong[0]])
    if not np.isfinite(length):
        raise ValueError(f"row {row} is not finite")
    if length == 0:
        raise ValueError(f"row {row} has length 0: it is like no other")
    raise ValueError(f"row {row} has length {length:.3g}: float32 cannot hold its scores")


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


class _Choice:
    """Whether the next tile is of codes: not for a while after one that nominated too many pairs.

    Each such tile in a row doubles the pause: thresholds rise on the way, so codes come to pay.
    """

    def __init__(self, coded: bool, products: Products) -> None:
        self.free = products == "auto"
        self._coded = coded
        self._pause = self._left = 0
        self._lock = threading.Lock()

    def codes(self) -> bool:
        """Whether the next tile is of codes."""
        if not self._coded or not self.free:
            return self._coded
        with self._lock:
            self._left = max(0, self._left - 1)
            return self._left == 0

    def learn(self, paid: bool) -> None:
        """Take account of a tile of codes."""
        with self._lock:
            self._pause = 0 if paid else min(max(4, 2 * self._pause), _LONGEST_PAUSE)
            self._left = self._pause


class _Fold(threading.local):
    """Offers the pairs of one tile after another to the heaps of both rows."""

    def __init__(self, first: _Side, second: _Side, opposite: bool, choice: _Choice) -> None:
        self._first, self._second = first, second
        self._opposite, self._choice = opposite, choice
        self._product = Product()
        held = first.size * second.size if first.codes else 0
        self._buffer = torch.empty(held, dtype=torch.int32)

    def __call__(self, x: int, y: int) -> None:
        """Fold the tile of block `x` of the first side and block `y` of the second."""
        done = 0
        if self._first.codes and self._second.codes and self._choice.codes():
            done = self._fold_codes(x, y, self._first.codes, self._second.codes)
        if done < len(self._first.places(x)):
            self._fold_floats(x, y, done)

    def _on_diagonal(self, x: int, y: int) -> bool:
        return self._first is self._second and x == y

    def _fold_codes(self, x: int, y: int, first: Codes, second: Codes) -> int:
        """Fold a tile of codes as far as it pays; gives the rows that it came to."""
        tile = first.product(x, second, y, self._buffer, negated=self._opposite)
        # On the diagonal the heaps begin empty, which says nothing about the codes: no giving up.
        bounded = self._choice.free and not self._on_diagonal(x, y)
        most = int(tile.size * _WORTH_CODING) if bounded else tile.size
        bound = _Bound(first.bound(x, second, y), 1 / first.unit(x, second, y), float(LARGEST_SUM))
        done = self._offer(tile, x, y, 0, bound, most)
        self._choice.learn(paid=done == len(tile))
        return done

    def _fold_floats(self, x: int, y: int, done: int) -> None:
        rows, columns = self._first.places(x)[done:], self._second.places(y)
        block = self._first.block(rows)
        tile = self._product(-block if self._opposite else block, self._second.block(columns))
        slack = product_slack(
            block.shape[1], self._first.lengths[rows].max(), self._second.lengths[columns].max()
        )
        self._offer(tile, x, y, done, _Bound(float(slack), 1.0, np.inf), tile.size)

    def _offer(
        self, tile: NDArray[Any], x: int, y: int, done: int, bound: _Bound, most: int
    ) -> int:
        rows, columns = self._first.places(x)[done:], self._second.places(y)
        return _offer_tile(
            tile, rows, columns, self._on_diagonal(x, y), self._opposite, bound, most,
            self._first.ends, self._second.ends,
        )  # fmt: skip


def _run_fold(fold: _Fold, tiles: _Tiles, run: Run) -> None:
    def work(_start: int, _stop: int) -> None:
        tile = tiles.take()
        try:
            fold(*tile)
        finally:
            tiles.give_back(tile)

    run(work, blocks(len(tiles), 1))


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _lengths(rows: NDArray[np.float32], out: NDArray[np.float64]) -> None:
    for i in range(rows.shape[0]):
        square = 0.0
        for t in range(rows.shape[1]):
            square += np.float64(rows[i, t]) * np.float64(rows[i, t])
        out[i] = np.sqrt(square)


@njit(nogil=True, inline="always")
def _threshold(worst: np.float32, bound: _Bound) -> Any:
    """What a tile's value must reach to be near `worst`, the score that is to be beaten.

    Cut to a whole number, towards 0, it lets pass the same whole numbers, or one more.
    """
    return max(min((worst - bound.slack) * bound.per_unit, bound.limit), -bound.limit)


@njit(nogil=True, cache=True)
def _offer_tile(
    tile: NDArray[Any],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    diagonal: bool,
    opposite: bool,
    bound: _Bound,
    most: int,
    first: _Ends,
    second: _Ends,
) -> int:
    """Offer the pairs of a tile to the heaps of both, until `most` have been scored.

    Only pairs that may reach the root of either heap get their `score`. In a tile on the
    `diagonal`, only what lies above it counts. Gives the number of rows offered whole.
    """
    limits = np.empty(tile.shape[1], tile.dtype)
    own = np.empty(1, tile.dtype)
    for c in range(tile.shape[1]):
        limits[c] = _threshold(second.scores[columns[c], 0], bound)
    scored = 0
    for r in range(tile.shape[0]):
        if scored > most:
            return r
        line, i = tile[r], rows[r]
        own[0] = _threshold(first.scores[i, 0], bound)
        itself = r if diagonal else -1
        for start in range((itself + 1) // 64 * 64, tile.shape[1], 64):
            near = at_least_either(line, start, own[0], limits)
            if start <= itself:
                near &= ~((np.uint64(2) << np.uint64(itself - start)) - np.uint64(1))
            while near != 0:
                c = start + first_bit(near)
                near &= near - np.uint64(1)
                for_row, for_column = line[c] >= own[0], line[c] >= limits[c]
                if not (for_row or for_column):
                    continue
                j = columns[c]
                exact = score(first.features[i], second.features[j])
                if opposite:
                    exact = np.float32(0) - exact  # and no -0
                scored += 1
                if for_row:
                    push(first.scores[i], first.rows[i], exact, second.numbers[j])
                    own[0] = _threshold(first.scores[i, 0], bound)
                if for_column:
                    push(second.scores[j], second.rows[j], exact, first.numbers[i])
                    limits[c] = _threshold(second.scores[j, 0], bound)
    return tile.shape[0]
