"""The values of a tile of codes, computed a few rows at a time inside the loops that read them.

So the values stay in the cache, and one call from Python covers a whole tile. The loops call the
kernels by their addresses: numba would otherwise compile all kernels again for each loop.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.core.products import amx_products, arm_products, byte_products, vnni_products
from pipeline.core.products.byte_products import PANEL

ROWS = 64
"""Number of rows in a strip, whole panels."""


class Strips(NamedTuple):
    """The addresses of the codes of two blocks, in panels of `width` bytes a row, and of their
    `kernel`.

    The first row of the tile is row `top` of the `first` block. `begun` is the start of each
    column's sums, and `work` is working memory for `ROWS` rows. All of this must stay in memory
    while the tile is in use. If the kernel is 0, the tile has all its values.
    """

    kernel: int
    first: int
    second: int
    begun: int
    width: int
    top: int
    work: int


NO_STRIPS = Strips(0, 0, 0, 0, 0, 0, 0)

_WORDS, _CODES, _BYTES = (types.CPointer(kind) for kind in (types.int32, types.int8, types.uint8))
_SIGNATURE = types.void(
    _CODES, _CODES, _WORDS, types.intp, types.intp, types.intp, _BYTES, _WORDS
)  # fmt: skip


@njit(nogil=True, inline="always")
def _arrays(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> Any:
    """The arrays at the addresses that a kernel is called with."""
    lines, others = (rows + PANEL - 1) // PANEL * PANEL, (columns + PANEL - 1) // PANEL * PANEL
    return (
        carray(first, lines * width),
        carray(second, others * width),
        carray(begun, others),
        carray(work, lines * width),
        carray(out, rows * columns),
    )


def bytes_by_avx2(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`byte_products.multiply` for arrays at addresses."""
    a, b, sums, spare, values = _arrays(first, second, begun, width, rows, columns, work, out)
    byte_products.multiply(a, b, sums, width, rows, columns, spare, values)


def words_by_avx2(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`byte_products.multiply_words` for arrays at addresses."""
    a, b, _, _, values = _arrays(first, second, begun, width, rows, columns, work, out)
    byte_products.multiply_words(a, b, width, rows, columns, values)


def bytes_by_vnni(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`vnni_products.multiply` for arrays at addresses."""
    a, b, sums, spare, values = _arrays(first, second, begun, width, rows, columns, work, out)
    vnni_products.multiply(a, b, sums, width, rows, columns, spare, values)


def words_by_vnni(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`vnni_products.multiply_words` for arrays at addresses."""
    a, b, _, _, values = _arrays(first, second, begun, width, rows, columns, work, out)
    vnni_products.multiply_words(a, b, width, rows, columns, values)


def bytes_by_amx(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`amx_products.multiply` for arrays at addresses."""
    a, b, sums, spare, values = _arrays(first, second, begun, width, rows, columns, work, out)
    amx_products.multiply(a, b, sums, width, rows, columns, spare, values)


def bytes_by_arm(
    first: Any, second: Any, begun: Any, width: int, rows: int, columns: int, work: Any, out: Any
) -> None:
    """`arm_products.multiply` for arrays at addresses."""
    a, b, sums, spare, values = _arrays(first, second, begun, width, rows, columns, work, out)
    arm_products.multiply(a, b, sums, width, rows, columns, spare, values)


@cache
def _compiled(kernel: Callable[..., None]) -> Any:
    # Machine code stays in memory only as long as numba's object for it.
    return cfunc(_SIGNATURE, cache=True)(kernel)


def address_of(kernel: Callable[..., None]) -> int:
    """The address of one of the kernels above, which is compiled on first use."""
    address: int = _compiled(kernel).address
    return address


@intrinsic
def _call(
    _typing: Any, _kernel: Any, _first: Any, _second: Any, _begun: Any, _width: Any, _rows: Any,
    _columns: Any, _work: Any, _out: Any,
) -> Any:  # fmt: skip
    """Call the kernel at an address."""
    signature = types.void(*[types.intp] * 9)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kernel, *values = args
        kinds = [context.get_value_type(kind) for kind in _SIGNATURE.args]
        function = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
        given = (
            builder.inttoptr(value, kind) if isinstance(kind, ir.PointerType) else value
            for value, kind in zip(values, kinds, strict=True)
        )
        builder.call(builder.inttoptr(kernel, function), list(given))
        return context.get_dummy_value()

    return signature, codegen


@njit(nogil=True, inline="always")
def _multiply_at(
    kernel: int, first: int, second: int, begun: int, width: int, rows: int, columns: int,
    work: int, out: int,
) -> None:  # fmt: skip
    _call(kernel, first, second, begun, width, rows, columns, work, out)  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def multiply(
    kernel: int,
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    begun: NDArray[np.int32],
    width: int,
    rows: int,
    columns: int,
    work: NDArray[np.uint8],
    out: NDArray[np.int32],
) -> None:
    """Write the products of codes by the kernel at an address; the other parameters are those of
    `byte_products.multiply`.
    """
    _multiply_at(
        kernel, first.ctypes.data, second.ctypes.data, begun.ctypes.data, width, rows, columns,
        work.ctypes.data, out.ctypes.data,
    )  # fmt: skip


@njit(nogil=True)
def next_strip(strips: Strips, row: int, height: int, values: NDArray[Any]) -> tuple[int, int]:
    """Write the values of a tile's rows from `row` on, of one strip.

    Return the tile's row that is the first of `values`, which may lie before `row`, and the first
    row that is not computed yet. A tile of `height` rows without strips has all its values.
    """
    if strips.kernel == 0:
        return 0, height
    start = (strips.top + row) // PANEL * PANEL
    stop = min(start + ROWS, strips.top + height)
    _multiply_at(
        strips.kernel, strips.first + start * strips.width, strips.second, strips.begun,
        strips.width, stop - start, values.shape[1], strips.work, values.ctypes.data,
    )  # fmt: skip
    return start - strips.top, stop - strips.top
