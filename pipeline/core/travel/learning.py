"""Travel times learned from pairs of sightings that are likely one person.

Some pairs are wrong, and lie anywhere in time. So the times of a pair of cameras are those of the
shortest stretch that holds most of its pairs, and a little more on both sides. Where there are far
fewer pairs than the two cameras would give by chance, nobody gets from one to the other.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pipeline.core.travel.times import SECOND, Sightings, TravelTimes


@dataclass(frozen=True)
class Learning:
    """How travel times are learned from pairs; ValueError for values without meaning."""

    fewest: int = 10
    """Pairs from one camera to another that its times rest on at least."""
    share: float = 0.95
    """Share of the pairs that the shortest stretch of time holds."""
    margin: float = 0.25
    """What is added on both sides, as a share of that stretch."""
    rare: float = 0.1
    """Nobody gets from one camera to another for which there is at most this share of the pairs
    that are expected by chance."""

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
    """The travel `times` of C cameras, and the `pairs` int64 `[C, C]` that went from one to
    another.
    """

    times: TravelTimes
    pairs: NDArray[np.int64]


def learn(
    first: Sightings, second: Sightings, cameras: int, settings: Learning = Learning()
) -> Learned:
    """The travel times between so many cameras, from pairs of sightings `[P]` of one person each.

    Pairs of one camera, and those of which a camera or a time is unknown, say nothing. Of a pair
    of cameras with fewer than `fewest` pairs nothing is known, unless as many were to be expected:
    the pairs that leave the one times those that reach the other, over all pairs.

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
    """The shortest stretch that holds this share of some numbers, ascending; the first of these."""
    held = ceil(share * len(ordered))
    widths = ordered[held - 1 :] - ordered[: len(ordered) - held + 1]
    place = int(np.argmin(widths))
    return float(ordered[place]), float(ordered[place + held - 1])
