"""The k best other rows of every row of a set, exactly: the neighbor graph.

Similarity is symmetric, so only the tiles on and above the diagonal are computed, and each feeds
its rows and its columns. Tiles are products of int8 codes, which only nominate pairs: those that
`Codes.bound` cannot exclude get their `score`. Where the codes exclude too little (rows nearly
alike), tiles are float32 products. What is found is the same to the bit either way.
"""

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Product, Tiling, as_rows, blocks
from pipeline.core.kernels import at_least_either, first_bit, product_slack, score
from pipeline.core.quantize import LARGEST_SUM, Codes, can_code, fast, quantize
from pipeline.core.topk import TopK, best_first, push

Products = Literal["auto", "int8", "float32"]

# The share of a tile's pairs that codes may nominate before float32 products are the cheaper.
_WORTH_CODING = 1 / 8
_LONGEST_PAUSE = 64


def neighbors(
    features: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    tiling: Tiling | None = None,
    products: Products = "auto",
) -> TopK:
    """The `k` best other rows for every row of `features` `[N, D]`: exact, ties by row.

    Equal to `topk.search(features, features, k, self_offset=0)`, in less than half the time.
    Tiles are squares of the smaller of the tiling's blocks. `products` are of int8 codes or
    float32; `auto` takes int8 where the processor has instructions for it, and float32 for as long
    as codes nominate too many pairs. Memory is the features, a quarter of that for the codes,
    N x k, and a tile in each thread. ValueError names a row that is not finite or has length 0.

    >>> neighbors(np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32), 1).rows
    array([[1],
           [2],
           [1]])
    """
    rows = as_rows(features)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if products not in ("auto", "int8", "float32"):
        raise ValueError(f"products must be auto, int8 or float32, not {products!r}")
    if products == "int8" and not can_code(rows.dimension):
        raise ValueError(f"int8 products of {rows.dimension} dimensions are not exact here")
    tiling = tiling or Tiling()
    whole = rows.read(0, len(rows))
    size = min(tiling.query_block, tiling.gallery_block, max(1, len(whole)))
    count = -(-len(whole) // size)
    k = min(k, len(whole))
    found = _Heaps(
        np.full((len(whole), k), -np.inf, np.float32), np.full((len(whole), k), -1, np.int64)
    )
    with tiling.workers() as run:
        lengths = np.empty(len(whole), np.float64)
        run(lambda a, b: _lengths(whole[a:b], lengths[a:b]), blocks(len(whole), size))
        _check(lengths)
        coded = products == "int8" or (
            products == "auto" and count > 1 and fast() and can_code(rows.dimension)
        )
        codes = quantize(whole, size, run) if coded and count else None
        tiles = _Tiles(count)
        fold = _Fold(whole, lengths, size, codes, _Choice(codes is not None, products), found)

        def work(_start: int, _stop: int) -> None:
            tile = tiles.take()
            try:
                fold(*tile)
            finally:
                tiles.give_back(tile)

        run(work, blocks(count * (count + 1) // 2, 1))
    return best_first(found.scores, found.rows, k)


def _check(lengths: NDArray[np.float64]) -> None:
    # Between these lengths no score overflows, and what underflows is less than rounding is.
    wrong = np.flatnonzero(~((lengths >= 1e-18) & (lengths <= 1e18)))
    if len(wrong) == 0:
        return
    row, length = int(wrong[0]), float(lengths[wrong[0]])
    if not np.isfinite(length):
        raise ValueError(f"row {row} is not finite")
    if length == 0:
        raise ValueError(f"row {row} has length 0: it is like no other")
    raise ValueError(f"row {row} has length {length:.3g}: float32 cannot hold its scores")


@dataclass(frozen=True)
class _Heaps:
    """Of every row the k best others yet, `scores` and `rows` `[N, k]`, the worst one first."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


class _Tiles:
    """Hands out the tiles on and above the diagonal; no two that are out share a block.

    First the diagonal, then rounds in which each block meets one other (the circle method), so
    that the next tile in line is hardly ever one that must wait.
    """

    def __init__(self, count: int) -> None:
        line = [(x, x) for x in range(count)]
        circle = list(range(count + count % 2))
        for _ in range(len(circle) - 1):
            pairs = zip(circle[: len(circle) // 2], reversed(circle), strict=False)
            line += [(min(pair), max(pair)) for pair in pairs if max(pair) < count]
            circle = [circle[0], circle[-1], *circle[1:-1]]
        self._left = line[::-1]
        self._out: set[int] = set()
        self._changed = threading.Condition()

    def take(self) -> tuple[int, int]:
        """The next tile whose blocks are free; waits for one. As many calls as there are tiles."""
        with self._changed:
            while True:
                for place in range(len(self._left) - 1, -1, -1):
                    if self._out.isdisjoint(self._left[place]):
                        tile = self._left.pop(place)
                        self._out.update(tile)
                        return tile
                self._changed.wait()

    def give_back(self, tile: tuple[int, int]) -> None:
        """Free the blocks of `tile`."""
        with self._changed:
            self._out.difference_update(tile)
            self._changed.notify_all()


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

    def __init__(
        self,
        features: NDArray[np.float32],
        lengths: NDArray[np.float64],
        size: int,
        codes: Codes | None,
        choice: _Choice,
        found: _Heaps,
    ) -> None:
        self._features, self._lengths, self._size = features, lengths, size
        self._codes, self._choice, self._found = codes, choice, found
        self._product = Product()
        self._buffer = torch.empty(size * size if codes else 0, dtype=torch.int32)

    def __call__(self, x: int, y: int) -> None:
        """Fold the tile of block `x` and block `y`."""
        done = 0
        if self._codes is not None and self._choice.codes():
            done = self._fold_codes(x, y, self._codes)
        if done < len(self._places(x)):
            self._fold_floats(x, y, done)

    def _fold_codes(self, x: int, y: int, codes: Codes) -> int:
        """Fold a tile of codes as far as it pays; gives the rows that it came to."""
        tile = codes.product(x, y, self._buffer)
        # On the diagonal the heaps begin empty, which says nothing about the codes: no giving up.
        bounded = self._choice.free and x != y
        most = int(tile.size * _WORTH_CODING) if bounded else tile.size
        slack, per_unit = codes.bound(x, y), 1 / codes.unit(x, y)
        done = self._offer(tile, x, y, 0, slack, per_unit, float(LARGEST_SUM), most)
        self._choice.learn(paid=done == len(tile))
        return done

    def _fold_floats(self, x: int, y: int, done: int) -> None:
        rows, columns = self._places(x)[done:], self._places(y)
        tile = self._product(self._block(rows), self._block(columns))
        slack = product_slack(
            self._features.shape[1], self._lengths[rows].max(), self._lengths[columns].max()
        )
        self._offer(tile, x, y, done, float(slack), 1.0, np.inf, tile.size)

    def _offer(
        self,
        tile: NDArray[Any],
        x: int,
        y: int,
        done: int,
        slack: float,
        per_unit: float,
        limit: float,
        most: int,
    ) -> int:
        return _offer_tile(
            tile, self._places(x)[done:], self._places(y), x == y, self._features,
            slack, per_unit, limit, most, self._found.scores, self._found.rows,
        )  # fmt: skip

    def _places(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        start, stop = block * self._size, min((block + 1) * self._size, len(self._features))
        if self._codes is None:
            return np.arange(start, stop)
        return self._codes.order[start:stop]

    def _block(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._codes is None:
            return self._features[rows[0] : rows[-1] + 1]
        return self._features[rows]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _lengths(rows: NDArray[np.float32], out: NDArray[np.float64]) -> None:
    for i in range(rows.shape[0]):
        square = 0.0
        for t in range(rows.shape[1]):
            square += np.float64(rows[i, t]) * np.float64(rows[i, t])
        out[i] = np.sqrt(square)


@njit(nogil=True, inline="always")
def _threshold(worst: np.float32, slack: float, per_unit: float, limit: float) -> Any:
    """What a tile's value must reach to be near `worst`, the score that is to be beaten.

    Cut to a whole number, towards 0, it lets pass the same whole numbers, or one more.
    """
    return max(min((worst - slack) * per_unit, limit), -limit)


@njit(nogil=True, cache=True)
def _offer_tile(
    tile: NDArray[Any],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    diagonal: bool,
    features: NDArray[np.float32],
    slack: float,
    per_unit: float,
    limit: float,
    most: int,
    scores: NDArray[np.float32],
    found: NDArray[np.int64],
) -> int:
    """Offer the pairs of a tile to the heaps of both, until `most` have been scored.

    A value of the tile, in units of 1 / `per_unit`, lies within `slack` of the pair's score; only
    pairs that may reach the root of either heap get it. In a tile on the `diagonal`, only what lies
    above it counts. Gives the number of rows offered whole.
    """
    limits = np.empty(tile.shape[1], tile.dtype)
    own = np.empty(1, tile.dtype)
    for c in range(tile.shape[1]):
        limits[c] = _threshold(scores[columns[c], 0], slack, per_unit, limit)
    scored = 0
    for r in range(tile.shape[0]):
        if scored > most:
            return r
        line, i = tile[r], rows[r]
        own[0] = _threshold(scores[i, 0], slack, per_unit, limit)
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
                exact = score(features[i], features[j])
                scored += 1
                if for_row:
                    push(scores[i], found[i], exact, j)
                    own[0] = _threshold(scores[i, 0], slack, per_unit, limit)
                if for_column:
                    push(scores[j], found[j], exact, i)
                    limits[c] = _threshold(scores[j, 0], slack, per_unit, limit)
    return tile.shape[0]
