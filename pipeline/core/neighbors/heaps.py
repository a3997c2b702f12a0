"""Heaps of the k best rows of a query, with the worst at the root, for compiled loops."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, inline="always")
def _worse(score_a: np.float32, row_a: int, score_b: np.float32, row_b: int) -> Any:
    return score_a < score_b or (score_a == score_b and row_a > row_b)


@njit(nogil=True, cache=True)
def push(
    scores: NDArray[np.float32], rows: NDArray[np.int64], new_score: np.float32, new_row: int
) -> None:
    """Replace the root of a heap of best rows if the new row is better, and sift it down."""
    if _worse(scores[0], rows[0], new_score, new_row):
        _sift(scores, rows, 0, scores.shape[0], new_score, new_row)


@njit(nogil=True, inline="always")
def _sift(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    place: int,
    size: int,
    new_score: np.float32,
    new_row: int,
) -> None:
    """Put a row at `place` of a heap of `size` rows; move it down while rows below are worse."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _worse(scores[other], rows[other], scores[child], rows[child]):
            child = other
        if not _worse(scores[child], rows[child], new_score, new_row):
            break
        scores[place], rows[place] = scores[child], rows[child]
        place = child
    scores[place], rows[place] = new_score, new_row


@njit(nogil=True, cache=True)
def sort_best_first(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """Sort every query's row in place with a heap: repeatedly move the worst row to the end."""
    size = scores.shape[1]
    for i in range(scores.shape[0]):
        near, of = scores[i], rows[i]
        for place in range(size // 2 - 1, -1, -1):
            _sift(near, of, place, size, near[place], of[place])
        for last in range(size - 1, 0, -1):
            score_of_last, row_of_last = near[last], of[last]
            near[last], of[last] = near[0], of[0]
            _sift(near, of, 0, last, score_of_last, row_of_last)
