"""The inner loops on which all exact results depend, written as LLVM vector code through numba.

`score` defines the float32 similarity of a pair. The dimension alone fixes its order of summation
(four accumulators of sixteen lanes, fused multiply-add, a fixed tree at the end). So a pair has the
same score, to the bit, for every tile, thread and machine. The product of two blocks by a BLAS has
no fixed order; it only nominates pairs, within `product_slack`.
"""

from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "ACCUMULATORS",
    "LANES",
    "aligned",
    "fused",
    "lengths",
    "load",
    "longest",
    "pair_scores",
    "product_slack",
    "read_only",
    "score",
]

Element = TypeVar("Element", bound=np.generic)

_LINE = 64  # bytes
_F32 = ir.FloatType()
LANES = 16
"""Number of lanes of an accumulator of `score`."""
ACCUMULATORS = 4
"""Number of accumulators of `score`."""
_VECTOR = ir.VectorType(_F32, LANES)


def aligned(count: int, kind: Any) -> NDArray[Any]:
    """Memory for `count` values that starts where a line of the cache does.

    A vector of 64 bytes that lies across two lines takes twice as long to load and to store.
    """
    size = count * np.dtype(kind).itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(kind)


def load(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    """Load a value of type `kind` from `index` floats beyond `address`."""
    place = builder.add(address, builder.mul(index, ir.Constant(index.type, 4)))
    return builder.load(builder.inttoptr(place, kind.as_pointer()), typ=kind, align=4)


def _sum_lanes(builder: Any, vector: Any) -> Any:
    """The sum of the sixteen lanes, by halving: lane i + lane i + 8, then + 4, + 2, + 1."""
    width = LANES
    while width > 1:
        width //= 2
        indices = ir.VectorType(ir.IntType(32), width)
        nothing = ir.Constant(vector.type, ir.Undefined)
        low = builder.shuffle_vector(vector, nothing, ir.Constant(indices, list(range(width))))
        high = builder.shuffle_vector(
            vector, nothing, ir.Constant(indices, list(range(width, 2 * width)))
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def fused(builder: Any, kind: Any, name: str) -> Any:
    """LLVM's fused multiply-add for one type: a * b + c, rounded once."""
    return cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind, kind, kind]), name
    )


def _dots(builder: Any, row: Any, columns: list[Any], n: Any) -> list[Any]:
    """Dot products of `n` floats at `row` with those at each of `columns` (addresses).

    Each pair has the same order of summation, whichever other pairs are computed with it; the pairs
    only share the loaded values of the row.
    """
    index = n.type
    fma_vector = fused(builder, _VECTOR, "llvm.fma.v16f32")
    fma_scalar = fused(builder, _F32, "llvm.fma.f32")
    step = LANES * ACCUMULATORS
    sums = [
        [
            cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))
            for _ in range(ACCUMULATORS)
        ]
        for _ in columns
    ]

    def bound(width: int) -> Any:
        return builder.mul(builder.sdiv(n, ir.Constant(index, width)), ir.Constant(index, width))

    def add(at: Any, lane: int) -> None:
        x = load(builder, row, at, _VECTOR)
        others = [load(builder, column, at, _VECTOR) for column in columns]
        for y, places in zip(others, sums, strict=True):
            held = builder.load(places[lane], typ=_VECTOR)
            builder.store(builder.call(fma_vector, [x, y, held]), places[lane])

    zero = ir.Constant(index, 0)
    whole, vectors = bound(step), bound(LANES)
    # With several pairs, the accumulators take turns: all at once would need more registers than
    # AVX2 has. Each accumulator adds up the same values in the same order.
    turns = [[lane] for lane in range(ACCUMULATORS)] if len(columns) > 1 else [range(ACCUMULATORS)]
    for lanes in turns:
        with cgutils.for_range_slice(builder, zero, whole, ir.Constant(index, step)) as (i, _):
            for lane in lanes:
                add(builder.add(i, ir.Constant(index, lane * LANES)), lane)
    with cgutils.for_range_slice(builder, whole, vectors, ir.Constant(index, LANES)) as (i, _):
        add(i, 0)
    results = []
    for places in sums:
        first, second, third, fourth = (builder.load(place, typ=_VECTOR) for place in places)
        halves = builder.fadd(first, second), builder.fadd(third, fourth)
        total = _sum_lanes(builder, builder.fadd(*halves))
        results.append(cgutils.alloca_once_value(builder, total))
    with cgutils.for_range_slice(builder, vectors, n, ir.Constant(index, 1)) as (i, _):
        for column, result in zip(columns, results, strict=True):
            x, y = load(builder, row, i, _F32), load(builder, column, i, _F32)
            held = builder.load(result, typ=_F32)
            builder.store(builder.call(fma_scalar, [x, y, held]), result)
    return [builder.load(result, typ=_F32) for result in results]


@intrinsic
def _dot(_typing: Any, _a: Any, _b: Any, _n: Any) -> Any:
    """Dot product of `n` floats at two addresses."""
    signature = types.float32(types.intp, types.intp, types.intp)

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, b, n = args
        return _dots(builder, a, [b], n)[0]

    return signature, codegen


@intrinsic
def _row_dots(_typing: Any, _a: Any, _b: Any, _c: Any, _d: Any, _e: Any, _n: Any) -> Any:
    """Dot products of `n` floats at one address with each of four others."""
    four = types.UniTuple(types.float32, 4)
    signature = four(*[types.intp] * 6)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        row, *columns, n = args
        return context.make_tuple(builder, four, _dots(builder, row, columns, n))

    return signature, codegen


@njit(nogil=True, inline="always")
def score(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    """The similarity of two contiguous vectors `[D]`: their float32 dot product, in fixed order."""
    return _dot(a.ctypes.data, b.ctypes.data, a.shape[0])  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def score_at(a: int, b: int, dimension: int) -> Any:
    """The score of the two rows of `dimension` floats at the addresses a and b.

    For millions of pairs, creating views of the rows would take as long as the scores.
    """
    return _dot(a, b, dimension)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def row_scores_at(row: int, a: int, b: int, c: int, d: int, dimension: int) -> Any:
    """The scores of the row at one address with those at four others; it is loaded once for all."""
    return _row_dots(row, a, b, c, d, dimension)  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def all_scores(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the similarities of all pairs of `a` `[N, D]` and `b` `[M, D]` to `out` `[N, M]`."""
    dimension, count = a.shape[1], b.shape[0]
    size = 4 * dimension
    in_fours = count // 4 * 4
    for i in range(a.shape[0]):
        row = a.ctypes.data + size * i
        for j in range(0, in_fours, 4):
            other = b.ctypes.data + size * j
            out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3] = row_scores_at(
                row, other, other + size, other + 2 * size, other + 3 * size, dimension
            )
        for j in range(in_fours, count):
            out[i, j] = score_at(row, b.ctypes.data + size * j, dimension)


@njit(nogil=True, cache=True)
def pair_scores(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    rows_a: NDArray[np.int64],
    rows_b: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Similarities `[P]` of the pairs `(a[rows_a[p]], b[rows_b[p]])` of two matrices `[*, D]`."""
    out = np.empty(rows_a.shape[0], np.float32)
    for p in range(rows_a.shape[0]):
        out[p] = score(a[rows_a[p]], b[rows_b[p]])
    return out


def product_slack(dimension: int, longest_a: float, longest_b: float) -> np.float32:
    """The greatest distance between a float32 product of two blocks and the pairs' `score`.

    `longest_a` and `longest_b` are the lengths of the `longest` rows of the blocks. A dot product
    of D terms rounded to float32 in any order, fused or not, has an error of at most g |a| |b|, g =
    D u / (1 - D u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    section 3.1). Both the product and `score` may have this error, so it counts twice. Sixteen
    extra terms cover the rounding of the lengths and of the comparisons made with the slack. A term
    that underflows may be off by 2^-126.
    """
    terms = dimension + 16
    rounding = terms * 2.0**-24
    underflow = terms * 2.0**-125
    return np.float32(2.02 * rounding / (1 - rounding) * longest_a * longest_b + underflow)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def lengths(rows: NDArray[np.float32], out: NDArray[np.float64]) -> None:
    """Write the Euclidean length of each of `rows` `[N, D]` to `out` `[N]`."""
    for i in range(rows.shape[0]):
        square = 0.0
        for t in range(rows.shape[1]):
            square += np.float64(rows[i, t]) * np.float64(rows[i, t])
        out[i] = np.sqrt(square)


def read_only(array: NDArray[Element]) -> NDArray[Element]:
    """A view of `array` that nothing can write to.

    Rows of a gallery often are read-only, and so is all that Ray's workers share. numba compiles a
    kernel once more for these, which takes seconds, unless it is given nothing else.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def longest(rows: NDArray[np.float32]) -> float:
    """The greatest Euclidean length of a row of `rows` `[N, D]`; 0 if there are no rows."""
    squares = np.einsum("nd,nd->n", rows, rows)
    return float(np.sqrt(squares.max(initial=0.0))) * 1.0001  # covers the rounding of float32 sums
