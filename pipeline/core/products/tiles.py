"""Tiles of approximate scores: products of int8 codes if these exclude enough, otherwise of
float32.

Codes cover all dimensions or the leading principal ones (see `principal`), whichever leaves less
work. On a GPU tiles are float16 products, and stay on the GPU (see `half_rows`).

A tile only nominates pairs. It states how far a value may lie from the pair's `score`, so the
results are the same, to the bit, for all kinds of product.
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
from pipeline.core.products.kernels import lengths, product_slack, read_only
from pipeline.core.products.principal import CUT_BY, Axes, gather, may_project, project
from pipeline.core.products.sieve import Finer, Sieve, finer_codes
from pipeline.core.products.strips import Strips, next_strip

Products = Literal["auto", "principal", "int8", "float32", "float16"]
"""The kind of product in tiles. `auto` takes the fastest on this machine, tile by tile: on the CPU
int8 of the leading principal dimensions or of all, or float32; and float16 if there is a GPU.
"""

TRIED = 256
"""A tile may score its `most` pairs for each run of this many rows before it gives up."""

# The number of other rows that a row must meet to make its coding worthwhile.
_WORTH_MEETING = 256
# With so few dimensions, products in 16 bits are faster than scoring what 8 bits leave open.
_FEW_DIMENSIONS = 128


class Tile(NamedTuple):
    """Approximate scores of some rows of one side and some of another, at the places `rows`,
    `columns`.

    `values` `[R, C]` are in units of 1 / `per_unit`. Each is at most `slack` below the pair's
    score. It is at most `slack` above it, plus twice the product of `row_tails` `[R]` and
    `column_tails` `[C]`, if there are any. Thresholds are clipped to `limit`. The consumer of the
    tile gives up once it has scored more than `most` pairs for each run of `TRIED` rows. The
    `sieve` excludes further pairs, by their places. With `strips`, the consumer computes the values
    strip by strip, and `values` is the memory of one strip.
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
    strips: Strips


class Chosen(NamedTuple):
    """The number of leading dimensions in tiles, and that of the codes that sieve the nominated
    pairs.

    If `dimensions` is 0, tiles cover all dimensions. If `finer` is 0, nothing is sieved.
    """

    dimensions: int
    finer: int


@dataclass(frozen=True)
class Leading:
    """The rows of a side as projections on the `chosen` number of leading `axes`.

    `codes` are those of `[N, count + 1]`: the projections and the `tails` `[N]` of
    `principal.project`. `finer` codes, if any, sieve the pairs that tiles nominate.
    """

    axes: Axes
    chosen: Chosen
    codes: Codes
    tails: NDArray[np.float32]
    finer: Finer | None

    def bound(self, x: int, other: "Leading", y: int) -> float:
        """The greatest distance of a product of codes of block `x` and block `y` of `other` below
        the `score`.

        Above it, the distance may be larger by twice the product of the tails.
        """
        # A row with its tail is at least as long as the row.
        longest = self.codes.length[x], other.codes.length[y]
        of_score = product_slack(self.axes.directions.shape[1], *longest) / 2
        of_projections = self.axes.slack(self.chosen.dimensions) * longest[0] * longest[1]
        return float(self.codes.bound(x, other.codes, y) + of_projections + of_score)


class Side:
    """One side of tiles: rows `[N, D]`, in blocks of `size`, in an `order` once they are coded.

    If the rows are on a GPU as `halves`, there are no codes. `codes` are made on first use, if the
    side may be `coded`. `leading` is set if codes of fewer dimensions come first.
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
        """The number of blocks."""
        return -(-len(self.features) // self.size)

    def places(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        start, stop = block * self.size, min((block + 1) * self.size, len(self.features))
        return np.arange(start, stop) if self.order is None else self.order[start:stop]

    def block(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features at the result of `places`, or at a run of it."""
        if self.order is None:
            return self.features[places[0] : places[-1] + 1]
        return self.features[places]

    def codes(self, run: Run, alike: Codes | None = None) -> Codes:
        """The codes of all dimensions, made by `run` on first use, in the same form as `alike`."""
        with self._lock:
            if self._codes is None:
                rotate = alike.rotated if alike else None
                self._codes = quantize(self.features, self.size, run, rotate, order=self.order)
                self.order = self._codes.order
            return self._codes

    def gather_by(self, axes: Axes, run: Run) -> None:
        """Put near rows together before they are coded in all dimensions, if the side may be
        `gathered`.
        """
        if self.order is None and self._gathered and self.coded:
            count = min(CUT_BY, len(axes.directions))
            rows = project(self.features, self.lengths, axes, count, run, self.size)
            self.order = gather(rows[:, :count], self.size)

    def lead(self, axes: Axes, chosen: Chosen, run: Run) -> None:
        """Use codes of `chosen` principal dimensions first; do nothing if all dimensions are
        chosen.

        Do nothing either if the rows are too short or too long.
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
    """Whether this number of leading dimensions is coded in 16 bits."""
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
    """Cut rows into blocks of `size`; with `coded`, they may be coded later.

    Codes of all dimensions sort rows by their largest components. Codes of leading dimensions put
    near rows together, if `gathered`. Rows that are `in_order` keep their places. With a `device`,
    rows go there in float16 instead.

    Raise ValueError for a row that is not finite, is shorter than `shortest`, or is so long that
    its scores overflow float32. The message has `name` and the row's number from `numbers` `[N]`.
    """
    found = np.empty(len(features), np.float64)
    run(lambda a, b: lengths(read_only(features[a:b]), found[a:b]), blocks(len(features), size))
    # Between these lengths no score overflows; the slack covers scores that underflow.
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
    """The device of float16 products; None if the CPU makes the products.

    Raise ValueError for unknown `products`.
    """
    if products not in ("auto", "principal", "int8", "float32", "float16"):
        raise ValueError(
            f"products must be auto, principal, int8, float32 or float16, not {products!r}"
        )
    on_gpu = products == "float16" or (products == "auto" and tiling.gpus > 0)
    return gpu_or_cpu() if on_gpu else None


def take_codes(products: Products, dimension: int, pairs: int, rows: int) -> bool:
    """Whether to code this number of `rows` for this number of `pairs`.

    Raise ValueError for `products` that the CPU does not have, or for codes that are not possible.
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
    """The value that an entry must reach to be near `worst`, the score to beat.

    `of_tile` holds the tile's slack, units and limit. Truncation of the result to an integer,
    towards 0, lets the same integers pass, or one more.
    """
    slack, per_unit, limit = of_tile
    return max(min((worst - slack) * per_unit, limit), -limit)


@njit(nogil=True, inline="always")
def far_reach(
    least: np.float32, tail: Any, others: Any, of_tile: tuple[float, float, float]
) -> Any:
    """The value that an entry must not exceed to be near `least`, the score to undercut.

    The row's `tail` is 0 if there are no tails; `others` is the longest tail of the rows that it
    meets.
    """
    return -reach(-least - 2.0 * tail * others, of_tile)


@njit(nogil=True, inline="always")
def gives_up(tile: Tile, scored: int, row: int) -> bool:
    """Whether a tile has `scored` too many pairs in the rows before `row`."""
    return scored > tile.most * (1 + row // TRIED)


@njit(nogil=True, inline="always")
def next_values(tile: Tile, row: int) -> Any:
    """Compute the values of a tile from `row` on, as far as its memory reaches.

    Return the row that is the first of `tile.values`, and the first row that has no values yet.
    """
    return next_strip(tile.strips, row, tile.rows.shape[0], tile.values)


@njit(nogil=True, inline="always")
def threshold(worst: np.float32, tile: Tile) -> Any:
    """`reach` for a tile."""
    return reach(worst, (tile.slack, tile.per_unit, tile.limit))


@njit(nogil=True, inline="always")
def far_threshold(least: np.float32, tail: Any, others: Any, tile: Tile) -> Any:
    """`far_reach` for a tile."""
    return far_reach(least, tail, others, (tile.slack, tile.per_unit, tile.limit))
