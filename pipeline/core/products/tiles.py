"""Tiles of near scores: products of int8 codes where they exclude enough, else of float32.

Codes are of all dimensions, or of the leading principal ones (see `principal`), whichever leaves
fewer to do. On a GPU tiles are of float16, and stay there (see `halves`).

A tile only nominates pairs. It says how far a value may lie from the pair's `score`, so what is
found is the same to the bit whichever products it is of.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Blocks, Run, Tiling, blocks
from pipeline.core.ledger import Account, Ledger
from pipeline.core.processor import has_avx2
from pipeline.core.products.float_products import Product
from pipeline.core.products.half_rows import Halves, gpu_or_cpu, halve
from pipeline.core.products.int8_codes import (
    LARGEST_SUM,
    Codes,
    can_code,
    fast,
    quantize,
    quantize_words,
    room,
)
from pipeline.core.products.kernels import lengths, product_slack
from pipeline.core.products.principal import Axes, may_project, project

Products = Literal["auto", "principal", "int8", "float32", "float16"]
"""What tiles are products of; `auto` takes whichever is the fastest here, tile by tile: int8 of the
leading principal dimensions or of all, or float32 on the CPU, and float16 where there is a GPU.
"""

# The share of a tile's pairs that codes may nominate before float32 products are the cheaper.
_WORTH_CODING = 1 / 8
# The share that codes of the leading dimensions may nominate before those of all are the cheaper.
_WORTH_LEADING = 1 / 8
# How many rows a row must meet for its coding to pay.
_WORTH_MEETING = 256
_LONGEST_PAUSE = 64
# So few dimensions are sooner multiplied in 16 bits than what 8 bits leave open is scored.
_FEW_DIMENSIONS = 128
_NO_TAILS = np.empty(0, np.float32)


class Tile(NamedTuple):
    """Near scores of some rows of one side and some of another, at their places `rows`, `columns`.

    Each of `values` `[R, C]`, in units of 1 / `per_unit`, is no more than `slack` below the pair's
    score; and no more than `slack` above it, and twice the product of `row_tails` `[R]` and
    `column_tails` `[C]` where there are any. Thresholds are cut to `limit`. Who takes the tile
    gives up once `most` pairs have been scored.
    """

    values: NDArray[Any]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    slack: float
    per_unit: float
    limit: float
    most: int
    row_tails: NDArray[np.float32]
    column_tails: NDArray[np.float32]


Offer = Callable[[Tile], tuple[int, int]]
"""Takes a tile; gives the number of rows that it took whole, and of pairs that it scored."""

_NO_END = 2**62


@dataclass(frozen=True)
class Leading:
    """The rows of a side by their projections on the first `count` of some `axes`.

    `codes` are of `[N, count + 1]`: the projections and the `tails` `[N]` of `principal.project`.
    """

    axes: Axes
    count: int
    codes: Codes
    tails: NDArray[np.float32]

    def bound(self, x: int, other: "Leading", y: int) -> float:
        """How far a product of codes of block `x` and block `y` of `other` may be below the pair's
        `score`; and above it, but for the product of the tails, twice."""
        # A row with its tail is no shorter than the row.
        longest = self.codes.length[x], other.codes.length[y]
        of_score = product_slack(self.axes.directions.shape[1], *longest) / 2
        of_projections = self.axes.slack(self.count) * longest[0] * longest[1]
        return float(self.codes.bound(x, other.codes, y) + of_projections + of_score)


class Side:
    """One side of tiles: rows `[N, D]`, in blocks of `size`, in an `order` once they are coded.

    Where they are on a GPU as `halves` there are no codes. `codes` are made when first asked for,
    if the side may be `coded`; `leading` is set where codes of fewer dimensions are to come first.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        lengths: NDArray[np.float64],
        size: int,
        *,
        coded: bool = False,
        order: NDArray[np.int64] | None = None,
        halves: Halves | None = None,
    ) -> None:
        self.features, self.lengths, self.size = features, lengths, size
        self.coded, self.order, self.halves = coded and len(features) > 0, order, halves
        self.leading: Leading | None = None
        self._codes: Codes | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Blocks."""
        return -(-len(self.features) // self.size)

    def places(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        start, stop = block * self.size, min((block + 1) * self.size, len(self.features))
        return np.arange(start, stop) if self.order is None else self.order[start:stop]

    def block(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features at what `places` gave, or at a run of it."""
        if self.order is None:
            return self.features[places[0] : places[-1] + 1]
        return self.features[places]

    def codes(self, run: Run, alike: Codes | None = None) -> Codes:
        """The codes of all dimensions, made by `run` when first asked for, to go with `alike`."""
        with self._lock:
            if self._codes is None:
                rotate = alike.rotated if alike else None
                self._codes = quantize(self.features, self.size, run, rotate, order=self.order)
                self.order = self._codes.order
            return self._codes

    def lead(self, axes: Axes, count: int, run: Run) -> None:
        """Have codes of the first `count` principal dimensions come first; none where that is 0.

        Nor where the rows are too short or too long for that.
        """
        if not count or not self.coded or not may_project(self.lengths):
            self.leading = None
            return
        rows = project(self.features, self.lengths, axes, count, run, self.size)
        tails = rows[:, count].copy()
        if in_words(count):
            codes = quantize_words(rows, self.size, run, order=self.order)
        else:
            codes = quantize(rows, self.size, run, True, order=self.order)
        self.order = codes.order
        self.leading = Leading(axes, count, codes, tails)


def in_words(count: int) -> bool:
    """Whether so many leading dimensions are coded in 16 bits."""
    return has_avx2() and count < _FEW_DIMENSIONS


def here(work: Callable[[int, int], None], runs: Blocks) -> None:
    """Run blocks in this thread, one after another."""
    for start, stop in runs:
        work(start, stop)


def make_side(
    features: NDArray[np.float32],
    size: int,
    run: Run,
    *,
    name: str,
    numbers: NDArray[np.int64],
    shortest: float = 0,
    coded: bool = False,
    in_order: bool = False,
    device: str | None = None,
) -> Side:
    """Cut rows in blocks of `size`; they may be coded where asked.

    Codes put rows together that are alike, unless they are to stay `in_order`. Where a `device` is
    named, rows go there in float16 instead.

    ValueError tells the `name` and, of `numbers` `[N]`, the number of a row that is not finite,
    shorter than `shortest`, or too long for float32 to hold its scores.
    """
    found = np.empty(len(features), np.float64)
    run(lambda a, b: lengths(features[a:b], found[a:b]), blocks(len(features), size))
    # Between these lengths no score overflows; the slack covers those that underflow.
    wrong = np.flatnonzero(~((found >= shortest) & (found <= 1e18)))
    if len(wrong):
        row, length = f"{name} {numbers[wrong[0]]}", found[wrong[0]]
        if not np.isfinite(length):
            raise ValueError(f"{row} is not finite")
        if length == 0:
            raise ValueError(f"{row} has length 0: it is like no other")
        raise ValueError(f"{row} has length {length:.3g}: float32 cannot hold its scores")
    if device is not None:
        return Side(features, found, size, halves=halve(features, size, device, run))
    order = np.arange(len(features)) if in_order else None
    return Side(features, found, size, coded=coded, order=order)


def take_device(products: Products, tiling: Tiling) -> str | None:
    """The device of float16 products; None where products are to be made on the CPU.

    ValueError where `products` are none.
    """
    if products not in ("auto", "principal", "int8", "float32", "float16"):
        raise ValueError(
            f"products must be auto, principal, int8, float32 or float16, not {products!r}"
        )
    on_gpu = products == "float16" or (products == "auto" and tiling.gpus > 0)
    return gpu_or_cpu() if on_gpu else None


def take_codes(products: Products, dimension: int, pairs: int, rows: int) -> bool:
    """Whether that many `rows` are to be coded for that many `pairs` of them.

    ValueError where `products` are none of the CPU's, or codes are asked for and not to be had.
    """
    if products not in ("auto", "principal", "int8", "float32"):
        raise ValueError(f"products must be auto, principal, int8 or float32, not {products!r}")
    if products in ("int8", "principal") and not can_code(dimension):
        raise ValueError(f"int8 products of {dimension} dimensions are not exact here")
    if products == "auto":
        return pairs >= _WORTH_MEETING * max(1, rows) and fast() and can_code(dimension)
    return products != "float32"


class _Choice:
    """Whether the next tile is of codes: not for a while after one that nominated too many pairs.

    Each such tile in a row doubles the pause: thresholds rise on the way, so codes come to pay.
    """

    def __init__(self) -> None:
        self._pause = self._left = 0
        self._lock = threading.Lock()

    def codes(self) -> bool:
        """Whether the next tile is of codes."""
        with self._lock:
            self._left = max(0, self._left - 1)
            return self._left == 0

    def learn(self, paid: bool) -> None:
        """Take account of a tile of codes."""
        with self._lock:
            self._pause = 0 if paid else min(max(4, 2 * self._pause), _LONGEST_PAUSE)
            self._left = self._pause


class Fold(threading.local):
    """Offers tiles of two sides, each thread from its own buffers.

    Where the products are for the fold to choose, `choices` are made one for each block of the
    first side, or a single one for all: what a tile of codes nominates decides for those that
    follow. The `ledger` is told what was done.
    """

    def __init__(self, products: Products, choices: int = 1, ledger: Ledger | None = None) -> None:
        self._free = products == "auto"
        self._choices = [(_Choice(), _Choice()) for _ in range(choices)]
        self._product = Product()
        self._buffer = np.empty(0, np.int32)
        self._ledger = ledger or Ledger()

    def __call__(
        self, first: Side, x: int, second: Side, y: int, offer: Offer, *, patient: bool = False
    ) -> None:
        """Offer the tile of block `x` of `first` and block `y` of `second`.

        A `patient` one is not given up: what it nominates says nothing about the codes.
        """
        done, rows = 0, len(first.places(x))
        bounded = self._free and not patient
        of_leading, of_codes = self._choices[x % len(self._choices)]
        a, b = first.leading, second.leading
        if a and b and a.count == b.count and (not self._free or of_leading.codes()):
            done = self._leading(a, first, x, b, second, y, offer, bounded)
            of_leading.learn(paid=done == rows)
        if done < rows and first.coded and second.coded and (not self._free or of_codes.codes()):
            taken = self._codes(first, x, second, y, done, offer, bounded)
            of_codes.learn(paid=done + taken == rows)
            done += taken
        if done < rows:
            self._floats(first, x, second, y, done, offer)

    def _leading(
        self,
        a: Leading,
        first: Side,
        x: int,
        b: Leading,
        second: Side,
        y: int,
        offer: Offer,
        bounded: bool,
    ) -> int:
        """Offer a tile of the leading dimensions, as far as it pays if `bounded`; gives the rows
        that it came to."""
        values = self._multiply(a.codes, x, b.codes, y)
        rows, columns = first.places(x), second.places(y)
        tile = Tile(
            values, rows, columns, a.bound(x, b, y), 1 / a.codes.unit(x, b.codes, y),
            float(LARGEST_SUM), int(values.size * _WORTH_LEADING) if bounded else _NO_END,
            a.tails[rows], b.tails[columns],
        )  # fmt: skip
        taken, scored = offer(tile)
        self._ledger.add(Account(values.size, a.count, a.count, scored=scored))
        return taken

    def _codes(
        self, first: Side, x: int, second: Side, y: int, done: int, offer: Offer, bounded: bool
    ) -> int:
        """Offer a tile of codes, from row `done` on; the rest is as in `_leading`."""
        a = first.codes(here)
        b = second.codes(here, a)
        values = self._multiply(a, x, b, y)[done:]
        tile = Tile(
            values, first.places(x)[done:], second.places(y), a.bound(x, b, y), 1 / a.unit(x, b, y),
            float(LARGEST_SUM), int(values.size * _WORTH_CODING) if bounded else _NO_END,
            _NO_TAILS, _NO_TAILS,
        )  # fmt: skip
        taken, scored = offer(tile)
        self._ledger.add(Account(codes=values.size, scored=scored))
        return taken

    def _floats(self, first: Side, x: int, second: Side, y: int, done: int, offer: Offer) -> None:
        rows, columns = first.places(x)[done:], second.places(y)
        block = first.block(rows)
        values = self._product(block, second.block(columns))
        slack = product_slack(
            block.shape[1], first.lengths[rows].max(), second.lengths[columns].max()
        )
        tile = Tile(values, rows, columns, float(slack), 1.0, np.inf, _NO_END, _NO_TAILS, _NO_TAILS)
        _, scored = offer(tile)
        self._ledger.add(Account(floats=values.size, scored=scored))

    def _multiply(self, a: Codes, x: int, b: Codes, y: int) -> NDArray[np.int32]:
        needed = room(a, x, b, y)
        if len(self._buffer) < needed:
            self._buffer = np.empty(needed, np.int32)
        return a.product(x, b, y, self._buffer)


@njit(nogil=True, inline="always")
def reach(worst: np.float32, of_tile: tuple[float, float, float]) -> Any:
    """What a value must reach to be near `worst`, the score that is to be beaten.

    `of_tile` are its slack, units and limit. Cut to a whole number, towards 0, it lets pass the
    same whole numbers, or one more.
    """
    slack, per_unit, limit = of_tile
    return max(min((worst - slack) * per_unit, limit), -limit)


@njit(nogil=True, inline="always")
def far_reach(
    least: np.float32, tail: Any, others: Any, of_tile: tuple[float, float, float]
) -> Any:
    """What a value must not exceed to be near `least`, the score that is to be undercut.

    The row's `tail` is 0 where there is none, and `others` the longest of those that it meets.
    """
    return -reach(-least - 2.0 * tail * others, of_tile)


@njit(nogil=True, inline="always")
def threshold(worst: np.float32, tile: Tile) -> Any:
    """`reach` in a tile."""
    return reach(worst, (tile.slack, tile.per_unit, tile.limit))


@njit(nogil=True, inline="always")
def far_threshold(least: np.float32, tail: Any, others: Any, tile: Tile) -> Any:
    """`far_reach` in a tile."""
    return far_reach(least, tail, others, (tile.slack, tile.per_unit, tile.limit))
