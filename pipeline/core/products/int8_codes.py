"""Rows as small integers, and bounds of the errors of their products.

A row x is coded as integers q in units of its block's scale a: from -127 to 127, or in the range of
the products in use. With x' = a q, the Cauchy-Schwarz inequality bounds the error of a product of
two rows:

    |x . y - x' . y'| = |(x - x') . y + x' . (y - y')| <= |x - x'| |y| + |x'| |y - y'|

The residuals x - x' are measured, not estimated, so the bound holds for every row as it is.
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.processor import has_amx, has_arm_dots, has_avx2, has_byte_products, has_vnni
from pipeline.core.products import amx_products, arm_products, byte_products, vnni_products
from pipeline.core.products.kernels import aligned, product_slack, read_only
from pipeline.core.products.kernels import lengths as row_lengths
from pipeline.core.products.row_codes import encode_block, largest_components
from pipeline.core.products.strips import ROWS as STRIP_ROWS
from pipeline.core.products.strips import (
    Strips,
    address_of,
    bytes_by_amx,
    bytes_by_arm,
    bytes_by_avx2,
    bytes_by_vnni,
    multiply,
    words_by_avx2,
    words_by_vnni,
)

Form = Literal["lines", "panels", "words"]
"""The layout of codes: lines of 8 bits for torch; panels of 8 bits for AMX, VNNI and Arm, or of 7
bits for AVX2 alone; or panels of 16 bits.
"""

LARGEST_SUM = 2**31 - 2**20
"""Thresholds for products of codes are clipped to this: it fits into int32, and no product exceeds
it.
"""

_LARGEST = 127
_PADDED = 64  # oneDNN is fastest with whole vectors, and torch multiplies a single column wrongly
_SAMPLE = 1024
_BY_ADDRESS = {
    byte_products: bytes_by_avx2,
    vnni_products: bytes_by_vnni,
    amx_products: bytes_by_amx,
    arm_products: bytes_by_arm,
}
# Rotation costs little, and shortens the residuals in proportion to the largest components.
_WORTH_ROTATING = 0.9


@dataclass(frozen=True)
class Codes:
    """The rows of a matrix `[N, D]` in codes, in some order, in blocks of `size` rows.

    `order` int64 `[N]` gives the matrix row at each place. For each block, float64: the `scale` of
    its codes, and the greatest length of a row (`length`), of a coded row (`coded`) and of the
    difference between the two (`residual`). `rotated` codes may be multiplied only with rotated
    codes. `codes` are lines of `width` bytes, or panels as in `byte_products`. With panels, each
    block is whole panels, and `begun` holds the start of the sums of each line, which compensates
    for the number that the kernels add to the other side's codes, if any. Codes are for the kernels
    of this process: another one may have others.
    """

    size: int
    dimension: int
    rotated: bool
    order: NDArray[np.int64]
    width: int
    form: Form
    codes: NDArray[np.int8]
    begun: NDArray[np.int32]
    scale: NDArray[np.float64]
    length: NDArray[np.float64]
    coded: NDArray[np.float64]
    residual: NDArray[np.float64]

    def product(
        self, x: int, other: "Codes", y: int, buffer: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Write the tile of block `x` and block `y` of `other` to `buffer`, in units of both.

        `room` is the size of the buffer.
        """
        rows, columns = self.rows(x), other.rows(y)
        a, b = self._lines(x, rows), other._lines(y, columns)
        tile = buffer[: rows * columns]
        if self.form == "lines":
            import torch  # slow to load, and few processes need it

            first, second = (torch.from_numpy(each).view(-1, self.width) for each in (a, b))
            torch._int_mm(first, second.t(), out=torch.from_numpy(tile).view(-1, columns))
        else:
            work = buffer[-(len(a) // 4) :].view(np.uint8)
            multiply(self._kernel(), a, b, other._begun(y), self.width, rows, columns, work, buffer)
        return tile.reshape(-1, columns)

    def strips(
        self, x: int, top: int, other: "Codes", y: int, buffer: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], Strips]:
        """What computes the tile of `product` from row `top` on, strip by strip, and the part of
        `buffer` for the values of one strip.

        `room` for the rows of a strip is the size of the buffer. Both codes and the buffer must
        stay in memory. Codes in lines have no strips.
        """
        columns, work = other.rows(y), STRIP_ROWS * self.width // 4
        return buffer[: STRIP_ROWS * columns].reshape(-1, columns), Strips(
            self._kernel(), self._lines(x, self.rows(x)).ctypes.data,
            other._lines(y, columns).ctypes.data, other._begun(y).ctypes.data, self.width, top,
            buffer[-work:].ctypes.data,
        )  # fmt: skip

    def room(self, rows: int, other: "Codes", y: int) -> int:
        """The number of values that a buffer must hold for a tile of `rows` rows and block `y` of
        `other`.
        """
        columns = other.rows(y)
        spilled = 4 * columns + byte_products.PANEL
        # The last part is working memory, which begins with a line of the cache.
        spare = _stored_lines(rows, self.form) * self.width // 4
        return -(-(rows * columns + spilled) // 16) * 16 + spare

    def _kernel(self) -> int:
        """The address of the fastest kernel for codes of this form here."""
        if self.form == "words":
            return address_of(words_by_vnni if has_vnni() else words_by_avx2)
        return address_of(_BY_ADDRESS[_byte_kernels()])

    @property
    def limit(self) -> float:
        """Thresholds for products are clipped to this (`LARGEST_SUM`)."""
        return float(LARGEST_SUM)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.codes.nbytes + self.order.nbytes + self.begun.nbytes

    def rows(self, block: int) -> int:
        """The number of rows of a block."""
        return min(self.size, len(self.order) - block * self.size)

    def unit(self, x: int, other: "Codes", y: int) -> float:
        """The value of 1 in the tile of block `x` and block `y` of `other`."""
        return float(self.scale[x] * other.scale[y])

    def bound(self, x: int, other: "Codes", y: int) -> float:
        """The greatest distance between a product of codes of block `x` and block `y` of `other`
        and the `score`.
        """
        error = self.residual[x] * other.length[y] + self.coded[x] * other.residual[y]
        # The slack covers two roundings, and codes have one: that of the `score`. The rest is a
        # thousand times the float64 rounding of the rotation and the lengths.
        rounding = product_slack(self.dimension, self.length[x], other.length[y]) / 2
        return float(error + rounding)

    def _lines(self, block: int, rows: int) -> NDArray[np.int8]:
        """The codes of the first `rows` rows of a block; for panels, whole panels."""
        first = block * _stored_lines(self.size, self.form)
        last = first + _stored_lines(rows, self.form)
        return self.codes[first * self.width : last * self.width]

    def _begun(self, block: int) -> NDArray[np.int32]:
        each = _stored_lines(self.size, self.form)
        return self.begun[block * each : (block + 1) * each]


def quantize(
    features: NDArray[np.float32],
    size: int,
    run: Run,
    rotate: bool | None = None,
    *,
    order: NDArray[np.int64] | None = None,
) -> Codes:
    """Code the rows of `features` `[N, D]`, all finite.

    The largest component in a block sets its unit, so the rows are sorted by their largest
    component, unless they have an `order` already. If few components hold most of a row's length,
    the codes are those of the row after a random rotation: it changes no product, but evens out the
    components. `rotate` turns this on or off; None decides from a sample.
    """
    features, (n, dimension) = read_only(features), features.shape
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), dimension)
    if rotate is None:
        rotate = _worth_rotating(features, signs)
    largest = np.empty(n, np.float64)
    run(
        lambda a, b: largest_components(features[a:b], signs, rotate, largest[a:b]),
        blocks(n, size),
    )
    if order is None:
        order = np.argsort(largest, kind="stable").astype(np.int64)
    form: Form = "panels" if in_panels() else "lines"
    scale = np.maximum.reduceat(largest[order], np.arange(0, n, size)) / largest_code()
    return _coded(features, size, run, rotate, signs, order, form, scale)


def quantize_words(
    features: NDArray[np.float32], size: int, run: Run, *, order: NDArray[np.int64] | None = None
) -> Codes:
    """Code the rows of `features` `[N, D]` in 16 bits, for AVX2, in the given `order` or their
    own.
    """
    n = len(features)
    if order is None:
        order = np.arange(n)
    lengths = np.empty(n, np.float64)
    run(lambda a, b: row_lengths(features[a:b], lengths[a:b]), blocks(n, size))
    # A small margin, so that rounding makes no row too long.
    unit = 1.001 / byte_products.LONGEST_CODES
    scale = np.maximum.reduceat(lengths[order], np.arange(0, n, size)) * unit
    signs = np.empty(0, np.float64)
    return _coded(features, size, run, False, signs, order, "words", scale)


def _coded(
    features: NDArray[np.float32],
    size: int,
    run: Run,
    rotate: bool,
    signs: NDArray[np.float64],
    order: NDArray[np.int64],
    form: Form,
    scale: NDArray[np.float64],
) -> Codes:
    features, (n, dimension) = read_only(features), features.shape
    kind = np.int16 if form == "words" else np.int8
    step = _PADDED if form == "lines" else byte_products.STEP // np.dtype(kind).itemsize
    if form == "panels" and has_amx():
        step = amx_products.STEP
    padded = -(-dimension // step) * step
    width = padded * np.dtype(kind).itemsize
    scale[scale == 0] = 1  # rows of length 0 are coded as zeros
    lengths = np.empty((len(scale), 3), np.float64)
    starts = np.arange(len(scale) + 1) * _stored_lines(size, form)
    starts[-1] = starts[-2] + _stored_lines(n - (len(scale) - 1) * size, form)
    codes = aligned(starts[-1] * width, np.int8)
    begun = np.zeros(starts[-1] if form == "panels" else 0, np.int32)
    offset = _byte_kernels().OFFSET

    def encode(a: int, b: int) -> None:
        block = a // size
        out = codes[starts[block] * width : starts[block + 1] * width]
        lines = out.reshape(b - a, width) if form == "lines" else np.empty((b - a, padded), kind)
        lines[:, dimension:] = 0
        sums = np.empty(b - a, np.int64)
        lengths[block] = encode_block(
            features, order[a:b], signs, rotate, scale[block], lines, sums
        )
        if form != "lines":
            byte_products.pack(lines.view(np.int8), out)
        if form == "panels":
            begun[starts[block] : starts[block] + b - a] = -offset * sums

    run(encode, blocks(n, size))
    return Codes(size, dimension, rotate, order, width, form, codes, begun, scale, *lengths.T)


def can_code(dimension: int) -> bool:
    """Whether int32 holds every product of codes of that many dimensions exactly on this
    processor.
    """
    return (dimension + _PADDED) * _LARGEST**2 < LARGEST_SUM and (in_panels() or _exact())


def fast() -> bool:
    """Whether this processor has instructions for products of int8."""
    return has_byte_products() or in_panels()


def in_panels() -> bool:
    """Whether codes are for our own kernels for AMX, VNNI, AVX2 or Arm: torch has no faster
    ones.
    """
    return has_arm_dots() or (has_avx2() and (has_amx() or has_vnni() or not has_byte_products()))


def largest_code() -> int:
    """The largest code of a component on this processor."""
    largest: int = _byte_kernels().LARGEST
    return largest if in_panels() else _LARGEST


def _byte_kernels() -> ModuleType:
    """The fastest kernels for codes of bytes in panels."""
    if has_arm_dots():
        return arm_products
    if has_amx():
        return amx_products
    return vnni_products if has_vnni() else byte_products


def _stored_lines(rows: int, form: Form) -> int:
    """The number of lines that store `rows` rows."""
    return rows if form == "lines" else -(-rows // byte_products.PANEL) * byte_products.PANEL


@cache
def _exact() -> bool:
    """Whether torch multiplies the largest codes without saturation, which some processors have."""
    import torch

    one = torch.full((_PADDED, 4 * _PADDED), _LARGEST, dtype=torch.int8)
    whole = 4 * _PADDED * _LARGEST**2
    same, opposite = torch._int_mm(one, one.t()), torch._int_mm(one, -one.t())
    return bool((same == whole).all() and (opposite == -whole).all())


def _worth_rotating(features: NDArray[np.float32], signs: NDArray[np.float64]) -> bool:
    sample = read_only(np.ascontiguousarray(features[:: -(-len(features) // _SAMPLE)]))
    plain, turned = np.empty((2, len(sample)), np.float64)
    largest_components(sample, signs, False, plain)
    largest_components(sample, signs, True, turned)
    return bool(turned.sum() < _WORTH_ROTATING * plain.sum())
