"""The Walsh-Hadamard transform of one row, written as LLVM vector code through numba.

Its steps add and subtract values at distances 1, 2, 4 and so on. The first three steps run within a
vector of eight values, all others on whole vectors.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_LANES = 8
_KIND = ir.VectorType(ir.DoubleType(), _LANES)
_INDICES = ir.VectorType(ir.IntType(32), _LANES)


def _place(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _KIND.as_pointer())


@intrinsic
def _inside(_typing: Any, _address: Any) -> Any:
    """The steps at distances 1, 2 and 4 within the eight values at an address."""
    signature = types.void(types.intp)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vector = builder.load(_place(builder, args[0]), typ=_KIND, align=8)
        nothing = ir.Constant(_KIND, ir.Undefined)
        for apart in (1, 2, 4):
            others = ir.Constant(_INDICES, [lane ^ apart for lane in range(_LANES)])
            signs = ir.Constant(_KIND, [-1.0 if lane & apart else 1.0 for lane in range(_LANES)])
            swapped = builder.shuffle_vector(vector, nothing, others)
            vector = builder.fadd(swapped, builder.fmul(vector, signs))
        builder.store(vector, _place(builder, args[0]), align=8)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _across(_typing: Any, _low: Any, _high: Any) -> Any:
    """The step between the eight values at one address and the eight at another."""
    signature = types.void(types.intp, types.intp)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        low, high = (builder.load(_place(builder, address), typ=_KIND, align=8) for address in args)
        builder.store(builder.fadd(low, high), _place(builder, args[0]), align=8)
        builder.store(builder.fsub(low, high), _place(builder, args[1]), align=8)
        return context.get_dummy_value()

    return signature, codegen


@njit(nogil=True, cache=True)
def transform(values: NDArray[np.float64]) -> None:
    """Apply the Walsh-Hadamard transform, scaled to keep lengths, to `values` in place.

    Their number must be a power of two.

    >>> values = np.array([3.0, 1.0, 1.0, 1.0])
    >>> transform(values)
    >>> values
    array([3., 1., 1., 1.])
    """
    size, base = values.shape[0], values.ctypes.data
    half = 1
    if size >= _LANES:
        for start in range(0, size, _LANES):
            _inside(base + 8 * start)  # type: ignore[call-arg]
        half = _LANES
    while half < size:
        for start in range(0, size, 2 * half):
            if half < _LANES:
                for t in range(start, start + half):
                    low, high = values[t], values[t + half]
                    values[t], values[t + half] = low + high, low - high
            else:
                for t in range(start, start + half, _LANES):
                    _across(base + 8 * t, base + 8 * (t + half))  # type: ignore[call-arg]
        half *= 2
    unit = 1 / np.sqrt(size)
    for t in range(size):
        values[t] *= unit
