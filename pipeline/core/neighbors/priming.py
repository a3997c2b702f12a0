"""Raise the scores of empty heaps before a tile is offered to them, so that few of its pairs count.

Without this, a row of the first tile scores many pairs that better ones replace soon afterwards.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.neighbors.heaps import push
from pipeline.core.products.kernels import row_scores_at
from pipeline.core.products.masks import at_least, first_bit
from pipeline.core.products.tiles import Tile

# Duplicates may reach a value by the thousand; some of them are as good as all.
_MOST_OF_COUNT = 2


def prime(
    tile: Tile,
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> int:
    """Raise the scores of empty heaps `[N, k]` to a value that k pairs of the tile are sure to
    exceed; return the number of pairs scored.

    For each row, score some of the columns with the greatest values, by the features of both sides.
    A row itself may be among the columns, so the function takes the score that k + 1 columns reach:
    at least k of them are other rows. Real rows replace all these placeholders when the tile is
    offered. Until then they exclude most pairs from scoring.
    """
    if tile.strips.kernel:
        return 0  # the values are computed later, strip by strip
    count, width = scores.shape[1] + 1, tile.values.shape[1]
    empty = rows[tile.rows].max(axis=1) < 0
    if width < count or not empty.any():
        return 0
    least = _among_the_best(tile.values, count)
    # Where a guess already excludes as much, scores would raise nothing.
    wanted = empty & (least / tile.per_unit + tile.slack > scores[tile.rows, 0])
    scored: int = _raise(tile.values, tile.rows, tile.columns, least, wanted, first, second, scores)
    return scored


def _among_the_best(values: NDArray[Any], count: int) -> NDArray[Any]:
    """For each row of `values` `[R, C]`, a value that at least `count` entries of the row reach.

    It is close to the greatest such value: the function takes the maximum of each of several groups
    of entries, which is fast, and selects among these maxima.
    """
    groups = 64 * -(-4 * count // 64)
    each = values.shape[1] // groups
    if each > 1:
        values = values[:, : each * groups].reshape(len(values), each, groups).max(axis=1)
    place = values.shape[1] - count
    # A column of its own: numba would compile its reader once more for a slice.
    return np.ascontiguousarray(np.partition(values, place, axis=1)[:, place])


@njit(nogil=True, cache=True)
def _raise(
    values: NDArray[Any],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    least: NDArray[Any],
    wanted: NDArray[np.bool_],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> int:
    """Raise the scores of the `wanted` rows to just below the k + 1st best of some of their pairs:
    of those whose value reaches `least`. Return the number of these pairs.
    """
    count, dimension = scores.shape[1] + 1, first.shape[1]
    most, size = _MOST_OF_COUNT * count, 4 * dimension
    found = np.empty(most + 64 + 3, np.int64)
    best, places = np.empty(count, np.float32), np.empty(count, np.int64)
    scored = 0
    for r in range(rows.shape[0]):
        if not wanted[r]:
            continue
        line, held = values[r], 0
        for start in range(0, line.shape[0], 64):
            near = at_least(line, start, least[r])
            while near != 0:
                found[held] = columns[start + first_bit(near)]
                held += 1
                near &= near - np.uint64(1)
            if held >= most:
                break
        scored += held
        found[held : held + 3] = found[0]  # so that there are four for the last step, too
        best[:], places[:] = -np.inf, -1
        row = first.ctypes.data + size * rows[r]
        for place in range(0, held, 4):
            four = row_scores_at(
                row, second.ctypes.data + size * found[place],
                second.ctypes.data + size * found[place + 1],
                second.ctypes.data + size * found[place + 2],
                second.ctypes.data + size * found[place + 3], dimension,
            )  # fmt: skip
            for each in range(min(4, held - place)):
                push(best, places, four[each], found[place + each])
        # A placeholder of the same score would not give way to a row.
        sure = np.nextafter(best[0], np.float32(-np.inf))
        if sure > scores[rows[r], 0]:
            scores[rows[r]] = sure
    return scored
