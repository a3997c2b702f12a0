"""Tiles of near scores: products of int8 codes where they exclude enough, else of float32.

On a GPU they are of float16, and stay there (see `halves`).

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

from pipeline.core.blocks import Product, Tiling, blocks
from pipeline.core.products.half_rows import Halves, gpu_or_cpu, halve
from pipeline.core.products.int8_codes import (
    LARGEST_SUM,
    Codes,
    Run,
    can_code,
    fast,
    quantize,
    room,
)
from pipeline.core.products.kernels import lengths, product_slack

Products = Literal["auto", "int8", "float32", "float16"]
"""What tiles are products of; `auto` takes whichever is the faster here, tile by tile: int8 or
float32 on the CPU, and float16 where there is a GPU.
"""

# The share of a tile's pairs that codes may nominate before float32 products are the cheaper.
_WORTH_CODING = 1 / 8
# How many rows a row must meet for its coding to pay.
_WORTH_MEETING = 256
_LONGEST_PAUSE = 64


class Tile(NamedTuple):
    """Near scores of some rows of one side and some of another, at their places `rows`, `columns`.

    Each of `values` `[R, C]`, in units of 1 / `per_unit`, lies within `slack` of the pair's score.
    Thresholds are cut to `limit`. Who takes the tile gives up once `most` pairs have been scored.
    """

    values: NDArray[Any]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    slack: float
    per_unit: float
    limit: float
    most: int


Offer = Callable[[Tile], int]
"""Takes a tile, and gives the number of rows that it took whole."""

_NO_END = 2**62


@dataclass(frozen=True)
class Side:
    """One side of tiles: rows `[N, D]`, in blocks of `size`, in the order of their codes if any.

    Where they are on a GPU as `halves` there are no codes.
    """

    features: NDArray[np.float32]
    lengths: NDArray[np.float64]
    size: int
    codes: Codes | None
    halves: Halves | None = None

    def __len__(self) -> int:
        """Blocks."""
        return -(-len(self.features) // self.size)

    def places(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        start, stop = block * self.size, min((block + 1) * self.size, len(self.features))
        return np.arange(start, stop) if self.codes is None else self.codes.order[start:stop]

    def block(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features at what `places` gave, or at a run of it."""
        if self.codes is None:
            return self.features[places[0] : places[-1] + 1]
        return self.features[places]


def make_side(
    features: NDArray[np.float32],
    size: int,
    run: Run,
    *,
    name: str,
    numbers: NDArray[np.int64],
    shortest: float = 0,
    coded: bool = False,
    alike: Codes | None = None,
    in_order: bool = False,
    device: str | None = None,
) -> Side:
    """Cut rows in blocks of `size`, and code them where asked, to go with the codes of `alike`.

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
        return Side(features, found, size, None, halve(features, size, device, run))
    codes = None
    if coded and len(features):
        rotate = alike.rotated if alike else None
        codes = quantize(features, size, run, rotate, in_order=in_order)
    return Side(features, found, size, codes)


def take_device(products: Products, tiling: Tiling) -> str | None:
    """The device of float16 products; None where products are to be made on the CPU.

    ValueError where `products` are none.
    """
    if products not in ("auto", "int8", "float32", "float16"):
        raise ValueError(f"products must be auto, int8, float32 or float16, not {products!r}")
    on_gpu = products == "float16" or (products == "auto" and tiling.gpus > 0)
    return gpu_or_cpu() if on_gpu else None


def take_codes(products: Products, dimension: int, pairs: int, rows: int) -> bool:
    """Whether that many `rows` are to be coded for that many `pairs` of them.

    ValueError where `products` are none of the CPU's, or int8 is asked for and not to be had.
    """
    if products not in ("auto", "int8", "float32"):
        raise ValueError(f"products must be auto, int8 or float32, not {products!r}")
    if products == "int8" and not can_code(dimension):
        raise ValueError(f"int8 products of {dimension} dimensions are not exact here")
    if products == "auto":
        return pairs >= _WORTH_MEETING * max(1, rows) and fast() and can_code(dimension)
    return products == "int8"


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
    follow.
    """

    def __init__(self, products: Products, choices: int = 1) -> None:
        self._free = products == "auto"
        self._choices = [_Choice() for _ in range(choices)]
        self._product = Product()
        self._buffer = np.empty(0, np.int32)

    def __call__(
        self, first: Side, x: int, second: Side, y: int, offer: Offer, *, patient: bool = False
    ) -> None:
        """Offer the tile of block `x` of `first` and block `y` of `second`.

        A `patient` one is not given up: what it nominates says nothing about the codes.
        """
        done, rows = 0, first.places(x)
        choice = self._choices[x % len(self._choices)]
        if first.codes and second.codes and (not self._free or choice.codes()):
            bounded = self._free and not patient
            done = self._codes(first.codes, first, x, second.codes, second, y, offer, bounded)
            choice.learn(paid=done == len(rows))
        if done < len(rows):
            self._floats(first, rows[done:], second, y, offer)

    def _codes(
        self,
        codes: Codes,
        first: Side,
        x: int,
        other: Codes,
        second: Side,
        y: int,
        offer: Offer,
        bounded: bool,
    ) -> int:
        """Offer a tile of codes, as far as it pays if `bounded`; gives the rows that it came to."""
        rows, columns = first.places(x), second.places(y)
        pairs = len(rows) * len(columns)
        needed = room(codes, x, other, y)
        if len(self._buffer) < needed:
            self._buffer = np.empty(needed, np.int32)
        return offer(
            Tile(
                codes.product(x, other, y, self._buffer),
                rows,
                columns,
                codes.bound(x, other, y),
                1 / codes.unit(x, other, y),
                float(LARGEST_SUM),
                int(pairs * _WORTH_CODING) if bounded else _NO_END,
            )
        )

    def _floats(
        self, first: Side, rows: NDArray[np.int64], second: Side, y: int, offer: Offer
    ) -> None:
        columns = second.places(y)
        block = first.block(rows)
        values = self._product(block, second.block(columns))
        slack = product_slack(
            block.shape[1], first.lengths[rows].max(), second.lengths[columns].max()
        )
        offer(Tile(values, rows, columns, float(slack), 1.0, np.inf, _NO_END))


@njit(nogil=True, inline="always")
def threshold(worst: np.float32, tile: Tile) -> Any:
    """What a tile's value must reach to be near `worst`, the score that is to be beaten.

    Cut to a whole number, towards 0, it lets pass the same whole numbers, or one more.
    """
    return max(min((worst - tile.slack) * tile.per_unit, tile.limit), -tile.limit)
