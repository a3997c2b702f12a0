"""Finer codes that exclude most pairs which a tile of few dimensions nominates.

A tile of few leading dimensions is fast to compute, and nominates many pairs. A few more
dimensions, in codes of 16 bits, exclude most of them, in a tenth of the time of a `score` and with
an eighth of the memory traffic.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.blocks import Run
from pipeline.core.processor import has_avx2, has_vnni
from pipeline.core.products import byte_products, vnni_products
from pipeline.core.products.kernels import product_slack
from pipeline.core.products.principal import Axes, project
from pipeline.core.products.row_codes import encode

_LANES = 16
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_SHORTS = ir.VectorType(ir.IntType(16), _LANES)
_WORDS = ir.VectorType(_WORD, _LANES // 2)


class Sieve(NamedTuple):
    """The finer codes `[N, W]` and `[M, W]` of two sides, W a multiple of 16, and their tails.

    Divide the product of two codes by `per_unit`: the score of the pair is at most `slack` above
    that. It is at most `slack`, plus twice the product of the two tails, below it. Without codes,
    nothing is sieved.
    """

    rows: NDArray[np.int16]
    columns: NDArray[np.int16]
    row_tails: NDArray[np.float32]
    column_tails: NDArray[np.float32]
    slack: float
    per_unit: float


_NO_CODES, _NO_TAILS = np.empty((0, 0), np.int16), np.empty(0, np.float32)
NO_SIEVE = Sieve(_NO_CODES, _NO_CODES, _NO_TAILS, _NO_TAILS, 0.0, 1.0)


@dataclass(frozen=True)
class Finer:
    """Projections of rows on the first `count` of some `axes`, with tails, as `codes` `[N, W]`.

    All codes share one `scale`. `length`, `coded` and `residual` are the greatest length of a
    projection with its tail, of its code, and of the difference.
    """

    axes: Axes
    count: int
    codes: NDArray[np.int16]
    tails: NDArray[np.float32]
    scale: float
    length: float
    coded: float
    residual: float

    def sieve(self, other: "Finer") -> Sieve:
        """The sieve for pairs of a row of this side and one of the other."""
        error = self.residual * other.length + self.coded * other.residual
        of_projections = self.axes.slack(self.count) * self.length * other.length
        # Rounding of the score and of the codes, as in `Codes.bound`.
        rounding = product_slack(self.axes.directions.shape[1], self.length, other.length)
        return Sieve(
            self.codes,
            other.codes,
            self.tails,
            other.tails,
            float(error + of_projections + rounding),
            1 / (self.scale * other.scale),
        )

    def product(
        self, rows: NDArray[np.int64], other: "Finer", columns: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """The products of some rows' codes with some of the other side's."""
        width = 2 * self.codes.shape[1]
        panels = []
        for codes in (self.codes[rows], other.codes[columns]):
            held = -(-len(codes) // byte_products.PANEL) * byte_products.PANEL
            panels.append(np.empty(held * width, np.int8))
            byte_products.pack(codes.view(np.int8), panels[-1])
        height, across = len(rows), len(columns)
        out = np.empty(height * across + 4 * across + byte_products.PANEL, np.int32)
        kernels = vnni_products if has_vnni() else byte_products
        kernels.multiply_words(panels[0], panels[1], width, height, across, out)
        return out[: height * across].reshape(height, across)


def finer_codes(
    features: NDArray[np.float32],
    lengths: NDArray[np.float64],
    axes: Axes,
    count: int,
    run: Run,
    size: int,
) -> Finer:
    """Code the projections of `features` `[N, D]`, with their row `lengths` `[N]`, on `count`
    axes.
    """
    rows = project(features, lengths, axes, count, run, size)
    # A small margin, as for words in tiles; rounding lengthens tails.
    longest = float(np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64).max(initial=0.0)))
    scale = (longest or 1.0) * 1.001 / byte_products.LONGEST_CODES
    codes = np.zeros((len(rows), -(-(count + 1) // _LANES) * _LANES), np.int16)
    starts = range(0, len(rows), size)
    found = np.zeros((len(starts), 3), np.float64)

    def work(start: int, stop: int) -> None:
        found[start // size] = encode(rows[start:stop], scale, codes[start:stop])

    run(work, [(start, min(start + size, len(rows))) for start in starts])
    length, coded, residual = found.max(axis=0, initial=0.0)
    tails = np.ascontiguousarray(rows[:, count])
    return Finer(axes, count, codes, tails, scale, float(length), float(coded), float(residual))


def _pairs_added(builder: Any, a: Any, b: Any) -> Any:
    """Eight sums of two products each of sixteen codes."""
    if has_avx2():
        name, kind = "llvm.x86.avx2.pmadd.wd", ir.FunctionType(_WORDS, [_SHORTS, _SHORTS])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b])
    # Nothing is sieved here, but numba compiles the loops that could sieve on every processor.
    nothing, parts = ir.Constant(_SHORTS, ir.Undefined), []
    for first in (0, 1):
        places = ir.Constant(_WORDS, list(range(first, _LANES, 2)))
        few = (builder.shuffle_vector(each, nothing, places) for each in (a, b))
        parts.append(builder.mul(*(builder.sext(each, _WORDS) for each in few)))
    return builder.add(*parts)


@intrinsic
def _product(_typing: Any, _a: Any, _b: Any, _n: Any) -> Any:
    """The product of `n` codes of 16 bits at each of two addresses."""
    signature = types.int32(types.intp, types.intp, types.intp)

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, b, n = args

        def load(address: Any, at: Any) -> Any:
            place = builder.add(address, builder.mul(at, ir.Constant(_LONG, 2)))
            pointer = builder.inttoptr(place, _SHORTS.as_pointer())
            return builder.load(pointer, typ=_SHORTS, align=2)

        total = cgutils.alloca_once_value(builder, ir.Constant(_WORDS, [0] * (_LANES // 2)))
        step = ir.Constant(_LONG, _LANES)
        with cgutils.for_range_slice(builder, ir.Constant(_LONG, 0), n, step) as (at, _):
            more = _pairs_added(builder, load(a, at), load(b, at))
            builder.store(builder.add(builder.load(total, typ=_WORDS), more), total)
        vector = builder.load(total, typ=_WORDS)
        parts = [
            builder.extract_element(vector, ir.Constant(_WORD, lane)) for lane in range(_LANES // 2)
        ]
        while len(parts) > 1:
            parts = [builder.add(*two) for two in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return signature, codegen


@njit(nogil=True, inline="always")
def sieved(rows: NDArray[np.int16], i: int, columns: NDArray[np.int16], j: int) -> Any:
    """The product of the codes of row `i` and column `j`."""
    width = rows.shape[1]
    return _product(  # type: ignore[call-arg]
        rows.ctypes.data + 2 * width * i, columns.ctypes.data + 2 * width * j, width
    )
