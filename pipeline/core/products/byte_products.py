"""Exact products of codes with AVX2 alone, written as LLVM vector code through numba.

For codes of 16 bits, `vpmaddwd` multiplies and adds pairs in 32 bits. For codes of 7 bits,
`vpmaddubsw` multiplies unsigned bytes by signed ones and adds pairs of products in 16 bits. The
codes of one side range from -63 to 63. Those of the other side are raised by 64, to 1 to 127: four
products are then 4 * 127 * 63 = 32,004 at most, and two such pairs add up in 16 bits without
saturating. The raise adds 64 times the sum of the other row to a product; to compensate, each sum
starts at the negative of that.

Rows lie in panels of 16, four bytes of each row in turn: a panel stands for `[16, width]` and holds
`[width / 4, 16, 4]`, or `[width / 2, 16, 2]` for 16 bits.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LARGEST = 63
"""The largest code of 7 bits."""

LONGEST_CODES = 32_000
"""The length of the longest row of 16-bit codes; it keeps every code and every sum of products in
range.
"""

PANEL = 16
"""Number of rows in a panel."""

OFFSET = 64
"""The number that is added to the codes of one side to make them unsigned."""

STEP = 8
"""The width of a panel is a multiple of this, in bytes."""

_ROWS = 4  # rows at once: with two vectors of columns, they fit into 16 registers
_LANES = 8
_BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES = ir.VectorType(_BYTE, 4 * _LANES)
_SHORTS = ir.VectorType(_SHORT, 2 * _LANES)
_WORDS = ir.VectorType(_WORD, _LANES)


def _load(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    place = builder.inttoptr(builder.add(address, offset), kind.as_pointer())
    return builder.load(place, typ=kind, align=4)


def _spread(builder: Any, word: Any) -> Any:
    """Repeat the four bytes of `word` eight times."""
    nothing, first = ir.Constant(_WORDS, ir.Undefined), ir.Constant(_WORD, 0)
    one = builder.insert_element(nothing, word, first)
    zeros = ir.Constant(_WORDS, [0] * _LANES)
    return builder.bitcast(builder.shuffle_vector(one, nothing, zeros), _BYTES)


def _bytes_added(builder: Any, rows: list[Any], columns: list[Any]) -> Any:
    """Sums of eight products of 7-bit codes, of two groups of four; the codes of the rows are
    raised.
    """
    pairs = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_SHORTS, [_BYTES, _BYTES]), "llvm.x86.avx2.pmadd.ub.sw"
    )
    first, second = (builder.call(pairs, [r, c]) for r, c in zip(rows, columns, strict=True))
    ones = ir.Constant(_SHORTS, [1] * 2 * _LANES)
    return builder.call(_add_pairs(builder), [builder.add(first, second), ones])


def _words_added(builder: Any, rows: list[Any], columns: list[Any]) -> Any:
    """Sums of four products of 16-bit codes, of two groups of two."""
    first, second = (
        builder.call(_add_pairs(builder), [builder.bitcast(each, _SHORTS) for each in both])
        for both in zip(rows, columns, strict=True)
    )
    return builder.add(first, second)


def _add_pairs(builder: Any) -> Any:
    return cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, [_SHORTS, _SHORTS]), "llvm.x86.avx2.pmadd.wd"
    )


def _multiply(builder: Any, rows: Any, codes: Any, begun: Any, groups: Any, added: Any) -> Any:
    """Products of the four rows that start at `rows` with the sixteen of the panel at `codes`, as
    vectors.

    Each sum starts at the value of its column in `begun`. The number of `groups` of four bytes is
    even; `added` computes the sums of two groups.
    """

    def long(value: int) -> Any:
        return ir.Constant(_LONG, value)

    sums = [
        [
            cgutils.alloca_once_value(builder, _load(builder, begun, long(32 * half), _WORDS))
            for half in range(2)
        ]
        for _ in range(_ROWS)
    ]
    size = long(4 * PANEL)
    with cgutils.for_range_slice(builder, long(0), groups, long(2)) as (group, _):
        start = builder.mul(group, size)
        places = start, builder.add(start, size)
        columns = [
            [_load(builder, codes, builder.add(place, long(32 * half)), _BYTES) for half in (0, 1)]
            for place in places
        ]
        for row in range(_ROWS):
            own = [
                _spread(builder, _load(builder, rows, builder.add(place, long(4 * row)), _WORD))
                for place in places
            ]
            for half in range(2):
                more = added(builder, own, [each[half] for each in columns])
                held = sums[row][half]
                builder.store(builder.add(builder.load(held, typ=_WORDS), more), held)
    return [[builder.load(held, typ=_WORDS) for held in halves] for halves in sums]


def _write(context: Any, builder: Any, args: Any, added: Any) -> Any:
    """Write the products of four rows and sixteen columns to lines of `line` values."""
    rows, codes, begun, groups, out, line = args
    found = _multiply(builder, rows, codes, begun, groups, added)
    for row, halves in enumerate(found):
        for half, vector in enumerate(halves):
            at = builder.add(
                builder.mul(line, ir.Constant(_LONG, 4 * row)), ir.Constant(_LONG, 32 * half)
            )
            place = builder.inttoptr(builder.add(out, at), _WORDS.as_pointer())
            builder.store(vector, place, align=4)
    return context.get_dummy_value()


@intrinsic
def _byte_block(
    _typing: Any, _rows: Any, _codes: Any, _begun: Any, _groups: Any, _out: Any, _line: Any
) -> Any:
    """`_write` for codes of 7 bits."""
    signature = types.void(*[types.intp] * 6)
    return signature, lambda context, builder, _, args: _write(context, builder, args, _bytes_added)


@intrinsic
def _word_block(
    _typing: Any, _rows: Any, _codes: Any, _begun: Any, _groups: Any, _out: Any, _line: Any
) -> Any:
    """`_write` for codes of 16 bits."""
    signature = types.void(*[types.intp] * 6)
    return signature, lambda context, builder, _, args: _write(context, builder, args, _words_added)


@njit(nogil=True, inline="always")
def row_address(panels: NDArray[Any], row: int, width: int) -> int:
    """The address of the first bytes of a row in panels of rows of `width` bytes."""
    return panels.ctypes.data + row // PANEL * PANEL * width + 4 * (row % PANEL)


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
    """Write the products of the first `rows` of `first` and `columns` of `second` to `out`.

    Both are whole panels of rows of `width` 7-bit codes, flat. `begun` is -`OFFSET` times the sum
    of each row of the second, and `raised` is working memory for the first. `out` is a flat matrix
    `[rows, columns]`, with memory for four more lines and a panel.
    """
    for t in range(first.shape[0]):
        raised[t] = np.uint8(first[t] + OFFSET)
    # A panel that extends beyond the last column or the last row writes into the lines that follow.
    # Therefore the last columns come first and lines come in order: later writes replace the
    # excess.
    for left in range((columns - 1) // PANEL * PANEL, -1, -PANEL):
        for top in range(0, rows, _ROWS):
            _byte_block(  # type: ignore[call-arg]
                row_address(raised, top, width),
                second.ctypes.data + left * width,
                begun.ctypes.data + 4 * left,
                width // 4,
                out.ctypes.data + 4 * (top * columns + left),
                columns,
            )


@njit(nogil=True, cache=True)
def multiply_words(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    width: int,
    rows: int,
    columns: int,
    out: NDArray[np.int32],
) -> None:
    """Like `multiply`, for rows of 16-bit codes in `width` bytes."""
    begun = np.zeros(PANEL, np.int32)
    for left in range((columns - 1) // PANEL * PANEL, -1, -PANEL):
        for top in range(0, rows, _ROWS):
            _word_block(  # type: ignore[call-arg]
                row_address(first, top, width),
                second.ctypes.data + left * width,
                begun.ctypes.data,
                width // 4,
                out.ctypes.data + 4 * (top * columns + left),
                columns,
            )


def pack(codes: NDArray[np.int8], panels: NDArray[np.int8]) -> None:
    """Write the rows of `codes` `[N, width]`, in bytes, to flat `panels`, and pad with rows of
    0.
    """
    _pack(codes.view(np.int32), panels.view(np.int32).reshape(-1, codes.shape[1] // 4, PANEL))


@njit(nogil=True, cache=True)
def _pack(codes: NDArray[np.int32], panels: NDArray[np.int32]) -> None:
    for panel in range(panels.shape[0]):
        top = panel * PANEL
        held = min(PANEL, codes.shape[0] - top)
        for group in range(panels.shape[1]):
            for row in range(held):
                panels[panel, group, row] = codes[top + row, group]
            panels[panel, group, held:] = 0
