"""How long people take from one camera to another, and which sightings can be one person.

A sighting is a camera and a time. Times are those that the cameras' clocks show; where the clocks
of two cameras differ, the seconds between them may be negative.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_CAMERA = -1
"""The camera of sightings whose camera is unknown: it may be any."""

NO_TIME = np.iinfo(np.int64).min
"""The time of sightings whose time is unknown: it may be any."""

SECOND = 1_000_000
"""Microseconds, in which times are counted."""

_NEVER = 2**60
"""More microseconds than lie between two times."""


@dataclass(frozen=True)
class Sightings:
    """Where and when rows were seen: `camera` int64 `[N]` from 0 or `NO_CAMERA`, `time` int64 `[N]`
    in microseconds or `NO_TIME`.
    """

    camera: NDArray[np.int64]
    time: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.camera.shape != self.time.shape or self.camera.ndim != 1:
            raise ValueError(f"{self.camera.shape} cameras do not go with {self.time.shape} times")
        if (self.camera < NO_CAMERA).any():
            raise ValueError(f"cameras below {NO_CAMERA} have no meaning")

    def __len__(self) -> int:
        return len(self.camera)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether each row has both a camera and a time; other rows can be anybody."""
        return (self.camera != NO_CAMERA) & (self.time != NO_TIME)

    def take(self, rows: NDArray[np.int64]) -> "Sightings":
        """The sightings of `rows` `[P]`, in that order."""
        return Sightings(self.camera[rows], self.time[rows])


@dataclass(frozen=True)
class TravelTimes:
    """The `least` and the `most` seconds, float64 `[C, C]`, from camera i (row) to camera j.

    A pair of cameras with times from -inf to inf has no limit. If both times are inf, nobody gets
    from i to j. The times of a camera and itself limit how long after one sighting another one may
    follow. ValueError if a least time is more than its most, and for NaN.

    >>> two = TravelTimes(np.array([[-np.inf, 30], [20, -np.inf]]),
    ...                   np.array([[np.inf, 90], [60, np.inf]]))
    >>> door, yard = Sightings(np.array([0, 0]), np.array([0, 0])), Sightings(
    ...     np.array([1, 1]), np.array([25, -25]) * SECOND)
    >>> two.allow(door, yard)  # 25 seconds are too few to the yard, but enough from it
    array([False,  True])
    """

    least: NDArray[np.float64]
    most: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.least.shape != self.most.shape or self.least.shape != (len(self.least),) * 2:
            raise ValueError(
                f"times {self.least.shape} and {self.most.shape} must be of one shape [C, C]"
            )
        if not (self.least <= self.most).all():
            raise ValueError("the least time of a pair of cameras is more than its most")

    @classmethod
    def unknown(cls, cameras: int) -> "TravelTimes":
        """Travel times without any limit between this number of cameras."""
        shape = cameras, cameras
        return cls(np.full(shape, -np.inf), np.full(shape, np.inf))

    def __len__(self) -> int:
        return len(self.least)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether each pair `[C, C]` has a limit."""
        return ~(np.isneginf(self.least) & np.isposinf(self.most))

    def limits(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The least and the most int64 `[C, C]` in microseconds, rounded to the wider limit."""
        low, high = (np.clip(each * SECOND, -_NEVER, _NEVER) for each in (self.least, self.most))
        return np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)

    def allow(self, first: Sightings, second: Sightings) -> NDArray[np.bool_]:
        """Whether each of the sightings `first` `[N]` can be the person of its partner in `second`.

        A sighting without a camera or a time can be anybody.
        """
        least, most = self.limits()
        known = first.is_known & second.is_known
        a, b = np.where(known, first.camera, 0), np.where(known, second.camera, 0)
        if not len(self):
            return np.ones(len(first), bool)
        later = np.where(known, second.time, 0) - np.where(known, first.time, 0)
        there = (least[a, b] <= later) & (later <= most[a, b])
        back = (least[b, a] <= -later) & (-later <= most[b, a])
        return there | back | ~known

    def apart(self) -> "TravelTimes":
        """The same times, but two sightings by one camera are never one person."""
        least, most = self.least.copy(), self.most.copy()
        np.fill_diagonal(least, np.inf)
        np.fill_diagonal(most, np.inf)
        return TravelTimes(least, most)
