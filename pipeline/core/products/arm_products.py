"""Exact products of codes on 64-bit Arm, written as LLVM vector code through numba.

`sdot` multiplies signed bytes and adds four products in 32 bits, without saturating. Rows lie in
panels as in `byte_products`; nothing needs to be raised. The loop has run on emulated processors
only.
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

OFFSET = 0
"""No code is raised."""

_ROWS = 4  # rows at once: sixteen sums, in half of the registers
_LANES = 4
_BYTE, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 32, 64))
_BYTES = ir.VectorType(_BYTE, 4 * _LANES)
_WORDS = ir.VectorType(_WORD, _LANES)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), typ=kind, align=4)


def _added(builder: Any, sums: Any, row: Any, columns: Any) -> Any:
    """Add to each of four sums the four products of its bytes of `row` and of `columns`."""
    kinds = [_WORDS, _BYTES, _BYTES]
    sdot = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, kinds), "llvm.aarch64.neon.sdot.v4i32.v16i8"
    )
    return builder.call(sdot, [sums, row, columns])


def _write(builder: Any, rows: Any, codes: Any, groups: Any, out: Any, line: Any) -> None:
    """Write the products of four rows and the sixteen of a panel to lines of `line` values.

    `groups` is the number of groups of four bytes in a row.
    """
    vectors = range(PANEL // _LANES)
    sums = [
        [cgutils.alloca_once_value(builder, ir.Constant(_WORDS, [0] * _LANES)) for _ in vectors]
        for _ in range(_ROWS)
    ]
    nothing = ir.Constant(_WORDS, ir.Undefined)
    with cgutils.for_range_slice(builder, _long(0), groups, _long(1)) as (group, _):
        place = builder.mul(group, _long(4 * PANEL))
        four = _load(builder, builder.add(rows, place), _WORDS)
        columns = [
            _load(builder, builder.add(codes, builder.add(place, _long(16 * each))), _BYTES)
            for each in vectors
        ]
        for row, held in enumerate(sums):
            lanes = ir.Constant(ir.VectorType(_WORD, _LANES), [row] * _LANES)
            own = builder.bitcast(builder.shuffle_vector(four, nothing, lanes), _BYTES)
            for address, others in zip(held, columns, strict=True):
                before = builder.load(address, typ=_WORDS)
                builder.store(_added(builder, before, own, others), address)
    for row, held in enumerate(sums):
        for each, address in enumerate(held):
            at = builder.add(builder.mul(line, _long(4 * row)), _long(16 * each))
            target = builder.inttoptr(builder.add(out, at), _WORDS.as_pointer())
            builder.store(builder.load(address, typ=_WORDS), target, align=4)


@intrinsic
def _block(_typing: Any, _rows: Any, _codes: Any, _groups: Any, _out: Any, _line: Any) -> Any:
    """`_write` as a function for compiled code."""
    signature = types.void(*[types.intp] * 5)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _write(builder, *args)
        return context.get_dummy_value()

    return signature, codegen


@njit(nogil=True, cache=True)
def multiply(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    _begun: NDArray[np.int32],
    width: int,
    rows: int,
    columns: int,
    _work: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the products of 8-bit codes; the parameters are those of `byte_products.multiply`.

    All sums start at 0, and no working memory is needed.
    """
    # The last columns come first, as in `byte_products.multiply`: later writes replace the excess.
    for left in range((columns - 1) // PANEL * PANEL, -1, -PANEL):
        for top in range(0, rows, _ROWS):
            _block(  # type: ignore[call-arg]
                row_address(first, top, width),
                second.ctypes.data + left * width,
                width // 4,
                out.ctypes.data + 4 * (top * columns + left),
                columns,
            )
