"""Exact products of codes with AVX-512 and VNNI, written as LLVM vector code through numba.

`vpdpbusd` multiplies unsigned bytes by signed ones and adds four products in 32 bits, without
saturating; `vpdpwssd` does the same with two products of 16 bits. The codes of one side are raised
by 128, to 1 to 255. This adds 128 times the sum of the other row to a product; to compensate, each
sum starts at the negative of that.

Rows lie in panels as in `byte_products`: a panel is one vector for each four bytes of a row.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.products.byte_products import PANEL, row_address

LARGEST = 127
"""The largest code of 8 bits."""

OFFSET = 128
"""The number that is added to the codes of one side to make them unsigned."""

_ROWS = 4
# Panels at once: sixteen sums hide the latency of the instruction, and leave registers free.
_PANELS = 4
_BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_BYTE, 4 * PANEL)
_SHORTS = ir.VectorType(_SHORT, 2 * PANEL)
_WORDS = ir.VectorType(_WORD, PANEL)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), typ=kind, align=4)


def _spread(builder: Any, word: Any) -> Any:
    """Repeat the four bytes of `word` sixteen times."""
    nothing, first = ir.Constant(_WORDS, ir.Undefined), ir.Constant(_WORD, 0)
    one = builder.insert_element(nothing, word, first)
    return builder.shuffle_vector(one, nothing, ir.Constant(_WORDS, [0] * PANEL))


def _write(context: Any, builder: Any, args: Any, name: str, kind: Any, panels: int) -> Any:
    """Write the products of four rows and `panels` panels of columns, by the instruction `name`.

    The arguments hold the number of `groups` of four bytes, the size of a panel in `bytes_`, the
    start of each column's sums in `begun`, and the number of values in an output `line`.
    """
    rows, codes, begun, groups, bytes_, out, line = args
    added = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS, kind, kind]), name
    )
    sums = [
        [
            cgutils.alloca_once_value(
                builder, _load(builder, builder.add(begun, _long(64 * panel)), _WORDS)
            )
            for panel in range(panels)
        ]
        for _ in range(_ROWS)
    ]
    with cgutils.for_range_slice(builder, _long(0), groups, _long(1)) as (group, _):
        place = builder.mul(group, _long(4 * PANEL))
        columns = [
            _load(
                builder,
                builder.add(codes, builder.add(place, builder.mul(bytes_, _long(panel)))),
                kind,
            )
            for panel in range(panels)
        ]
        for row in range(_ROWS):
            at = builder.add(rows, builder.add(place, _long(4 * row)))
            own = builder.bitcast(_spread(builder, _load(builder, at, _WORD)), kind)
            for held, column in zip(sums[row], columns, strict=True):
                before = builder.load(held, typ=_WORDS)
                builder.store(builder.call(added, [before, own, column]), held)
    for row in range(_ROWS):
        for panel, held in enumerate(sums[row]):
            at = builder.add(builder.mul(line, _long(4 * row)), _long(64 * panel))
            place = builder.inttoptr(builder.add(out, at), _WORDS.as_pointer())
            builder.store(builder.load(held, typ=_WORDS), place, align=4)
    return context.get_dummy_value()


def _block(name: str, kind: Any, panels: int) -> Any:
    """`_write` as a function for compiled code."""

    @intrinsic
    def block(
        _typing: Any, _rows: Any, _codes: Any, _begun: Any, _groups: Any, _bytes: Any, _out: Any,
        _line: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(*[types.intp] * 7)

        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return _write(context, builder, args, name, kind, panels)

        return signature, codegen

    return block


_ADD_BYTES, _ADD_WORDS = "llvm.x86.avx512.vpdpbusd.512", "llvm.x86.avx512.vpdpwssd.512"
_byte_block, _byte_blocks = (_block(_ADD_BYTES, _BYTES, panels) for panels in (1, _PANELS))
_word_block, _word_blocks = (_block(_ADD_WORDS, _SHORTS, panels) for panels in (1, _PANELS))


@njit(nogil=True, inline="always")
def _multiply_block(
    words: bool, panels: int, rows: int, codes: int, begun: int, width: int, out: int, line: int
) -> None:
    """The products of four rows and one panel of columns, or `_PANELS` panels, at addresses."""
    groups, size = width // 4, PANEL * width
    if words and panels == 1:
        _word_block(rows, codes, begun, groups, size, out, line)
    elif words:
        _word_blocks(rows, codes, begun, groups, size, out, line)
    elif panels == 1:
        _byte_block(rows, codes, begun, groups, size, out, line)
    else:
        _byte_blocks(rows, codes, begun, groups, size, out, line)


@njit(nogil=True, cache=True)
def _multiply(
    first: NDArray[Any],
    second: NDArray[np.int8],
    begun: NDArray[np.int32],
    words: bool,
    shape: tuple[int, int, int],
    out: NDArray[np.int32],
) -> None:
    """`multiply` for raised codes, or for 16-bit codes if `words`; `shape` is width, rows and
    columns.
    """
    width, rows, columns = shape
    panel = -(-columns // PANEL)
    # The last columns come first, as in `byte_products.multiply`: later writes replace the excess.
    while panel > 0:
        panels = _PANELS if panel % _PANELS == 0 else 1
        panel -= panels
        left = panel * PANEL
        for top in range(0, rows, _ROWS):
            _multiply_block(
                words,
                panels,
                row_address(first, top, width),
                second.ctypes.data + left * width,
                begun.ctypes.data + 4 * left,
                width,
                out.ctypes.data + 4 * (top * columns + left),
                columns,
            )


@njit(nogil=True, cache=True)
def multiply(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    begun: NDArray[np.int32],
    width: int,
    rows: int,
    columns: int,
    raised: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the products of 8-bit codes; the parameters are those of `byte_products.multiply`."""
    for t in range(first.shape[0]):
        raised[t] = np.uint8(first[t] + OFFSET)
    _multiply(raised, second, begun, False, (width, rows, columns), out)


@njit(nogil=True, cache=True)
def multiply_words(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    width: int,
    rows: int,
    columns: int,
    out: NDArray[np.int32],
) -> None:
    """Write the products of 16-bit codes; the parameters are those of
    `byte_products.multiply_words`.
    """
    begun = np.zeros(-(-columns // PANEL) * PANEL, np.int32)
    _multiply(first, second, begun, True, (width, rows, columns), out)
