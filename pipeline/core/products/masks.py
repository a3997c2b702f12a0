"""Compare 64 values of a tile at once, written as LLVM vector code through numba.

The result of a comparison is a mask: bit i stands for value i of the 64. At the end of an array,
where fewer values remain, they are compared one by one. Arrays must be contiguous. Scores and
thresholds are all float32, or all int32.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "at_least",
    "at_least_either",
    "at_most",
    "at_most_either",
    "bits_set",
    "first_bit",
    "neither",
]

_F32 = ir.FloatType()
_WIDTH = 64


def _load_wide(builder: Any, address: Any, kind: Any) -> Any:
    """Load 64 values of type `kind`, of four or eight bytes each."""
    wide = ir.VectorType(kind, _WIDTH)
    return builder.load(builder.inttoptr(address, wide.as_pointer()), typ=wide, align=4)


def _spread(builder: Any, value: Any) -> Any:
    """Repeat `value` 64 times."""
    nothing = ir.Constant(ir.VectorType(value.type, _WIDTH), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _WIDTH), [0] * _WIDTH)
    return builder.shuffle_vector(one, nothing, zeros)


def _compare(builder: Any, kind: Any) -> Any:
    return builder.fcmp_ordered if kind == _F32 else builder.icmp_signed


def _mask(builder: Any, sign: str, args: Any) -> Any:
    """Set bit i if value i of 64 compares as `sign` says with a threshold."""
    address, limit = args
    values = _load_wide(builder, address, limit.type)
    reached = _compare(builder, limit.type)(sign, values, _spread(builder, limit))
    return builder.bitcast(reached, ir.IntType(64))


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
    address, limit, limits = args
    values = _load_wide(builder, address, limit.type)
    own = _load_wide(builder, limits, limit.type)
    compare = _compare(builder, limit.type)
    either = builder.or_(compare(sign, values, _spread(builder, limit)), compare(sign, values, own))
    return builder.bitcast(either, ir.IntType(64))


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
