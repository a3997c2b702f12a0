"""A hash of the features of each row, to detect whether they have changed."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, blocks


def row_signatures(
    rows: FeatureRows, *, at_once: int = 8192, tiling: Tiling = Tiling()
) -> NDArray[np.int64]:
    """A 64-bit hash `[N]` of every row of `rows` `[N, D]`, computed from the bits of its features.

    Two different rows have the same hash with a probability of 2^-64. The hash does not protect
    against a deliberate forgery.

    >>> from pipeline.core.blocks import ArrayRows
    >>> one, same, other = row_signatures(ArrayRows(np.float32([[1, 0], [1, 0], [0, 1]])))
    >>> bool(one == same), bool(one == other)
    (True, False)
    """
    out = np.empty(len(rows), np.int64)
    with tiling.workers() as run:
        run(
            lambda a, b: _sign(rows.read(a, b).view(np.uint32), out[a:b]),
            blocks(len(rows), at_once),
        )
    return out


@njit(nogil=True, cache=True)
def _sign(words: NDArray[np.uint32], out: NDArray[np.int64]) -> None:
    """Mix the words with the steps of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    for i in range(words.shape[0]):
        state = np.uint64(0)
        for word in words[i]:
            state = (state ^ np.uint64(word)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out[i] = np.int64(state ^ (state >> np.uint64(31)))
