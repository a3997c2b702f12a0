"""Products of float32 rows, by the fastest library for this processor.

torch is the fastest, but takes more than a second to load. A process that multiplies little never
loads it.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_QUICK = 2**30
"""A thread multiplies and adds that many components in a tenth of the time that torch loads."""

_thread = threading.local()


def use_one_thread() -> None:
    """Let products in this thread use no other one, also if torch is not loaded yet."""
    _thread.alone = True
    if "torch" in sys.modules:
        _obey()


def _obey() -> None:
    """Tell torch, once, what `use_one_thread` has said of this thread."""
    if getattr(_thread, "alone", False):
        import torch

        torch.set_num_threads(1)
        _thread.alone = False


class Product(threading.local):
    """Compute float32 tiles `a @ b.T`, within `product_slack` of every pair's `score`.

    oneDNN multiplies them, because it uses the best instructions of any processor. MKL, behind
    `torch.mm`, does so only on Intel processors and is half as fast on others. While torch is not
    loaded, a kernel of ours multiplies what is not worth loading it; NumPy would use all threads
    for each tile. A tile is valid until the thread requests the next one.
    """

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None
        self._multiplied = 0

    def __call__(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tile `[N, M]` of `a` `[N, D]` and `b` `[M, D]`."""
        if "torch" not in sys.modules:
            self._multiplied += a.size * len(b)
            if self._multiplied <= _QUICK:
                return _few(a, b)
        import torch

        if self._buffer is None:
            self._buffer = torch.empty(0)
        if onednn():
            product = torch.ops.mkldnn._linear_pointwise
            tile: torch.Tensor = product(as_tensor(a), as_tensor(b), None, "none", [], "")
            return tile.numpy()
        size = len(a) * len(b)
        # New memory pages for each tile would cost as much as the arithmetic.
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size)
        tile = self._buffer[:size].view(len(a), len(b))
        return torch.mm(as_tensor(a), as_tensor(b).t(), out=tile).numpy()


def _few(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    # numba takes longer to load than most importers of this module run.
    from pipeline.core.products.kernels import all_scores, read_only

    tile = np.empty((len(a), len(b)), np.float32)
    all_scores(read_only(np.ascontiguousarray(a)), read_only(np.ascontiguousarray(b)), tile)
    return tile


@cache
def onednn() -> bool:
    """Whether this build of torch multiplies with oneDNN."""
    import torch

    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def as_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """The array as a tensor for reading; they share memory.

    torch warns if it gets a read-only array, such as Ray and memory maps return.
    """
    import torch

    _obey()
    if array.flags.writeable:
        return torch.from_numpy(array)
    return torch.from_numpy(np.asarray(_Unlocked(array)))


class _Unlocked:
    """The memory of an array, which numpy believes may be written to; it keeps the array alive."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
