"""The scores of all pairs of two small groups of rows at once, as LLVM vector code through numba.

Each pair has the `score` of `kernels`, to the bit. The rows are loaded once for the whole grid, and
the sums of all pairs stay in registers, as in the product of two matrices. Where all pairs of two
blocks need their scores, this is as fast as such a product.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.processor import has_avx512
from pipeline.core.products.kernels import ACCUMULATORS, LANES, fused, load

__all__ = ["COLUMNS", "MOST_ROWS", "grid_height", "score_grid"]

COLUMNS = 4
"""Number of rows in the second group of a grid."""

MOST_ROWS = 4
"""The greatest number of rows in the first group."""

_F32 = ir.FloatType()


def _layout() -> tuple[int, int]:
    """The number of rows in the first group, and of lanes in a register.

    The sums of 4 x 4 pairs take half of the 32 registers of AVX-512. AVX2 has 16: twelve hold the
    sums of 3 x 4 pairs, and four the values that are multiplied. It has eight lanes, so the sixteen
    of `score` are two passes.
    """
    return (4, LANES) if has_avx512() else (3, LANES // 2)


def _halved(builder: Any, vectors: list[Any], width: int) -> Any:
    """Add the second half of every `width` lanes to the first, and join what is left of `vectors`.

    There are one or two vectors.
    """
    lanes = range(len(vectors) * vectors[0].type.count)
    kind = ir.VectorType(ir.IntType(32), len(lanes) // 2)
    second = vectors[-1] if len(vectors) > 1 else ir.Constant(vectors[0].type, ir.Undefined)
    low, high = (
        builder.shuffle_vector(vectors[0], second, ir.Constant(kind, chosen))
        for chosen in (
            [lane for lane in lanes if lane % width < width // 2],
            [lane for lane in lanes if lane % width >= width // 2],
        )
    )
    return builder.fadd(low, high)


def _sums(builder: Any, vectors: list[Any]) -> Any:
    """The sum of the lanes of each of `vectors`, in one vector; each by halving, as in `score`.

    The number of vectors is a power of two, and not greater than that of lanes. As lanes become
    fewer, one vector holds those of several pairs.
    """
    width = vectors[0].type.count
    while width > 1:
        joined = [vectors[first : first + 2] for first in range(0, len(vectors), 2)]
        vectors = [_halved(builder, few, width) for few in joined]
        width //= 2
    return vectors[0]


def _partial(builder: Any, rows: list[Any], columns: list[Any], n: Any, first: int) -> list[Any]:
    """The sums of all pairs in the lanes of one register: those of the terms from `first` on, of
    every 64.
    """
    lanes = _layout()[1]
    kind, index = ir.VectorType(_F32, lanes), n.type
    fma = fused(builder, kind, f"llvm.fma.v{lanes}f32")
    held = [
        [cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * lanes)) for _ in columns]
        for _ in rows
    ]

    def add(at: Any) -> None:
        # One column at a time: AVX2 has no register for more beside the rows and the sums.
        x = [load(builder, row, at, kind) for row in rows]
        for c, column in enumerate(columns):
            y = load(builder, column, at, kind)
            for value, sums in zip(x, held, strict=True):
                before = builder.load(sums[c], typ=kind)
                builder.store(builder.call(fma, [value, y, before]), sums[c])

    def constant(value: int) -> Any:
        return ir.Constant(index, value)

    step = LANES * ACCUMULATORS
    whole, vectors = (
        builder.mul(builder.sdiv(n, constant(size)), constant(size)) for size in (step, LANES)
    )
    with cgutils.for_range_slice(builder, constant(0), whole, constant(step)) as (i, _):
        add(builder.add(i, constant(first)))
    if first < LANES:  # the first accumulator takes the rest of the vectors
        with cgutils.for_range_slice(builder, whole, vectors, constant(LANES)) as (i, _):
            add(builder.add(i, constant(first)))
    return [builder.load(place, typ=kind) for sums in held for place in sums]


def _write(builder: Any, rows: list[Any], columns: list[Any], n: Any, out: list[Any]) -> None:
    """Write the scores of each of `rows` with all of `columns` to an address of `out`."""
    lanes = _layout()[1]

    def added(left: list[Any], right: list[Any]) -> list[Any]:
        return [builder.fadd(a, b) for a, b in zip(left, right, strict=True)]

    def half(start: int) -> list[Any]:
        def of(turn: int) -> list[Any]:
            return _partial(builder, rows, columns, n, start + LANES * turn)

        return added(added(of(0), of(1)), added(of(2), of(3)))

    totals = half(0)
    if lanes < LANES:
        totals = added(totals, half(lanes))
    for place, first in zip(out, range(0, len(totals), len(columns)), strict=True):
        sums = _sums(builder, totals[first : first + len(columns)])
        builder.store(sums, builder.inttoptr(place, sums.type.as_pointer()), align=4)
    _add_rest(builder, rows, columns, n, out)


def _add_rest(builder: Any, rows: list[Any], columns: list[Any], n: Any, out: list[Any]) -> None:
    """Add the products of the last terms, which fill no vector, to the scores in `out`."""
    index = n.type
    fma = fused(builder, _F32, "llvm.fma.f32")
    lanes = ir.Constant(index, LANES)
    whole = builder.mul(builder.sdiv(n, lanes), lanes)
    with cgutils.for_range_slice(builder, whole, n, ir.Constant(index, 1)) as (i, _):
        for row, line in zip(rows, out, strict=True):
            for c, column in enumerate(columns):
                place = builder.add(line, ir.Constant(index, 4 * c))
                held = builder.inttoptr(place, _F32.as_pointer())
                x, y = load(builder, row, i, _F32), load(builder, column, i, _F32)
                sum_ = builder.call(fma, [x, y, builder.load(held, typ=_F32)])
                builder.store(sum_, held)


@intrinsic
def _grid(
    _typing: Any, _row: Any, _rows: Any, _column: Any, _columns: Any, _step: Any, _n: Any,
    _out: Any, _line: Any,
) -> Any:  # fmt: skip
    """Write the scores of the rows from an address on with the columns from another on.

    `rows` and `columns` are left there, at least one; the last is repeated where fewer are left
    than the grid has. Rows are `step` bytes apart, lines of the output `line`.
    """
    signature = types.void(*[types.intp] * 8)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        row, rows, column, columns, step, n, out, line = args

        def places(start: Any, count: Any, number: int) -> list[Any]:
            last = builder.sub(count, ir.Constant(count.type, 1))
            chosen = (ir.Constant(count.type, each) for each in range(number))
            near = (
                builder.select(builder.icmp_signed("<", each, last), each, last) for each in chosen
            )
            return [builder.add(start, builder.mul(each, step)) for each in near]

        height = _layout()[0]
        lines = [
            builder.add(out, builder.mul(line, ir.Constant(line.type, each)))
            for each in range(height)
        ]
        _write(builder, places(row, rows, height), places(column, columns, COLUMNS), n, lines)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _height(_typing: Any) -> Any:
    signature = types.intp()

    def codegen(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(ir.IntType(64), _layout()[0])

    return signature, codegen


@njit(nogil=True, inline="always")
def grid_height() -> int:
    """The number of rows of a grid on this processor, at most `MOST_ROWS`."""
    return _height()  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def score_grid(
    a: NDArray[np.float32],
    i: int,
    b: NDArray[np.float32],
    j: int,
    out: NDArray[np.float32],
    start: int,
) -> None:
    """Write the scores of the rows of `a` `[N, D]` from i on with those of `b` `[M, D]` from j on.

    They go to `grid_height()` lines of `out`, to `COLUMNS` places from `start` on. Where the rows
    end before, what lies beyond is the last one's. All arrays are contiguous.
    """
    step, line = a.shape[1] * 4, out.shape[1] * 4
    _grid(
        a.ctypes.data + i * step, a.shape[0] - i, b.ctypes.data + j * step, b.shape[0] - j,
        step, a.shape[1], out.ctypes.data + start * 4, line,
    )  # type: ignore[call-arg]  # fmt: skip
