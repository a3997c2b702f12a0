"""Exact products of codes with AMX, written as LLVM code through numba.

`tdpbssd` multiplies the 16 rows of one tile by the 16 columns of another, 64 signed bytes of each,
and adds the products in a tile of 16 x 16 sums of 32 bits. A tile of columns has the layout of a
panel (see `byte_products`): four bytes of each column in turn. A tile of rows has all 64 bytes of
one row before those of the next, so the rows are first copied from their panels into that layout.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.products.byte_products import PANEL

LARGEST = 127
"""The largest code of 8 bits."""

OFFSET = 0
"""The number that is added to the codes of one side: none, because AMX takes signed bytes."""

STEP = 64
"""The width of a panel is a multiple of this, in bytes."""

_GROUPS = STEP // 4
_BYTE, _LONG, _VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
_ADDRESS = _BYTE.as_pointer()
# The tiles by number: four of sums, two of rows, two of columns.
_ROWS, _COLUMNS = (4, 5), (6, 7)


def _layout() -> NDArray[np.uint8]:
    """The shapes of the eight tiles, as `ldtilecfg` loads them: 16 lines of 64 bytes each."""
    layout = np.zeros(64, np.uint8)
    layout[0] = 1
    layout[16:32].view(np.uint16)[:] = STEP
    layout[48:56] = PANEL
    return layout


_LAYOUT = _layout()


def _call(builder: Any, name: str, *args: Any) -> None:
    kind = ir.FunctionType(_VOID, [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


def _tile(number: int) -> Any:
    return ir.Constant(_BYTE, number)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _write(context: Any, builder: Any, args: Any) -> Any:
    """Write the products of 32 rows and 32 columns.

    The arguments hold, in bytes: the addresses of the first 16 rows and of the first 16 columns;
    how far after them the other 16 rows and the other 16 columns begin; the size of 16 rows; and
    the address of the output, and the length of its lines.
    """
    rows, columns, down, right, size, out, line = args
    for number in range(4):
        _call(builder, "tilezero", _tile(number))
    with cgutils.for_range_slice(builder, _long(0), size, _long(STEP * PANEL)) as (place, _):
        for numbers, start, more in ((_ROWS, rows, down), (_COLUMNS, columns, right)):
            first = builder.add(start, place)
            for number, at in zip(numbers, (first, builder.add(first, more)), strict=True):
                address = builder.inttoptr(at, _ADDRESS)
                _call(builder, "tileloadd64", _tile(number), address, _long(STEP))
        for number in range(4):
            factors = _tile(_ROWS[number // 2]), _tile(_COLUMNS[number % 2])
            _call(builder, "tdpbssd", _tile(number), *factors)
    for number in range(4):
        below = builder.mul(line, _long(PANEL * (number // 2)))
        at = builder.add(builder.add(out, below), _long(4 * PANEL * (number % 2)))
        _call(builder, "tilestored64", _tile(number), builder.inttoptr(at, _ADDRESS), line)
    return context.get_dummy_value()


@intrinsic
def _block(
    _typing: Any, _rows: Any, _columns: Any, _down: Any, _right: Any, _size: Any, _out: Any,
    _line: Any,
) -> Any:  # fmt: skip
    """`_write` as a function for compiled code."""
    signature = types.void(*[types.intp] * 7)
    return signature, lambda context, builder, _, args: _write(context, builder, args)


@intrinsic
def _take(_typing: Any, _layout: Any) -> Any:
    """Give the tiles of this thread the layout at an address; the address 0 releases them."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        with builder.if_else(builder.icmp_signed("==", args[0], _long(0))) as (release, take):
            with release:
                _call(builder, "tilerelease")
            with take:
                _call(builder, "ldtilecfg", builder.inttoptr(args[0], _ADDRESS))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@njit(nogil=True, inline="always")
def _begin(layout: NDArray[np.uint8]) -> None:
    _take(layout.ctypes.data)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def _end() -> None:
    """Release the tiles: then the system need not save them with the thread."""
    _take(0)  # type: ignore[call-arg]


@njit(nogil=True, inline="always")
def _multiply_block(
    rows: int, columns: int, down: int, right: int, size: int, out: int, line: int
) -> None:
    _block(rows, columns, down, right, size, out, line)  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def _in_tiles(panels: NDArray[np.int32], tiles: NDArray[np.int32]) -> None:
    """Bring panels `[P, W, 16, 16]` of words into tiles: in each, rows and words change places."""
    for panel in range(panels.shape[0]):
        for piece in range(panels.shape[1]):
            for row in range(PANEL):
                for word in range(_GROUPS):
                    tiles[panel, piece, row, word] = panels[panel, piece, word, row]


@njit(nogil=True, cache=True)
def _multiply(
    tiles: NDArray[np.int32],
    second: NDArray[np.int8],
    layout: NDArray[np.uint8],
    shape: tuple[int, int, int],
    out: NDArray[np.int32],
) -> None:
    """`multiply` for rows in tiles; `shape` is width, rows and columns."""
    width, rows, columns = shape
    size, step = PANEL * width, 2 * PANEL
    spare = np.empty((step, step), np.int32)
    _begin(layout)
    for left in range(0, columns, step):
        for top in range(0, rows, step):
            whole = top + step <= rows and left + step <= columns
            at = out.ctypes.data + 4 * (top * columns + left)
            _multiply_block(
                tiles.ctypes.data + top * width,
                second.ctypes.data + left * width,
                # At the end there may be only 16: these are read twice, and nothing beyond them.
                size if top + PANEL < rows else 0,
                size if left + PANEL < columns else 0,
                size,
                at if whole else spare.ctypes.data,
                4 * columns if whole else 4 * step,
            )
            if not whole:
                for row in range(top, min(rows, top + step)):
                    for column in range(left, min(columns, left + step)):
                        out[row * columns + column] = spare[row - top, column - left]
    _end()


@njit(nogil=True, cache=True)
def multiply(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    _begun: NDArray[np.int32],
    width: int,
    rows: int,
    columns: int,
    tiles: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the products of 8-bit codes; the parameters are those of `byte_products.multiply`.

    All sums start at 0, so `_begun` is not used. `tiles` is working memory for the first side.
    """
    shape = first.shape[0] // (PANEL * width), width // STEP, _GROUPS, PANEL
    ordered = tiles[: first.shape[0]].view(np.int32).reshape(shape)
    _in_tiles(first.view(np.int32).reshape(shape), ordered)
    _multiply(ordered, second, _LAYOUT, (width, rows, columns), out)
