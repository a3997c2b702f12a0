"""Compare 64 values of a tile at once, written as LLVM vector code through numba.

The result of a comparison is a mask: bit i stands for value i of the 64. At the end of an array,
where fewer values remain, they are compared one by one. Arrays must be contiguous. Scores and
thresholds are all float32, or all int32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.processor import has_avx512

__all__ = [
    "at_least",
    "at_least_either",
    "at_most",
    "at_most_either",
    "bits_set",
    "first_bit",
    "neither",
]

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_WIDTH = 64


def _lanes() -> int:
    """The number of values in one vector: 64 values are one vector or eight.

    AVX-512 compares into masks. Without it, LLVM would collect the 64 bits of one long vector bit
    by bit: the search of a tile took five times as long as with eight vectors of eight.
    """
    return _WIDTH if has_avx512() else 8


def _load(builder: Any, address: Any, first: int, kind: Any) -> Any:
    """Load a vector of `kind`, of four or eight bytes a value, from value number `first` on."""
    vector = ir.VectorType(kind, _lanes())
    size = 8 if kind == _I64 else 4
    place = builder.add(address, ir.Constant(_I64, size * first))
    return builder.load(builder.inttoptr(place, vector.as_pointer()), typ=vector, align=4)


def _spread(builder: Any, value: Any) -> Any:
    """Repeat `value` in a vector."""
    lanes = _lanes()
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, nothing, zeros)


def _compare(builder: Any, kind: Any) -> Any:
    return builder.fcmp_ordered if kind == _F32 else builder.icmp_signed


def _joined(builder: Any, reached: Callable[[int], Any]) -> Any:
    """Join the masks of vectors to one of 64 bits; `reached` compares the vector that begins with
    value number `first`.
    """
    lanes, mask = _lanes(), ir.Constant(_I64, 0)
    for first in range(0, _WIDTH, lanes):
        bits = builder.bitcast(reached(first), ir.IntType(lanes))
        if lanes < _WIDTH:
            bits = builder.shl(builder.zext(bits, _I64), ir.Constant(_I64, first))
        mask = builder.or_(mask, bits)
    return mask


def _mask(builder: Any, sign: str, args: Any) -> Any:
    """Set bit i if value i of 64 compares as `sign` says with a threshold."""
    address, limit = args
    compare, limits = _compare(builder, limit.type), _spread(builder, limit)

    def reached(first: int) -> Any:
        return compare(sign, _load(builder, address, first, limit.type), limits)

    return _joined(builder, reached)


@intrinsic
def _at_least(_typing: Any, _address: Any, _threshold: Any) -> Any:
    """Set bit i if value i of the 64 at `address` is not below `threshold`."""
    signature = types.uint64(types.intp, _threshold)
    return signature, lambda _context, builder, _signature, args: _mask(builder, ">=", args)


@intrinsic
def _at_most(_typing: Any, _address: Any, _threshold: Any) -> Any:
    """Set bit i if value i of the 64 at `address` is not above `threshold`."""
    signature = types.uint64(types.intp, _threshold)
    return signature, lambda _context, builder, _signature, args: _mask(builder, "<=", args)


@intrinsic
def _unlike(_typing: Any, _address: Any, _value: Any) -> Any:
    """Set bit i if integer i of the 64 at `address` differs from `value`."""
    signature = types.uint64(types.intp, _value)
    return signature, lambda _context, builder, _signature, args: _mask(builder, "!=", args)


@intrinsic
def _bits_set(_typing: Any, _mask: Any) -> Any:
    """The number of set bits."""
    signature = types.uint64(types.uint64)
    return signature, lambda _context, builder, _signature, args: builder.ctpop(args[0])


def _either(builder: Any, sign: str, args: Any) -> Any:
    """Set bit i if value i of 64 compares as `sign` says with a threshold, or with threshold i of
    64.
    """
    address, limit, others = args
    compare, limits = _compare(builder, limit.type), _spread(builder, limit)

    def reached(first: int) -> Any:
        values = _load(builder, address, first, limit.type)
        own = _load(builder, others, first, limit.type)
        return builder.or_(compare(sign, values, limits), compare(sign, values, own))

    return _joined(builder, reached)


@intrinsic
def _at_least_either(_typing: Any, _address: Any, threshold: Any, _thresholds: Any) -> Any:
    """Set bit i if value i of 64 is not below `threshold`, or not below threshold i of 64."""
    signature = types.uint64(types.intp, threshold, types.intp)
    return signature, lambda _context, builder, _signature, args: _either(builder, ">=", args)


@intrinsic
def _at_most_either(_typing: Any, _address: Any, threshold: Any, _thresholds: Any) -> Any:
    """Set bit i if value i of 64 is not above `threshold`, or not above threshold i of 64."""
    signature = types.uint64(types.intp, threshold, types.intp)
    return signature, lambda _context, builder, _signature, args: _either(builder, "<=", args)


@njit(nogil=True, inline="always")
def at_least(values: NDArray[Any], start: int, threshold: Any) -> np.uint64:
    """Bit mask of the entries of `values[start : start + 64]` that are >= `threshold`.

    Both are float32, or both int32.
    """
    if start + 64 <= values.shape[0]:
        return _at_least(values.ctypes.data + 4 * start, threshold)  # type: ignore[call-arg]
    mask = np.uint64(0)
    for i in range(start, values.shape[0]):
        if values[i] >= threshold:
            mask |= np.uint64(1) << np.uint64(i - start)
    return mask


@njit(nogil=True, inline="always")
def at_most(values: NDArray[Any], start: int, threshold: Any) -> np.uint64:
    """Bit mask of the entries of `values[start : start + 64]` that are <= `threshold`.

    Both are float32, or both int32.
    """
    if start + 64 <= values.shape[0]:
        return _at_most(values.ctypes.data + 4 * start, threshold)  # type: ignore[call-arg]
    mask = np.uint64(0)
    for i in range(start, values.shape[0]):
        if values[i] <= threshold:
            mask |= np.uint64(1) << np.uint64(i - start)
    return mask


@njit(nogil=True, inline="always")
def neither(values: NDArray[np.int64], start: int, one: np.int64, other: np.int64) -> np.uint64:
    """Bit mask of the entries of `values[start : start + 64]` that differ from both `one` and
    `other`.
    """
    if start + 64 <= values.shape[0]:
        place = values.ctypes.data + 8 * start
        return _unlike(place, one) & _unlike(place, other)  # type: ignore[call-arg]
    mask = np.uint64(0)
    for i in range(start, values.shape[0]):
        if values[i] != one and values[i] != other:
            mask |= np.uint64(1) << np.uint64(i - start)
    return mask


@njit(nogil=True, inline="always")
def at_least_either(
    values: NDArray[Any], r: int, start: int, threshold: Any, thresholds: NDArray[Any]
) -> np.uint64:
    """Bit mask of the entries of `values[r, start : start + 64]` that reach a threshold.

    The threshold is `threshold` or the entry's own one in `thresholds`; one of the two suffices.
    All are float32, or all int32.
    """
    width = values.shape[1]
    if start + 64 <= width:
        # numba would count a reference for a view of the row, which takes longer than the rest.
        place = values.ctypes.data + 4 * (r * width + start)
        return _at_least_either(  # type: ignore[call-arg]
            place, threshold, thresholds.ctypes.data + 4 * start
        )
    mask = np.uint64(0)
    for c in range(start, width):
        if values[r, c] >= threshold or values[r, c] >= thresholds[c]:
            mask |= np.uint64(1) << np.uint64(c - start)
    return mask


@njit(nogil=True, inline="always")
def at_most_either(
    values: NDArray[Any], r: int, start: int, threshold: Any, thresholds: NDArray[Any]
) -> np.uint64:
    """Bit mask of the entries of `values[r, start : start + 64]` that do not exceed a threshold.

    The parameters are those of `at_least_either`.
    """
    width = values.shape[1]
    if start + 64 <= width:
        place = values.ctypes.data + 4 * (r * width + start)
        return _at_most_either(  # type: ignore[call-arg]
            place, threshold, thresholds.ctypes.data + 4 * start
        )
    mask = np.uint64(0)
    for c in range(start, width):
        if values[r, c] <= threshold or values[r, c] <= thresholds[c]:
            mask |= np.uint64(1) << np.uint64(c - start)
    return mask


@njit(nogil=True, inline="always")
def bits_set(mask: np.uint64) -> Any:
    """The number of set bits in `mask`."""
    return np.int64(_bits_set(mask))  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def first_bit(mask: np.uint64) -> Any:
    """The place, from 0, of the lowest set bit in `mask`."""
    return np.int64(trailing_zeros(mask))  # type: ignore[call-arg]
