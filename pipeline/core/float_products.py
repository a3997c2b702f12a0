"""Products of float32 rows, by the fastest library for the processor at hand."""

import threading
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray


class Product(threading.local):
    """Float32 tiles `a @ b.T`: near every pair's `score`, within `product_slack` of it.

    Multiplied by oneDNN, which takes the best instructions of any processor: MKL, behind
    `torch.mm`, takes them of Intel's alone, and is half as fast on others. A tile is valid until
    the thread asks for the next.
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
        # Fresh pages for each tile would cost as much as the arithmetic.
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size)
        tile = self._buffer[:size].view(len(a), len(b))
        return torch.mm(as_tensor(a), as_tensor(b).t(), out=tile).numpy()


@cache
def onednn() -> bool:
    """Whether this build of torch multiplies by oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def as_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """The array as a tensor that shares its memory where it may be written."""
    # torch does not take a read-only array (as Ray and memory maps hand out) without a warning.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
