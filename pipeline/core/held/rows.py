"""Rows that are coded once and kept, for many small products with a few other rows."""

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.float_products import Product
from pipeline.core.products.kernels import aligned, longest, product_slack
from pipeline.core.products.tiles import Codes, Side, here, take_codes

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class HeldRows:
    """Rows `[N, D]` with their codes, if this processor multiplies codes fast.

    `features` may be mapped from a file, at any offset; they must not change. `length` is at least
    that of the longest row.
    """

    features: NDArray[np.float32]
    length: float
    codes: Codes | None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def blocks(self) -> int:
        """The number of blocks that are multiplied at once."""
        return -(-len(self) // _BLOCK)

    @property
    def address(self) -> int:
        """Where the features lie in memory."""
        return int(self.features.ctypes.data)

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the codes, and of the features unless they are mapped."""
        own = 0 if isinstance(self.features, np.memmap) else self.features.nbytes
        return own + (self.codes.nbytes if self.codes else 0)


def hold(features: NDArray[np.float32], *, mapped: NDArray[np.float32] | None = None) -> HeldRows:
    """Code rows `[N, D]`; they stay in memory, unless the same rows are given as `mapped` too.

    Raise ValueError for rows that are not float32 `[N, D]` and contiguous, or not finite.

    >>> len(hold(np.eye(3, dtype=np.float32)))
    3
    """
    kept = features if mapped is None else mapped
    if features.ndim != 2 or features.dtype != np.float32 or not features.flags.c_contiguous:
        raise ValueError("held rows must be a contiguous float32 matrix [N, D]")
    if kept.shape != features.shape or kept.dtype != features.dtype:
        raise ValueError(f"mapped rows are {list(kept.shape)}, and not {list(features.shape)}")
    if not np.isfinite(features).all():
        raise ValueError("held rows must be finite")
    return HeldRows(kept, longest(features), _codes(features, _BLOCK))


def _codes(features: NDArray[np.float32], size: int) -> Codes | None:
    """The codes of some rows, in blocks of `size`; None where codes are not fast."""
    count, dimension = features.shape
    if not count or not is_coded(dimension):
        return None
    # Without lengths: codes of all dimensions do not need them.
    side = Side(features, np.empty(0), size, coded=True)
    return side.codes(here, _pattern(dimension))


def is_coded(dimension: int) -> bool:
    """Whether rows of this dimension are coded: whether that is exact and fast here."""
    return take_codes("auto", dimension, pairs=1 << 20, rows=1)


@cache
def _pattern(dimension: int) -> Codes:
    """Codes that all others are like, so that any can be multiplied: rotated ones.

    One component holds all of this row, so it is worth rotating.
    """
    row = np.eye(1, dimension, dtype=np.float32)
    return Side(row, np.empty(0), 1, coded=True).codes(here)


class HeldTile(NamedTuple):
    """Approximate scores of some queries, at the places `lines`, and of some held rows, `columns`.

    `bounds` are how far a value of `values` `[Q, C]` may lie from the pair's score, the number that
    stands for 1, and the number that thresholds are clipped to, as `tiles.reach` takes them.
    """

    values: NDArray[Any]
    lines: NDArray[np.int64]
    columns: NDArray[np.int64]
    bounds: tuple[float, float, float]


class HeldTiles(threading.local):
    """The tiles of some queries `[Q, D]`, all finite; each thread has its own buffers."""

    def __init__(self, queries: NDArray[np.float32], coded: Codes | None) -> None:
        self._queries, self._length, self._coded = queries, longest(queries), coded
        self._buffer, self._product = np.empty(0, np.int32), Product()

    @classmethod
    def of(cls, queries: NDArray[np.float32]) -> "HeldTiles":
        """Code the queries, once for all threads."""
        return cls(queries, _codes(queries, len(queries)))

    def tile(self, rows: HeldRows, block: int) -> HeldTile:
        """The tile of all queries and one block; the next call overwrites it."""
        first, coded, codes = block * _BLOCK, self._coded, rows.codes
        if coded is None or codes is None:
            held = np.require(rows.features[first : first + _BLOCK], requirements=["C", "A"])
            slack = product_slack(held.shape[1], self._length, rows.length)
            places = np.arange(len(self._queries)), np.arange(first, first + len(held))
            values: NDArray[Any] = self._product(self._queries, held)
            return HeldTile(values, *places, (float(slack), 1.0, np.inf))
        needed = coded.room(len(self._queries), codes, block)
        if len(self._buffer) < needed:
            self._buffer = aligned(needed, np.int32)
        values = coded.product(0, codes, block, self._buffer)
        bound, unit = coded.bound(0, codes, block), coded.unit(0, codes, block)
        columns = codes.order[first : first + _BLOCK]
        return HeldTile(values, coded.order, columns, (bound, 1 / unit, codes.limit))
