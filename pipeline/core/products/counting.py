"""Count rows against all matches of a query at once, for use when many rows come near the matches.

Matches are sorted best first, so a row beats all matches from some place on. If only a few rows
come near, each is placed by binary search. If many do, one comparison of 64 rows with each match
counts them all.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.products.masks import at_least, at_most, bits_set

_MANY = 8
"""With this many marked rows of 64, rows are counted at once, if there are at most eight matches
per marked row.
"""

MOST_MATCHES = 8 * 64
"""The most matches against which rows are counted at once."""


@njit(nogil=True, inline="always")
def are_many(marked: np.uint64, matches: int) -> bool:
    """Whether counting the `marked` rows of 64 at once is faster than placing them one by one."""
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
    """Count the `marked` rows among `line[first : first + 64]`, and return those that stay open.

    A row surely beats match m if its value exceeds `high[m]`, and surely does not if it is below
    `low[m]`; both `[M]` descend, best match first. Each entry of `slots` `[M + 1]` grows by the
    number of rows that beat exactly that many matches. A row between the two bounds of any match
    stays open.
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
    """The number of matches from `start` to `end`, best first, that come after (`score`, `row`)."""
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        if scores[middle] < score or (scores[middle] == score and rows[middle] > row):
            high = middle
        else:
            low = middle + 1
    return end - low
