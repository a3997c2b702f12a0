"""Learn travel times from pairs of sightings that are likely one person.

Some pairs are wrong, and their times are random. The limits of a pair of cameras are therefore the
shortest stretch that holds most of its pairs, plus a margin on both sides. If two cameras have far
fewer pairs than chance would give, nobody gets from one to the other.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pipeline.core.travel.times import SECOND, Sightings, TravelTimes


@dataclass(frozen=True)
class Learning:
    """Settings of `learn`; ValueError for values without meaning."""

    fewest: int = 10
    """The least number of pairs from one camera to another that sets a limit."""
    share: float = 0.95
    """Share of the pairs that the shortest stretch of time holds."""
    margin: float = 0.25
    """The margin on both sides, as a share of that stretch."""
    rare: float = 0.1
    """Two cameras with at most this share of the pairs expected by chance are unreachable."""

    def __post_init__(self) -> None:
        if self.fewest < 2:
            raise ValueError(f"fewest must be at least 2, not {self.fewest}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {self.share}")
        if not self.margin >= 0:
            raise ValueError(f"margin must be at least 0, not {self.margin}")
        if not 0 <= self.rare < 1:
            raise ValueError(f"rare must be from 0 to below 1, not {self.rare}")


@dataclass(frozen=True)
class Learned:
    """The travel `times` of C cameras, and the number of `pairs` int64 `[C, C]` that went from one
    to another.
    """

    times: TravelTimes
    pairs: NDArray[np.int64]


def learn(
    first: Sightings, second: Sightings, cameras: int, settings: Learning = Learning()
) -> Learned:
    """Learn the travel times between this number of cameras from pairs of sightings `[P]`.

    Pairs within one camera, and pairs without a camera or a time, are not used. Two cameras with
    fewer than `fewest` pairs get no limit, unless at least `fewest` were expected: the pairs that
    leave the first, times the pairs that reach the second, over all pairs.

    >>> start = np.arange(40) * 1000 * SECOND
    >>> way = (30 + np.arange(40) % 5) * SECOND
    >>> door, yard = np.zeros(40, np.int64), np.ones(40, np.int64)
    >>> found = learn(Sightings(door, start), Sightings(yard, start + way), 2)
    >>> [each[0, 1].item() for each in (found.times.least, found.times.most, found.pairs)]
    [29.0, 35.0, 40]
    """
    known = first.is_known & second.is_known & (first.camera != second.camera)
    later = second.time[known] >= first.time[known]
    a, b = (
        np.where(later, one.camera[known], other.camera[known])
        for one, other in ((first, second), (second, first))
    )
    seconds = np.abs(second.time[known] - first.time[known]) / SECOND
    together = seconds == 0  # as much from the one as from the other
    a, b = np.concatenate([a, b[together]]), np.concatenate([b, a[together]])
    seconds = np.concatenate([seconds, seconds[together]])
    pairs = np.bincount(a * cameras + b, minlength=cameras * cameras).reshape(cameras, cameras)
    expected = pairs.sum(1)[:, None] * pairs.sum(0)[None] / max(1, pairs.sum())
    times = TravelTimes.unknown(cameras)
    never = (expected >= settings.fewest) & (pairs <= settings.rare * expected)
    np.fill_diagonal(never, False)
    times.least[never] = times.most[never] = np.inf
    order = np.lexsort((seconds, b, a))
    cells = (a * cameras + b)[order]
    for i, j in zip(*np.nonzero((pairs >= settings.fewest) & ~never), strict=True):
        low, high = np.searchsorted(cells, [i * cameras + j, i * cameras + j + 1])
        start, stop = _shortest(seconds[order][low:high], settings.share)
        wider = settings.margin * (stop - start)
        times.least[i, j], times.most[i, j] = max(0.0, start - wider), stop + wider
    return Learned(times, pairs)


def _shortest(ordered: NDArray[np.float64], share: float) -> tuple[float, float]:
    """The shortest stretch that holds this share of ascending numbers; of equal ones, the first."""
    held = ceil(share * len(ordered))
    widths = ordered[held - 1 :] - ordered[: len(ordered) - held + 1]
    place = int(np.argmin(widths))
    return float(ordered[place]), float(ordered[place + held - 1])
