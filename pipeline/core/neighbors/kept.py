"""What is left of every row's neighbors when rows leave a set, and what new rows make of it."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.neighbors.topk import TopK, best_first


def moved(found: TopK, places: NDArray[np.int64]) -> TopK:
    """The neighbors `found` under their new numbers; those whose place is -1 are gone.

    `places` int64 `[N]`, ascending but for the -1, is the new number of each old one. The rest
    stands first, in the same order.

    >>> found = TopK(np.array([[0.9, 0.5]], np.float32), np.array([[2, 0]]))
    >>> moved(found, np.array([0, 1, -1]))
    TopK(scores=array([[ 0.5, -inf]], dtype=float32), rows=array([[ 0, -1]]))
    """
    rows = np.where(found.rows < 0, -1, places[found.rows])
    scores = np.where(rows < 0, np.float32(-np.inf), found.scores)
    return best_first(scores, rows, found.k)


def trusted(merged: TopK, left: TopK, whole: NDArray[np.bool_]) -> TopK:
    """The neighbors of `merged` that are certain: no row that is not in it comes before them.

    `merged` are the best of what was `left` of each row's neighbors and of all new rows. Where the
    list before was not `whole` (did not hold all other rows), others stand behind the last row that
    is left, and may come before new rows behind it: these are cut off.
    """
    count = (left.rows >= 0).sum(axis=1)
    last = np.maximum(count - 1, 0)[:, None]
    score, row = np.take_along_axis(left.scores, last, 1), np.take_along_axis(left.rows, last, 1)
    certain = (merged.scores > score) | ((merged.scores == score) & (merged.rows <= row))
    certain = (certain & (count > 0)[:, None]) | whole[:, None]
    certain &= merged.rows >= 0
    return TopK(
        np.where(certain, merged.scores, np.float32(-np.inf)), np.where(certain, merged.rows, -1)
    )


def without_itself(found: TopK, own: NDArray[np.int64], k: int) -> TopK:
    """The `k` best of the neighbors `found`, the row's `own` number left out: it is not a neighbor.

    Exact where k + 1 were searched.
    """
    itself = found.rows == own[:, None]
    scores = np.where(itself, np.float32(-np.inf), found.scores)
    return best_first(scores, np.where(itself, -1, found.rows), k)


def without(found: TopK, start: int, stop: int) -> TopK:
    """The neighbors `found` but for the rows `start` to `stop`.

    >>> found = TopK(np.array([[0.9, 0.5]], np.float32), np.array([[7, 2]]))
    >>> without(found, 5, 8)
    TopK(scores=array([[ 0.5, -inf]], dtype=float32), rows=array([[ 2, -1]]))
    """
    there = (found.rows >= start) & (found.rows < stop)
    if not there.any():
        return found
    scores = np.where(there, np.float32(-np.inf), found.scores)
    return best_first(scores, np.where(there, -1, found.rows), found.k)


def counts(found: TopK) -> NDArray[np.int64]:
    """How many neighbors `[N]` each row has."""
    return (found.rows >= 0).sum(axis=1)
