"""Rows that are joined step by step: a forest in which every row points at a parent.

A row that is its own parent is a root (Tarjan, "Efficiency of a good but not linear set union
algorithm", JACM 22, 1975).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def root_of_row(parents: NDArray[np.int64], row: int) -> int:
    """The root of one row; shortens the way to it."""
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


@njit(nogil=True, cache=True)
def roots_of_rows(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The root of every row, which is the same for all rows that were joined."""
    out = np.empty(parents.shape[0], np.int64)
    for row in range(out.shape[0]):
        out[row] = root_of_row(parents, row)
    return out


@njit(nogil=True, cache=True)
def join_all(parents: NDArray[np.int64], links: NDArray[np.int64]) -> None:
    """Join the two rows of every link `[L, 2]`; the lower root stays one."""
    for link in range(links.shape[0]):
        a, b = root_of_row(parents, links[link, 0]), root_of_row(parents, links[link, 1])
        parents[max(a, b)] = min(a, b)
