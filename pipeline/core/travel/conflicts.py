"""Check groups of rows for two sightings that cannot be one person.

Two cameras allow one stretch of seconds between their sightings, or two stretches with a gap
between them: one for the way there and one for the way back. Two groups are therefore checked by
the first and last time of each at each camera, and by the rows in the gap around each row of the
smaller group.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.travel.times import Sightings, TravelTimes

_BEYOND = 2**61
"""More microseconds than any limit of travel times."""


class Conflicts(NamedTuple):
    """Rows sorted by camera and time, and the limits between the times of two cameras.

    `order` int64 `[K]` holds the rows with a known camera and time, sorted by camera and time, and
    `times` `[K]` their times. Those of camera c are at the places `starts[c]` to `starts[c + 1]`.
    For other rows `camera` `[N]` is -1 and `time` `[N]` has no meaning. A row of camera j must be
    `low` to `high` microseconds, int64 `[C, C]`, later than a row of camera i, but not between
    `gap_low` and `gap_high`.
    """

    camera: NDArray[np.int64]
    time: NDArray[np.int64]
    order: NDArray[np.int64]
    times: NDArray[np.int64]
    starts: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    gap_low: NDArray[np.int64]
    gap_high: NDArray[np.int64]

    @classmethod
    def of(cls, seen: Sightings, travel: TravelTimes) -> "Conflicts":
        """Prepare the check of rows `[N]` with these sightings.

        >>> two = TravelTimes(np.full((2, 2), 30.0), np.full((2, 2), 90.0))
        >>> found = Conflicts.of(Sightings(np.array([1, -1, 0]), np.array([5, 6, 7])), two)
        >>> found.order, found.low[0, 1], found.gap_high[0, 1]
        (array([2, 0]), np.int64(-90000000), np.int64(30000000))
        """
        known = np.flatnonzero(seen.is_known)
        order = known[np.lexsort((seen.time[known], seen.camera[known]))]
        camera = np.where(seen.is_known, seen.camera, -1)
        starts = np.searchsorted(seen.camera[order], np.arange(len(travel) + 1))
        limits = _limits(travel)
        return cls(camera, seen.time, order, seen.time[order], starts, *limits)

    @classmethod
    def none(cls) -> "Conflicts":
        """A check that never finds a conflict."""
        nothing, square = np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
        return cls(nothing, nothing, nothing, nothing, np.zeros(1, np.int64), *(square,) * 4)


def _limits(travel: TravelTimes) -> tuple[NDArray[np.int64], ...]:
    """Join the stretches there and back to one from `low` to `high`, and find their gap."""
    least, most = travel.limits()
    # Nobody gets there: a stretch without a time, which leaves the other one.
    starts, ends = np.stack([least, -most.T]), np.stack([most, -least.T])
    never = np.stack([np.isposinf(travel.least), np.isposinf(travel.least).T])
    starts, ends = np.where(never, _BEYOND, starts), np.where(never, -_BEYOND, ends)
    later = np.argmax(starts, axis=0)[None]
    gap_low = np.take_along_axis(ends, 1 - later, 0)[0]
    gap_high = np.take_along_axis(starts, later, 0)[0]
    gap_low = np.where(never.any(axis=0), gap_high, gap_low)
    return starts.min(axis=0), ends.max(axis=0), gap_low, gap_high


@njit(nogil=True, cache=True)
def are_in_conflict(
    entries: NDArray[np.int64],
    other_entries: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    conflicts: Conflicts,
) -> bool:
    """Whether two groups hold rows that are too far apart in time.

    `entries` and `other_entries` are rows, one for each camera of a group; `first` and `last` hold
    the first and last time of the group at that row's camera.
    """
    for one in entries:
        a = conflicts.camera[one]
        for other in other_entries:
            b = conflicts.camera[other]
            if last[other] - first[one] > conflicts.high[a, b]:
                return True
            if first[other] - last[one] < conflicts.low[a, b]:
                return True
    return False


@njit(nogil=True, inline="always")
def gap(conflicts: Conflicts, row: int, other: int) -> tuple[int, int]:
    """The places in `conflicts.order` of the rows of camera `other` in the gap around a row.

    The first place, and the one after the last.
    """
    own, time = conflicts.camera[row], conflicts.time[row]
    start, stop = conflicts.starts[other], conflicts.starts[other + 1]
    low, high = conflicts.gap_low[own, other], conflicts.gap_high[own, other]
    if low >= high:
        return start, start
    times = conflicts.times[start:stop]
    begin = np.searchsorted(times, time + low, "right")
    end = np.searchsorted(times, time + high, "left")
    return start + begin, start + max(begin, end)
