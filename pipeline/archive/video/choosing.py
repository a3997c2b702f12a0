"""Choose the boxes that represent a tracklet: spread in time, large, and finally the sharpest."""

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 3
"""Number of boxes in one part of a tracklet's time among which the sharpest is kept."""


def slots(
    track: NDArray[np.int64],
    micros: NDArray[np.int64],
    area: NDArray[np.float64],
    run: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    """The slot of each box `[N]`; the boxes of one slot compete for it.

    -1 is for boxes that are left out, and -2 for boxes without a track (a negative `track`), which
    are all taken. The time of a track is divided into `count` equal parts. A slot has the largest
    box of a part and the next largest ones of the part in the same `run`, which are decoded
    together.

    >>> one = np.zeros(4, int)
    >>> slots(one, np.array([0, 1, 8, 9]), np.array([1.0, 2, 3, 4]), one, 2)
    array([0, 0, 1, 1])
    """
    found = np.where(track < 0, -2, -1)
    number = 0
    for name in np.unique(track[track >= 0]):
        members = np.flatnonzero(track == name)
        times = micros[members]
        span = max(1, int(times.max() - times.min()))
        part = np.minimum(count - 1, (times - times.min()) * count // span)
        for each in np.unique(part):
            rivals = members[part == each]
            rivals = rivals[np.lexsort((rivals, -area[rivals]))]
            close = rivals[run[rivals] == run[rivals[0]]][:CANDIDATES]
            found[close] = number
            number += 1
    return found
