"""Products of float32 rows, by the fastest library for this processor."""

import threading
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray


class Product(threading.local):
    """Compute float32 tiles `a @ b.T`, within `product_slack` of every pair's `score`.

    oneDNN multiplies them, because it uses the best instructions of any processor. MKL, behind
    `torch.mm`, does so only on Intel processors and is half as fast on others. A tile is valid
    until the thread requests the next one.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0)

    def __call__(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tile `[N, M]` of `a` `[N, D]` and `b` `[M, D]`."""
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


@cache
def onednn() -> bool:
    """Whether this build of torch multiplies with oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def as_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """The array as a tensor for reading; they share memory.

    torch warns if it gets a read-only array, such as Ray and memory maps return.
    """
    if array.flags.writeable:
        return torch.from_numpy(array)
    return torch.from_numpy(np.asarray(_Unlocked(array)))


class _Unlocked:
    """The memory of an array, which numpy believes may be written to; it keeps the array alive."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
