"""The eps of DBSCAN at which the number of clusters changes least.

The number of clusters rises with eps, as rows come within reach of each other, and falls again, as
clusters of different people flow together. Between the two it hardly changes: there the clusters
are those of the data, and not of the eps.

The counts of all eps come from one pass over the pairs. A row is a core row from the distance of
its (`min_samples` - 1)th nearest row on, and two core rows are of one cluster from the largest of
three numbers on: their distance, and the distances from which each is a core row (the mutual
reachability of Campello et al., "Density-based clustering based on hierarchical density estimates",
PAKDD 2013).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.clusters.jaccard import JaccardPairs
from pipeline.core.clusters.joining import root_of_row

_FEWEST_CLUSTERS = 2
_LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class EpsGrid:
    """The eps that are compared: `count` of them, evenly from `lowest` to `highest`.

    `window` neighboring eps are compared with each other. The default is the range in which the
    field sets eps by hand (0.4 to 0.7), and a little more. Raise ValueError for a grid that does
    not ascend within 0 to below 1, and for a window that is even or does not fit.
    """

    lowest: float = 0.4
    highest: float = 0.75
    count: int = 15
    window: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.lowest < self.highest < 1:
            raise ValueError(
                f"eps ascend within 0 to below 1, not from {self.lowest} to {self.highest}"
            )
        if self.window < 3 or self.window % 2 == 0 or self.count < self.window:
            raise ValueError(
                f"a window is an odd number from 3 to the {self.count} eps, not {self.window}"
            )

    def values(self) -> tuple[float, ...]:
        """The eps, ascending, rounded to six decimals.

        >>> EpsGrid(0.4, 0.6, 5, 3).values()
        (0.4, 0.45, 0.5, 0.55, 0.6)
        """
        steps = np.linspace(self.lowest, self.highest, self.count)
        return tuple(round(float(each), 6) for each in steps)


@dataclass(frozen=True)
class EpsChoice:
    """The chosen `eps`, and what DBSCAN finds at every eps of the `grid`.

    For each of these: the number of `clusters`, the share of rows that are `noise`, and the share
    of core rows that are of the `largest` cluster (0 without clusters). `changes` has, where the
    window around an eps fits into the grid, (most - fewest clusters in the window) / most clusters;
    it is None elsewhere, and where no choice is possible (see `choose_eps`).
    """

    eps: float
    grid: tuple[float, ...]
    clusters: tuple[int, ...] = field(metadata={"json": "clusters_by_eps"})
    noise: tuple[float, ...] = field(metadata={"json": "noise_by_eps"})
    largest: tuple[float, ...] = field(metadata={"json": "largest_by_eps"})
    changes: tuple[float | None, ...]


def choose_eps(pairs: JaccardPairs, min_samples: int = 4, grid: EpsGrid = EpsGrid()) -> EpsChoice:
    """The eps of the `grid` around which the number of clusters changes least.

    `pairs` are all pairs of N rows up to `grid.highest`. Counts are those of `dbscan` without
    links. The change around an eps is (most - fewest) / most clusters in the `grid.window` eps
    around it. A window counts only if at each of its eps there are two clusters or more, the
    largest of which holds at most half of the core rows: where everything has flowed together, the
    number is stable, too. The eps of the least change is chosen; of a run of neighbors with equal
    changes the middle one (the lower of two), and of several runs the longest, then the lowest. If
    no window counts, the eps with the most clusters is chosen, and the lowest of several.
    ValueError if `min_samples` is less than 1.

    >>> near = JaccardPairs(np.array([0, 1, 2, 3, 4]), np.array([1, 0, 3, 2], np.int32),
    ...                     np.full(4, 0.42, np.float32))
    >>> found = choose_eps(near, 2, EpsGrid(0.3, 0.6, 7, 3))
    >>> found.clusters, found.changes
    ((0, 0, 0, 2, 2, 2, 2), (None, None, None, None, 0.0, 0.0, None))
    >>> found.eps
    0.5
    """
    if min_samples < 1:
        raise ValueError(f"min_samples must be 1 or more, not {min_samples}")
    values = grid.values()
    clusters, noise, largest = _curves(
        pairs.starts, pairs.rows, pairs.distances, min_samples, np.array(values, np.float32)
    )
    changes = _changes(clusters, largest, grid.window)
    known = {place: change for place, change in enumerate(changes) if change is not None}
    place = _middle_of_least(known) if known else int(np.argmax(clusters))
    return EpsChoice(
        eps=values[place],
        grid=values,
        clusters=tuple(clusters.tolist()),
        noise=tuple((noise / max(1, len(pairs))).tolist()),
        largest=tuple(largest.tolist()),
        changes=changes,
    )


def _changes(
    clusters: NDArray[np.int64], largest: NDArray[np.float64], window: int
) -> tuple[float | None, ...]:
    """The relative change around every eps, None where the window does not count."""
    half = window // 2
    counts = (clusters >= _FEWEST_CLUSTERS) & (largest <= _LARGEST_SHARE)
    changes: list[float | None] = [None] * len(clusters)
    for place in range(half, len(clusters) - half):
        around = slice(place - half, place + half + 1)
        if counts[around].all():
            some = clusters[around]
            changes[place] = float((some.max() - some.min()) / some.max())
    return tuple(changes)


def _middle_of_least(known: dict[int, float]) -> int:
    """The middle of the longest run of places with the least change."""
    least = min(known.values())
    places = [place for place, change in known.items() if change == least]
    cuts = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(places)) if b > a + 1), len(places)]
    run = max((places[a:b] for a, b in pairwise(cuts)), key=len)
    return run[(len(run) - 1) // 2]


@njit(nogil=True, cache=True)
def _curves(
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    distances: NDArray[np.float32],
    min_samples: int,
    grid: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The number of clusters, of noise rows, and the largest share at every eps of the grid."""
    n, count = starts.shape[0] - 1, grid.shape[0]
    # The place in the grid from which on a row is a core row; `count` for never.
    core = np.full(n, count, np.int64)
    for i in range(n):
        others = starts[i + 1] - starts[i]
        if min_samples == 1:
            core[i] = 0
        elif others >= min_samples - 1:
            near = np.sort(distances[starts[i] : starts[i + 1]])
            core[i] = np.searchsorted(grid, near[min_samples - 2])
    # The place from which on each pair joins its rows, and from which on each row is in a cluster.
    joins = np.zeros(count + 2, np.int64)
    found = core.copy()
    for i in range(n):
        for entry in range(starts[i], starts[i + 1]):
            j = rows[entry]
            reached = max(np.searchsorted(grid, distances[entry]), core[j])
            found[i] = min(found[i], reached)
            if j > i:
                joins[max(reached, core[i]) + 1] += 1
    for place in range(count + 1):
        joins[place + 1] += joins[place]
    ends = joins[:-1].copy()
    first, second = np.empty(joins[count], np.int32), np.empty(joins[count], np.int32)
    for i in range(n):
        for entry in range(starts[i], starts[i + 1]):
            j = rows[entry]
            if j > i:
                place = max(np.searchsorted(grid, distances[entry]), core[i], core[j])
                if place < count:
                    first[ends[place]], second[ends[place]] = i, j
                    ends[place] += 1
    clusters, noise = np.zeros(count, np.int64), np.zeros(count, np.int64)
    largest = np.zeros(count, np.float64)
    parents, sizes = np.arange(n), np.ones(n, np.int64)
    cores_at, found_at = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for i in range(n):
        cores_at[core[i]] += 1
        found_at[found[i]] += 1
    number, cores, size, left = 0, 0, 0, n
    for place in range(count):
        cores += cores_at[place]
        number += cores_at[place]
        left -= found_at[place]
        if cores:
            size = max(size, 1)
        for entry in range(joins[place], joins[place + 1]):
            a, b = root_of_row(parents, first[entry]), root_of_row(parents, second[entry])
            if a != b:
                low, high = min(a, b), max(a, b)
                parents[high] = low
                sizes[low] += sizes[high]
                size = max(size, sizes[low])
                number -= 1
        clusters[place], noise[place] = number, left
        if cores:
            largest[place] = size / cores
    return clusters, noise, largest
