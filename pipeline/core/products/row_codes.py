"""The loops that code rows: turn each one if its length lies in few components, and round it."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.products.kernels import read_only
from pipeline.core.products.transform import transform

_NO_SIGN = np.int64(2**63 - 1)


@njit(nogil=True, cache=True)
def _turn(
    row: NDArray[np.float32],
    signs: NDArray[np.float64],
    rotate: bool,
    out: NDArray[np.float64],
) -> None:
    """Write `row` to `out`; with `rotate`, apply random signs and the Walsh-Hadamard transform.

    If the dimension is not a power of two, the transform of the next smaller power of two is
    applied first to the first components, then to the last. This is still a rotation, and mixes
    each component with all others.
    """
    dimension = row.shape[0]
    if not rotate:
        for t in range(dimension):
            out[t] = row[t]
        return
    for t in range(dimension):
        out[t] = row[t] * signs[t]
    size = 1
    while 2 * size <= dimension:
        size *= 2
    transform(out[:size])
    if size < dimension:
        transform(out[dimension - size :])


@njit(nogil=True, cache=True)
def largest_components(
    rows: NDArray[np.float32], signs: NDArray[np.float64], rotate: bool, out: NDArray[np.float64]
) -> None:
    """Write the largest component of each of `rows` `[N, D]`, without its sign, to `out` `[N]`."""
    turned = np.empty(rows.shape[1], np.float64)
    # Without their signs, floats sort like their bits. So integers are compared instead, which LLVM
    # vectorizes; it does not vectorize this for floats.
    bits, found = turned.view(np.int64), out.view(np.int64)
    for i in range(rows.shape[0]):
        _turn(rows[i], signs, rotate, turned)
        largest = np.int64(0)
        for t in range(rows.shape[1]):
            largest = max(largest, bits[t] & _NO_SIGN)
        found[i] = largest


def encode(rows: NDArray[np.float32], scale: float, codes: NDArray[np.int16]) -> Any:
    """Code `rows` `[N, D]` in units of `scale` in the first columns of `codes`.

    Return the greatest length of a row, of a coded row, and of the difference between the two.
    """
    order, signs, sums = (
        np.arange(len(rows)),
        np.empty(0, np.float64),
        np.empty(len(rows), np.int64),
    )
    return encode_block(read_only(rows), order, signs, False, scale, codes, sums)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def encode_block(
    features: NDArray[np.float32],
    order: NDArray[np.int64],
    signs: NDArray[np.float64],
    rotate: bool,
    scale: float,
    codes: NDArray[Any],
    sums: NDArray[np.int64],
) -> Any:
    """Code a block, and write the sum of each row's codes.

    Return the greatest length of a row, of a coded row, and of the difference between the two.
    """
    dimension, per_unit = features.shape[1], 1 / scale
    turned = np.empty(dimension, np.float64)
    length = coded = residual = 0.0
    for place in range(order.shape[0]):
        _turn(features[order[place]], signs, rotate, turned)
        own = own_coded = own_residual = total = 0.0
        for t in range(dimension):
            code = np.rint(turned[t] * per_unit)
            codes[place, t] = np.int16(code)  # or int8, which is large enough
            total += code
            own += turned[t] * turned[t]
            own_coded += (scale * code) * (scale * code)
            own_residual += (turned[t] - scale * code) * (turned[t] - scale * code)
        sums[place] = np.int64(total)
        length, coded = max(length, own), max(coded, own_coded)
        residual = max(residual, own_residual)
    return np.sqrt(length), np.sqrt(coded), np.sqrt(residual)
