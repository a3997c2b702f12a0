"""Pairs of rows whose verdict would change groups the most, spread over cameras.

A threshold says of each link whether its two rows are the same person. With s the similarity, t the
threshold and w a width, it is wrong with the probability

    p = 1 / (1 + exp(|s - t| / w)),

which is one half at the threshold. The change by a verdict is the geometric mean of the sizes of
two groups: those that the link joins, or would join. This is the square root of the number of pairs
of rows between them, so that a few very large groups do not outweigh all others. For a link at or
above the threshold, they are the groups that it joined when links were taken strongest first
(single linkage: a later link within one group changes nothing). For a link below the threshold,
they are the final groups, and only the strongest link between two groups counts. The expected
change of a pair is p times the change.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.core.identities.linking import NO_MOMENT, Links, join_rows
from pipeline.core.identities.verdicts import Verdicts


@dataclass(frozen=True)
class Proposals:
    """Pairs of rows to look at, in the order in which they are proposed.

    `first` < `second` int64 `[P]` are rows, `scores` float32 `[P]` their similarities, and `change`
    float64 `[P]` the expected change.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float32]
    change: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, places: NDArray[np.int64]) -> "Proposals":
        """Those at some places, in that order."""
        return Proposals(
            self.first[places], self.second[places], self.scores[places], self.change[places]
        )


def propose_pairs(
    links: Links,
    moments: NDArray[np.int64],
    cameras: NDArray[np.int64],
    threshold: float,
    most: int,
    *,
    width: float,
    verdicts: Verdicts | None = None,
) -> Proposals:
    """The `most` pairs whose verdict is expected to change most, of N rows with these `links`.

    `moments` int64 `[N]` and `verdicts` are those of `join_rows`; pairs that they decide are not
    proposed. `cameras` int64 `[N]` are numbers. Pairs are chosen one by one: the next one has the
    greatest change, divided by one more than the number of pairs that were chosen between its two
    cameras; ties by the order of links. Raise ValueError for a width that is not above 0, and what
    `join_rows` raises.

    >>> scores = np.array([0.9, 0.8, 0.6], np.float32)
    >>> links = Links(np.array([0, 2, 0]), np.array([1, 3, 2]), scores)
    >>> found = propose_pairs(links, np.full(4, NO_MOMENT), np.zeros(4, np.int64), 0.65, 2,
    ...                       width=0.05)
    >>> found.first, found.second, found.change.round(3)
    (array([0, 2]), array([2, 3]), array([0.538, 0.047]))
    """
    if not width > 0:
        raise ValueError(f"the width must be above 0, not {width}")
    verdicts = Verdicts() if verdicts is None else verdicts
    reached = len(links.from_score(threshold))
    held = Links(links.first[:reached], links.second[:reached], links.scores[:reached])
    groups = join_rows(held, moments, verdicts=verdicts)
    inside = np.flatnonzero(groups.group[held.first] == groups.group[held.second])
    same = verdicts.same
    products = _joined_products(
        np.concatenate([same[:, 0], held.first[inside]]),
        np.concatenate([same[:, 1], held.second[inside]]),
        len(moments),
    )[len(same) :]
    between = _between_groups(links, reached, groups.group)
    sizes = groups.sizes
    places = np.concatenate([inside, between])
    apart = sizes[links.first[between]] * sizes[links.second[between]]
    distance = np.abs(links.scores[places].astype(np.float64) - threshold)
    change = np.sqrt(np.concatenate([products, apart])) * expit(-distance / width)
    kept = np.flatnonzero(change > 0)
    found = Proposals(links.first[places], links.second[places], links.scores[places], change).take(
        kept[np.argsort(-change[kept], kind="stable")]
    )
    return found.take(_spread(found, cameras, _Apart(groups.group, moments, verdicts), most))


def _between_groups(links: Links, reached: int, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the strongest links below the threshold between each two groups."""
    one, other = group[links.first[reached:]], group[links.second[reached:]]
    ends = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
    open_ = np.flatnonzero(ends[:, 0] != ends[:, 1])
    _, strongest = np.unique(ends[open_], axis=0, return_index=True)
    return np.sort(open_[strongest]) + reached


class _Apart:
    """Which groups may not be joined: they have rows of one moment, or a verdict "different"."""

    def __init__(
        self, group: NDArray[np.int64], moments: NDArray[np.int64], verdicts: Verdicts
    ) -> None:
        self._order = np.argsort(group, kind="stable")
        self._sorted = group[self._order]
        self._group, self._moments = group, moments
        ends = group[verdicts.different]
        self._different = {(min(pair), max(pair)) for pair in ends.tolist()}

    def keeps(self, a: int, b: int) -> bool:
        """Whether the groups of the rows `a` and `b` are two, and stay two."""
        one, other = sorted((int(self._group[a]), int(self._group[b])))
        if one == other:
            return False
        if (one, other) in self._different:
            return True
        ours, theirs = (self._moments_of(each) for each in (one, other))
        return bool(np.isin(ours, theirs).any())

    def _moments_of(self, group: int) -> NDArray[np.int64]:
        low, high = np.searchsorted(self._sorted, [group, group + 1])
        moments = self._moments[self._order[low:high]]
        return moments[moments != NO_MOMENT]


def _spread(
    found: Proposals, cameras: NDArray[np.int64], apart: _Apart, most: int
) -> NDArray[np.int64]:
    """Choose places of `found`, which are in the order of their change, one by one."""
    ends = np.sort(np.stack([cameras[found.first], cameras[found.second]], axis=1), axis=1)
    _, kinds = np.unique(ends, axis=0, return_inverse=True)
    kinds = kinds.ravel()
    order = np.argsort(kinds, kind="stable")
    queues = np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1) if len(order) else []
    waiting = [
        (-float(found.change[queue[0]]), int(queue[0]), 0, 0, n) for n, queue in enumerate(queues)
    ]
    heapq.heapify(waiting)
    chosen: list[int] = []
    while waiting and len(chosen) < most:
        _, place, at, taken, n = heapq.heappop(waiting)
        if not apart.keeps(int(found.first[place]), int(found.second[place])):
            chosen.append(place)
            taken += 1
        if at + 1 < len(queues[n]):
            following = int(queues[n][at + 1])
            value = float(found.change[following]) / (1 + taken)
            heapq.heappush(waiting, (-value, following, at + 1, taken, n))
    return np.array(chosen, np.int64)


@njit(nogil=True, cache=True)
def _joined_products(
    first: NDArray[np.int64], second: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The product of the sizes of the two groups that each link joins; 0 if it joins none."""
    parent, size = np.arange(count), np.ones(count, np.int64)
    products = np.zeros(first.shape[0], np.int64)
    for e in range(first.shape[0]):
        a, b = first[e], second[e]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a != b:
            products[e] = size[a] * size[b]
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
    return products
