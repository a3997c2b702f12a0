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
from pipeline.core.processor import has_avx2
from pipeline.core.products.half_rows import Halves, gpu_or_cpu, halve
from pipeline.core.products.int8_codes import (
    Codes,
    can_code,
    fast,
    quantize,
    quantize_words,
)
from pipeline.core.products.kernels import lengths, product_slack
from pipeline.core.products.principal import Axes, gather, may_project, project
from pipeline.core.products.sieve import Finer, Sieve, finer_codes

Products = Literal["auto", "principal", "int8", "float32", "float16"]
"""What tiles are products of; `auto` takes whichever is the fastest here, tile by tile: int8 of the
leading principal dimensions or of all, or float32 on the CPU, and float16 where there is a GPU.
"""

# How many rows a row must meet for its coding to pay.
_WORTH_MEETING = 256
# So few dimensions are sooner multiplied in 16 bits than what 8 bits leave open is scored.
_FEW_DIMENSIONS = 128


class Tile(NamedTuple):
    """Near scores of some rows of one side and some of another, at their places `rows`, `columns`.

    Each of `values` `[R, C]`, in units of 1 / `per_unit`, is no more than `slack` below the pair's
    score; and no more than `slack` above it, and twice the product of `row_tails` `[R]` and
    `column_tails` `[C]` where there are any. Thresholds are cut to `limit`. Who takes the tile
    gives up once `most` pairs have been scored. The `sieve` excludes more pairs, by their places.
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
    sieve: Sieve


class Chosen(NamedTuple):
    """How many leading dimensions tiles are of, and the codes that sieve what those nominate.

    Tiles are of all dimensions where `dimensions` is 0, and nothing is sieved where `finer` is.
    """

    dimensions: int
    finer: int


@dataclass(frozen=True)
class Leading:
    """The rows of a side by their projections on the first of some `axes`, as many as `chosen`.

    `codes` are of `[N, count + 1]`: the projections and the `tails` `[N]` of `principal.project`.
    Where there are `finer` codes, they sieve what tiles nominate.
    """

    axes: Axes
    chosen: Chosen
    codes: Codes
    tails: NDArray[np.float32]
    finer: Finer | None

    def bound(self, x: int, other: "Leading", y: int) -> float:
        """How far a product of codes of block `x` and block `y` of `other` may be below the pair's
        `score`; and above it, but for the product of the tails, twice."""
        # A row with its tail is no shorter than the row.
        longest = self.codes.length[x], other.codes.length[y]
        of_score = product_slack(self.axes.directions.shape[1], *longest) / 2
        of_projections = self.axes.slack(self.chosen.dimensions) * longest[0] * longest[1]
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
        gathered: bool = False,
        halves: Halves | None = None,
    ) -> None:
        self.features, self.lengths, self.size = features, lengths, size
        self.coded, self.order, self.halves = coded and len(features) > 0, order, halves
        self.leading: Leading | None = None
        self._gathered = gathered
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

    def lead(self, axes: Axes, chosen: Chosen, run: Run) -> None:
        """Have codes of so many principal dimensions come first; none where those of all are
        `chosen`.

        Nor where the rows are too short or too long for that.
        """
        count = chosen.dimensions
        if not count or not self.coded or not may_project(self.lengths):
            self.leading = None
            return
        rows = project(self.features, self.lengths, axes, count, run, self.size)
        tails = rows[:, count].copy()
        if self.order is None and self._gathered:
            self.order = gather(rows[:, :count], self.size)
        if in_words(count):
            codes = quantize_words(rows, self.size, run, order=self.order)
        else:
            codes = quantize(rows, self.size, run, True, order=self.order)
        self.order = codes.order
        finer = None
        if chosen.finer:
            finer = finer_codes(self.features, self.lengths, axes, chosen.finer, run, self.size)
        self.leading = Leading(axes, chosen, codes, tails, finer)


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
    gathered: bool = False,
    device: str | None = None,
) -> Side:
    """Cut rows in blocks of `size`; they may be coded where asked.

    Codes of all dimensions put rows together whose largest components are alike; codes of leading
    dimensions put near rows together where `gathered`. Rows that are `in_order` keep their places.
    If a `device` is named, rows go there in float16 instead.

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
    return Side(features, found, size, coded=coded, order=order, gathered=gathered)


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
