"""One feature per tracklet: the unit mean of its boxes, or the box nearest to all of them; and the
tracklets that training does not see.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows
from pipeline.core.vectors import unit_vectors

_ROWS_AT_ONCE = 16_384


def groups(names: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort the rows that have a name (0 or more) by name.

    Return the positions `[n]` of these rows, and the start of each name among them `[T + 1]`.

    >>> groups(np.array([1, -1, 0, 1]))
    (array([2, 0, 3]), array([0, 1, 3]))
    """
    order = np.argsort(names, kind="stable")
    order = order[names[order] >= 0]
    edges = np.flatnonzero(np.diff(names[order], prepend=-1))
    return order, np.append(edges, len(order))


def is_held_out(name: str, share: float) -> bool:
    """Whether the tracklet of this name is of the `share` (0 to 1) that training must not see.

    It depends on the name alone: the SHA-256 of its UTF-8 bytes, as a number from 0 to 1, is less
    than `share`. So it stays the same in every round, in every process, and when the archive grows.

    >>> [is_held_out(name, 0.5) for name in ("a:1", "a:2", "a:3", "a:4")]
    [True, False, True, False]
    """
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def mean_features(
    rows: FeatureRows,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    medoid: bool = False,
) -> Iterator[NDArray[np.float32]]:
    """Yield the unit features float32 `[t, D]` of the tracklets in order, several at a time.

    Tracklet t consists of the rows `order[starts[t]:starts[t + 1]]` with `weights` `[n]`; the
    weights are equal if they sum to 0. With `medoid`, or if a mean has no direction, the feature is
    the row with the largest weighted sum of similarities to all rows of the tracklet, and the first
    of equal ones.
    """
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + _ROWS_AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        features = rows.take(order[starts[first] : starts[last]])
        made = np.empty((last - first, rows.dimension), np.float32)
        for number in range(first, last):
            begin, end = starts[number], starts[number + 1]
            some = features[begin - starts[first] : end - starts[first]]
            weight = weights[begin:end] if weights[begin:end].sum() > 0 else np.ones(end - begin)
            total = weight @ some.astype(np.float64)
            if medoid or not np.linalg.norm(total) > 1e-6 * weight.sum():
                made[number - first] = some[int(np.argmax(some.astype(np.float64) @ total))]
            else:
                made[number - first] = unit_vectors(total[None])[0]
        yield made
        first = last
