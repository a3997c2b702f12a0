"""Bicubic resizing of crops, equal to Pillow's to the bit, in vectors of 64 bytes.

A picture is resized first along its rows and then along its columns. Each pass sums whole numbers
(weights of 22 bits) and rounds to uint8. Both passes use one loop, `_weigh`, which computes
weighted sums of 64 neighboring bytes; for the first pass the picture is transposed, a strip of 64
rows at a time.
"""

import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

_LANES = 64
_SQUARE = 16
_BITS = 22
"""The bits of a weight after the point: ten remain in int32 for a byte and for sums beyond 1."""


class Weights(NamedTuple):
    """The weights of the sum that makes each of N places of a resized line.

    The sum begins at place `first` int64 `[N]` of the original line, takes `taken` int64 `[N]`
    places, and weights them by `weights` int32 `[N, K]`, in units of 2^-22.
    """

    first: NDArray[np.int64]
    taken: NDArray[np.int64]
    weights: NDArray[np.int32]


def resample(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize `image` uint8 `[H, W, 3]`, contiguous, into `out` uint8 `[3, height, width]`.

    `out` may be a window of a larger picture. Antialiased bicubic as in Pillow: Keys's cubic with
    a = -0.5, widened when shrinking; R. Keys, "Cubic convolution interpolation for digital image
    processing" (1981).

    >>> out = np.empty((3, 1, 4), np.uint8)
    >>> resample(np.array([[[0, 9, 0], [90, 9, 0]]], np.uint8), out)
    >>> out[:, 0].tolist()
    [[0, 19, 71, 98], [9, 9, 9, 9], [0, 0, 0, 0]]
    """
    height, width = image.shape[:2]
    along, down = _weights(width, out.shape[2]), _weights(height, out.shape[1])
    strips, padded = -(-height // _LANES), -(-out.shape[2] // _LANES) * _LANES
    turned, narrow, planes = _scratch(
        3 * width * _LANES, padded * 3 * _LANES, 3 * strips * _LANES * padded
    )
    _resize_rows(image, along, turned, narrow, planes.reshape(3, strips * _LANES, padded))
    _resize_columns(planes.reshape(3, strips * _LANES, padded), down, turned, out)


_kept = threading.local()


def _scratch(*sizes: int) -> list[NDArray[np.uint8]]:
    """Memory of this thread, kept from picture to picture, because fresh pages cost more than the
    sums.
    """
    buffers = getattr(_kept, "buffers", [np.empty(_LANES, np.uint8)] * len(sizes))
    _kept.buffers = [
        buffer if len(buffer) >= size else np.empty(size, np.uint8)
        for buffer, size in zip(buffers, sizes, strict=True)
    ]
    return [buffer[:size] for buffer, size in zip(_kept.buffers, sizes, strict=True)]


@lru_cache(maxsize=4096)
def _weights(before: int, after: int) -> Weights:
    """The weights that resize a line of `before` pixels to `after`."""
    reach = 2 * max(before / after, 1.0)
    first, taken = np.empty(after, np.int64), np.empty(after, np.int64)
    weights = np.zeros((after, 2 * int(np.ceil(reach)) + 1), np.int32)
    _fill_weights(before, Weights(first, taken, weights))
    return Weights(first, taken, weights)


@njit(nogil=True, cache=True)
def _fill_weights(before: int, filled: Weights) -> None:
    after = filled.first.shape[0]
    step = before / after
    stretch = max(step, 1.0)
    own = np.empty(filled.weights.shape[1], np.float64)
    for place in range(after):
        center = (place + 0.5) * step
        start = max(int(center - 2 * stretch + 0.5), 0)
        taken = min(int(center + 2 * stretch + 0.5), before) - start
        total = 0.0
        for i in range(taken):
            own[i] = _cubic((i + start - center + 0.5) * (1.0 / stretch))
            total += own[i]
        for i in range(taken):
            whole = own[i] / total * (1 << _BITS)
            filled.weights[place, i] = int(whole + 0.5) if whole >= 0 else int(whole - 0.5)
        filled.first[place], filled.taken[place] = start, taken


@njit(nogil=True, cache=True)
def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0


@njit(nogil=True, cache=True)
def _resize_rows(
    image: NDArray[np.uint8],
    along: Weights,
    turned: NDArray[np.uint8],
    narrow: NDArray[np.uint8],
    planes: NDArray[np.uint8],
) -> None:
    """Write `image` `[H, W, 3]`, with its rows resized, to `planes` `[3, H, width]`, both
    padded.
    """
    height, line = image.shape[0], image.shape[1] * 3
    width, padded = along.first.shape[0], planes.shape[2]
    for top in range(0, height, _LANES):
        rows = min(_LANES, height - top)
        _turn(image.ctypes.data + top * line, line, rows, line, turned.ctypes.data, _LANES)
        for x in range(width):
            weights = along.weights.ctypes.data + x * along.weights.strides[0]
            for color in range(3):
                _weigh(
                    turned.ctypes.data + (3 * along.first[x] + color) * _LANES,
                    3 * _LANES,
                    weights,
                    along.taken[x],
                    narrow.ctypes.data + (3 * x + color) * _LANES,
                )
        for color in range(3):
            _turn(
                narrow.ctypes.data + color * _LANES,
                3 * _LANES,
                -(-width // _SQUARE) * _SQUARE,
                _LANES,
                planes.ctypes.data + (color * planes.shape[1] + top) * padded,
                padded,
            )


@njit(nogil=True, cache=True)
def _resize_columns(
    planes: NDArray[np.uint8], down: Weights, last: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """Write `planes` `[3, H, width]`, padded, to `out` `[3, height, width]`, with the columns
    resized.

    `last` is memory for the excess at the end of a line.
    """
    padded, width = planes.shape[2], out.shape[2]
    for color in range(3):
        for y in range(out.shape[1]):
            weights = down.weights.ctypes.data + y * down.weights.strides[0]
            source = planes.ctypes.data + (color * planes.shape[1] + down.first[y]) * padded
            line = out.ctypes.data + color * out.strides[0] + y * out.strides[1]
            for x in range(0, width, _LANES):
                if x + _LANES <= width:
                    _weigh(source + x, padded, weights, down.taken[y], line + x)
                    continue
                _weigh(source + x, padded, weights, down.taken[y], last.ctypes.data)
                for rest in range(x, width):
                    out[color, y, rest] = last[rest - x]


@njit(nogil=True, inline="always")
def _turn(source: int, stride: int, rows: int, columns: int, target: int, pitch: int) -> None:
    """Transpose a matrix of bytes `[rows, columns]`."""
    for top in range(0, rows, _SQUARE):
        for left in range(0, columns, _SQUARE):
            here, there = source + top * stride + left, target + left * pitch + top
            if top + _SQUARE <= rows and left + _SQUARE <= columns:
                _turn_square(here, stride, there, pitch)
                continue
            for y in range(min(_SQUARE, rows - top)):
                for x in range(min(_SQUARE, columns - left)):
                    _copy_byte(here + y * stride + x, there + x * pitch + y)


_BYTE, _INT = ir.IntType(8), ir.IntType(32)


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _copying(_typing: Any, _source: Any, _target: Any) -> Any:
    """Copy a byte."""
    signature = types.void(types.intp, types.intp)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, target = args
        byte = builder.load(_at(builder, source, _BYTE), typ=_BYTE)
        builder.store(byte, _at(builder, target, _BYTE))
        return context.get_dummy_value()

    return signature, codegen


_copy_byte: Any = intrinsic(_copying)


def _turning(_typing: Any, _source: Any, _stride: Any, _target: Any, _pitch: Any) -> Any:
    """Transpose 16 x 16 bytes from rows `stride` apart to rows `pitch` apart."""
    signature = types.void(types.intp, types.intp, types.intp, types.intp)
    vector = ir.VectorType(_BYTE, _SQUARE)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, stride, target, pitch = args

        def place(base: Any, step: Any, row: int) -> Any:
            far = builder.mul(step, ir.Constant(step.type, row))
            return _at(builder, builder.add(base, far), vector)

        rows = [
            builder.load(place(source, stride, row), typ=vector, align=1) for row in range(_SQUARE)
        ]
        low = [half for i in range(8) for half in (i, i + _SQUARE)]
        masks = [
            ir.Constant(ir.VectorType(_INT, _SQUARE), [i + shift for i in low]) for shift in (0, 8)
        ]
        # Shuffling a row with the one eight rows on, four times, moves each byte to its place.
        half = _SQUARE // 2
        for _ in range(4):
            mixed = []
            for row in range(half):
                mixed += [builder.shuffle_vector(rows[row], rows[row + half], m) for m in masks]
            rows = mixed
        for row in range(_SQUARE):
            builder.store(rows[row], place(target, pitch, row), align=1)
        return context.get_dummy_value()

    return signature, codegen


_turn_square: Any = intrinsic(_turning)


def _weighing(
    _typing: Any, _source: Any, _stride: Any, _weights: Any, _count: Any, _target: Any
) -> Any:
    """Write 64 sums of `count` lines of 64 bytes, `stride` apart, each times its weight."""
    signature = types.void(types.intp, types.intp, types.intp, types.intp, types.intp)
    narrow, wide = ir.VectorType(_BYTE, _LANES), ir.VectorType(_INT, _LANES)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, stride, weights, count, target = args

        def all_lanes(value: int) -> Any:
            return ir.Constant(wide, [value] * _LANES)

        sums = cgutils.alloca_once(builder, wide)
        builder.store(all_lanes(1 << (_BITS - 1)), sums)
        with cgutils.for_range(builder, count) as loop:
            step = loop.index
            line = builder.load(
                _at(builder, builder.add(source, builder.mul(step, stride)), narrow),
                typ=narrow,
                align=1,
            )
            own = builder.add(weights, builder.mul(step, ir.Constant(step.type, 4)))
            weight = builder.load(_at(builder, own, _INT), typ=_INT, align=4)
            nothing = ir.Constant(wide, ir.Undefined)
            first = builder.insert_element(nothing, weight, ir.Constant(_INT, 0))
            spread = builder.shuffle_vector(first, nothing, all_lanes(0))
            product = builder.mul(builder.zext(line, wide), spread)
            builder.store(builder.add(builder.load(sums, typ=wide), product), sums)
        total = builder.ashr(builder.load(sums, typ=wide), all_lanes(_BITS))
        for limit, sign in ((0, "<"), (255, ">")):
            beyond = builder.icmp_signed(sign, total, all_lanes(limit))
            total = builder.select(beyond, all_lanes(limit), total)
        builder.store(builder.trunc(total, narrow), _at(builder, target, narrow), align=1)
        return context.get_dummy_value()

    return signature, codegen


_weigh: Any = intrinsic(_weighing)
