"""Counting rows against all matches of a query at once, where many rows come near them.

A row beats the matches, best first, from some place on. Where only a few rows come near, each is
placed by halving; where many do, one comparison of 64 rows with each match counts them all.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.products.masks import at_least, at_most, bits_set

_MANY = 8
"""So many rows of 64 are counted at once, if the matches are no more than eight for each."""

MOST_MATCHES = 8 * 64
"""The most matches against which rows are counted at once."""


@njit(nogil=True, inline="always")
def are_many(marked: np.uint64, matches: int) -> bool:
    """Whether the rows `marked` of 64 are sooner counted at once than placed one by one."""
    count = bits_set(marked)
    return count >= _MANY and 8 * count >= matches


@njit(nogil=True, inline="always")
def count_at_once(
    line: NDArray[Any],
    first: int,
    marked: np.uint64,
    low: NDArray[Any],
    high: NDArray[Any],
    slots: NDArray[np.int64],
) -> np.uint64:
    """Count the rows `marked` among `line[first : first + 64]`; gives those that stay open.

    A row beats match m for certain where its value exceeds `high[m]`, and not where it is below
    `low[m]`, both `[M]` and descending, as the best match comes first. Each of `slots` `[M + 1]`
    grows by the rows that beat so many matches. A row between the two for any match stays open.
    """
    still_open = np.uint64(0)
    for match in range(low.shape[0] - 1, -1, -1):
        reached = at_least(line, first, low[match]) & marked
        if reached == 0:
            break
        still_open |= reached & at_most(line, first, high[match])
    settled = marked & ~still_open
    beating, beaten = bits_set(settled), 0
    for match in range(low.shape[0] - 1, -1, -1):
        if beating == 0:
            break
        beating_this = bits_set(at_least(line, first, low[match]) & settled)
        slots[beaten] += beating - beating_this
        beating, beaten = beating_this, beaten + 1
    slots[beaten] += beating
    return still_open


@njit(nogil=True, inline="always")
def matches_beaten(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    start: int,
    end: int,
    score: Any,
    row: int,
) -> int:
    """How many of the matches `start` to `end`, best first, come after (`score`, `row`)."""
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        if scores[middle] < score or (scores[middle] == score and rows[middle] > row):
            high = middle
        else:
            low = middle + 1
    return end - low
