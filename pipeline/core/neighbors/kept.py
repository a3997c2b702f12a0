"""Update neighbor lists when rows leave a set or new rows arrive."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.neighbors.topk import TopK, best_first


def moved(found: TopK, places: NDArray[np.int64]) -> TopK:
    """Renumber the neighbors `found`, and drop those that left the set.

    `places` int64 `[N]` holds the new number of each old row, or -1 if the row left; the numbers
    ascend. The remaining neighbors move to the front in unchanged order.

    >>> found = TopK(np.array([[0.9, 0.5]], np.float32), np.array([[2, 0]]))
    >>> moved(found, np.array([0, 1, -1]))
    TopK(scores=array([[ 0.5, -inf]], dtype=float32), rows=array([[ 0, -1]]))
    """
    rows = np.where(found.rows < 0, -1, places[found.rows])
    scores = np.where(rows < 0, np.float32(-np.inf), found.scores)
    return best_first(scores, rows, found.k)


def trusted(merged: TopK, left: TopK, whole: NDArray[np.bool_]) -> TopK:
    """Keep only the neighbors of `merged` that are certain: no row outside the list can come before
    them.

    `merged` holds the best of two groups: the neighbors that are `left` of each row's old list, and
    all new rows. If the old list was not `whole` (it did not hold all other rows), then unlisted
    rows come after its last remaining neighbor. They may come before new rows that also come after
    that neighbor, so this function cuts off the latter.
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
    """The `k` best of the neighbors `found`, without the row itself, whose number is in `own`.

    The result is exact if `found` comes from a search for k + 1 neighbors.
    """
    itself = found.rows == own[:, None]
    scores = np.where(itself, np.float32(-np.inf), found.scores)
    return best_first(scores, np.where(itself, -1, found.rows), k)


def without(found: TopK, start: int, stop: int) -> TopK:
    """The neighbors `found`, without the rows `start` to `stop`.

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
    """The number of neighbors `[N]` of each row."""
    return (found.rows >= 0).sum(axis=1)
