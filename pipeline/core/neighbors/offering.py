"""Offer the pairs of a tile to the neighbor lists of both rows of each pair."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.neighbors.course import Ends
from pipeline.core.neighbors.heaps import push
from pipeline.core.products.kernels import row_scores_at, score_at
from pipeline.core.products.masks import at_least_either, at_most_either, first_bit
from pipeline.core.products.sieve import sieved
from pipeline.core.products.tiles import (
    Tile,
    far_reach,
    far_threshold,
    gives_up,
    next_values,
    reach,
    threshold,
)

_STRIP = 16
"""Number of tile rows that meet one run of 64 columns in turn, so that both stay in the cache. It
divides 64, so the diagonal crosses each strip within one run.
"""


@njit(nogil=True, cache=True)
def offer_to_both(tile: Tile, first: Ends, second: Ends, diagonal: bool) -> tuple[int, int]:
    """Offer the pairs of a tile to the lists of both rows; return the rows offered completely and
    the pairs scored.

    The function stops early if it must score too many pairs. It computes the `score` only of pairs
    that may replace the root of a heap or, if the caller needs least scores, may be the least of a
    row. In a tile on the `diagonal`, only pairs above the diagonal count.
    """
    height, width = tile.rows.shape[0], tile.columns.shape[0]
    kind, distant = tile.values.dtype, first.least.shape[0] > 0
    values, rows, columns = tile.values, tile.rows, tile.columns
    row_tails, column_tails, sieve = tile.row_tails, tile.column_tails, tile.sieve
    if row_tails.shape[0] == 0:
        row_tails, column_tails = np.zeros(height, np.float32), np.zeros(width, np.float32)
    longest_row, longest_column = row_tails.max(), column_tails.max()
    # A value counts for its row or column if it reaches the near limit or does not exceed the far
    # limit.
    near_rows, far_rows = np.empty(height, kind), np.empty(height, kind)
    near_columns, far_columns = np.empty(width, kind), np.empty(width, kind)
    for c in range(width):
        near_columns[c] = threshold(second.scores[columns[c], 0], tile)
        if distant:
            least = second.least[columns[c]]
            far_columns[c] = far_threshold(least, column_tails[c], longest_row, tile)
    marked, found = np.empty((_STRIP, width), np.int64), np.empty(_STRIP, np.int64)
    four, exact = np.empty(4, np.int64), np.empty(4, np.float32)
    scored = 0
    top = base = ready = 0
    while top < height:
        if gives_up(tile, scored, top):
            return top, scored
        if top == ready:
            base, ready = next_values(tile, top)
        bottom = min(top + _STRIP, ready)
        for r in range(top, bottom):
            near_rows[r] = threshold(first.scores[rows[r], 0], tile)
            if distant:
                far_rows[r] = far_threshold(
                    first.least[rows[r]], row_tails[r], longest_column, tile
                )
            found[r - top] = 0
        for start in range(top // 64 * 64 if diagonal else 0, width, 64):
            for r in range(top, bottom):
                mask = at_least_either(values, r - base, start, near_rows[r], near_columns)
                if distant:
                    mask |= at_most_either(values, r - base, start, far_rows[r], far_columns)
                if diagonal and start <= r:
                    mask &= ~((np.uint64(2) << np.uint64(r - start)) - np.uint64(1))
                while mask != 0:
                    marked[r - top, found[r - top]] = start + first_bit(mask)
                    found[r - top] += 1
                    mask &= mask - np.uint64(1)
        scored += _score_marked(
            values, base, top, bottom, rows, columns, marked, found,
            first.features, first.numbers, first.scores, first.rows, first.least,
            second.features, second.numbers, second.scores, second.rows, second.least,
            near_rows, near_columns, far_rows, far_columns,
            (tile.slack, tile.per_unit, tile.limit),
            row_tails, column_tails, longest_row, longest_column,
            sieve.rows, sieve.columns, sieve.row_tails, sieve.column_tails,
            (sieve.slack, sieve.per_unit, tile.limit), four, exact,
        )  # fmt: skip
        top = bottom
    return height, scored


@njit(nogil=True)
def _score_marked(
    values: NDArray[Any],
    base: int,
    top: int,
    bottom: int,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    marked: NDArray[np.int64],
    found: NDArray[np.int64],
    features: NDArray[np.float32],
    numbers: NDArray[np.int64],
    scores: NDArray[np.float32],
    lists: NDArray[np.int64],
    least: NDArray[np.float32],
    their_features: NDArray[np.float32],
    their_numbers: NDArray[np.int64],
    their_scores: NDArray[np.float32],
    their_lists: NDArray[np.int64],
    their_least: NDArray[np.float32],
    near_rows: NDArray[Any],
    near: NDArray[Any],
    far_rows: NDArray[Any],
    far: NDArray[Any],
    of_tile: tuple[float, float, float],
    tails: NDArray[np.float32],
    their_tails: NDArray[np.float32],
    longest: np.float32,
    their_longest: np.float32,
    finer: NDArray[np.int16],
    their_finer: NDArray[np.int16],
    finer_tails: NDArray[np.float32],
    their_finer_tails: NDArray[np.float32],
    of_sieve: tuple[float, float, float],
    four: NDArray[np.int64],
    exact: NDArray[np.float32],
) -> int:
    """Score the `marked` pairs that still count, offer them to both ends, and return their number.

    This covers the tile's rows `top` to `bottom`, four pairs of a row at a time; `values` begins
    with row `base`. `found` is the number of marked columns of each row. `four` and `exact` `[4]`
    are working memory for these pairs.

    The arrays are separate parameters, without slices: numba counts references each time a tuple of
    arrays is passed or a slice is taken, and that takes longer than one score.
    """
    dimension, distant = features.shape[1], least.shape[0] > 0
    size = 4 * dimension
    ours, theirs = features.ctypes.data, their_features.ctypes.data
    scored = 0
    for r in range(top, bottom):
        held, last = 0, found[r - top] - 1
        i = rows[r]
        for place in range(last + 1):
            c = marked[r - top, place]
            value = values[r - base, c]
            counts = value >= near_rows[r] or value >= near[c]
            if distant and not counts:
                counts = value <= far_rows[r] or value <= far[c]
            if counts and finer.shape[0] > 0:
                j = columns[c]
                sharper = sieved(finer, i, their_finer, j)
                counts = sharper >= reach(min(scores[i, 0], their_scores[j, 0]), of_sieve)
                if distant and not counts:
                    farthest = max(least[i], their_least[j])
                    counts = sharper <= far_reach(
                        farthest, finer_tails[i], their_finer_tails[j], of_sieve
                    )
            if counts:
                four[held] = c
                held += 1
            if held < 4 and place < last:
                continue
            row = ours + size * i
            if held == 4:
                exact[0], exact[1], exact[2], exact[3] = row_scores_at(
                    row, theirs + size * columns[four[0]], theirs + size * columns[four[1]],
                    theirs + size * columns[four[2]], theirs + size * columns[four[3]], dimension,
                )  # fmt: skip
            else:
                for each in range(held):
                    exact[each] = score_at(row, theirs + size * columns[four[each]], dimension)
            for each in range(held):
                c, value_of_pair = four[each], exact[each]
                j = columns[c]
                if value_of_pair >= scores[i, 0]:
                    push(scores[i], lists[i], value_of_pair, their_numbers[j])
                    near_rows[r] = reach(scores[i, 0], of_tile)
                if value_of_pair >= their_scores[j, 0]:
                    push(their_scores[j], their_lists[j], value_of_pair, numbers[i])
                    near[c] = reach(their_scores[j, 0], of_tile)
                if distant and value_of_pair < least[i]:
                    least[i] = value_of_pair
                    far_rows[r] = far_reach(value_of_pair, tails[r], their_longest, of_tile)
                if distant and value_of_pair < their_least[j]:
                    their_least[j] = value_of_pair
                    far[c] = far_reach(value_of_pair, their_tails[c], longest, of_tile)
            scored, held = scored + held, 0
    return scored
