"""Groups of rows that are likely one identity: mutual neighbors, joined strongest first.

Two rows are linked if each is among the other's k best and their similarity reaches the threshold.
Rows connected by links form a group. Two rows of one moment (one camera at one time) are never in
one group: a link that would join them is refused. Links are taken in descending order, so the
weaker evidence is refused. Without moments, groups are the connected components of the graph of
links. What a person said of two rows counts more than all of this: rows that are the same are of
one group from the start, even if they share a moment; rows that are different never are.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.neighbors.topk import TopK
from pipeline.core.travel.conflicts import Conflicts, are_in_conflict, gap

NO_MOMENT = -1
"""The moment of rows of unknown camera or time: it equals no moment, not even itself."""

_SLOTS = 1 << 20


@dataclass(frozen=True)
class Linking:
    """The settings of linking: mutual neighbors among the `k` best, with at least `threshold`
    similarity.

    Raise ValueError for k below 1, and for a threshold that is not a cosine similarity.
    """

    threshold: float
    k: int = 20

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}")
        if not -1 <= self.threshold <= 1:
            raise ValueError(
                f"the threshold is a cosine similarity from -1 to 1, not {self.threshold}"
            )


@dataclass(frozen=True)
class Links:
    """Pairs of rows, each once: `first` < `second` int64 `[E]`, their `scores` float32 `[E]`.

    The strongest come first; ties by `first`, then by `second`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def from_score(self, threshold: float) -> "Links":
        """The links that reach a similarity."""
        count = int((self.scores.astype(np.float64) >= threshold).sum())
        return Links(self.first[:count], self.second[:count], self.scores[:count])


@dataclass(frozen=True)
class Groups:
    """A partition of N rows.

    `group` int64 `[N]` is the smallest row of the row's group. `strongest` float32 `[N]` is the
    score of the row's best link inside its group, or NaN for a row without one. `refused` is the
    number of links that would have joined two rows that must stay apart.
    """

    group: NDArray[np.int64]
    strongest: NDArray[np.float32]
    refused: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The size of each row's group, int64 `[N]`."""
        return np.bincount(self.group, minlength=len(self.group))[self.group]


def mutual_links(near: TopK, settings: Linking) -> Links:
    """The links among N rows, from the best neighbors `near` `[N, K]` of each row.

    `near` may have more than `settings.k` neighbors per row; only the best k count.

    >>> near = TopK(np.array([[0.9], [0.9], [0.8]], np.float32), np.array([[1], [0], [1]]))
    >>> mutual_links(near, Linking(0.5, k=1))
    Links(first=array([0]), second=array([1]), scores=array([0.9], dtype=float32))
    """
    k = min(settings.k, near.k)
    rows = np.ascontiguousarray(near.rows[:, :k])
    scores = np.ascontiguousarray(near.scores[:, :k])
    first, place = np.nonzero(_is_link(rows, scores, np.float64(settings.threshold)))
    second, found = rows[first, place], scores[first, place]
    order = np.lexsort((second, first, -found))
    return Links(first[order], second[order], found[order])


def join_rows(
    links: Links,
    moments: NDArray[np.int64],
    conflicts: Conflicts | None = None,
    verdicts: Verdicts | None = None,
) -> Groups:
    """Join N rows by their links, strongest first, but never two rows with the same of `moments`
    `[N]`, and never two that are in one of the `conflicts`.

    Moments are numbers from 0, or `NO_MOMENT`. A link is refused if its two groups share a moment
    or are in conflict. So the result depends only on the order of the links, which is total. Cost:
    the smaller group joins the larger one, so each row changes groups at most log2 N times; to
    check a link, the rows of each moment of the smaller group are read, and for conflicts all
    cameras of both groups, and the rows shortly before and after each row of the smaller one.

    The `verdicts`, on rows from 0 to N - 1, come before all links. Rows that are the same are
    joined, whatever moments and conflicts say; a link is refused if its two groups hold rows that
    are different. Raise ValueError for verdicts on other rows, and if they contradict each other.

    >>> links = Links(np.array([0, 1]), np.array([1, 2]), np.array([0.9, 0.8], np.float32))
    >>> join_rows(links, np.array([5, NO_MOMENT, 5])).group
    array([0, 0, 2])
    >>> join_rows(links, np.array([5, NO_MOMENT, 5]), verdicts=Verdicts([[0, 2]])).group
    array([0, 0, 0])
    """
    count = len(moments)
    if len(links) and not 0 <= links.first.min() <= links.second.max() < count:
        raise ValueError(f"links lead beyond the {count} rows that have a moment")
    if conflicts is not None and len(conflicts.camera) != count:
        raise ValueError(f"{len(conflicts.camera)} sightings do not go with {count} rows")
    verdicts = Verdicts() if verdicts is None else verdicts
    same, different = verdicts.same, verdicts.different
    for pairs in (same, different):
        if len(pairs) and not 0 <= pairs.min() <= pairs.max() < count:
            raise ValueError(f"verdicts name rows beyond the {count} that have a moment")
    root, refused = _join(
        np.concatenate([same[:, 0], links.first]),
        np.concatenate([same[:, 1], links.second]),
        len(same),
        *_shared_moments(moments),
        conflicts or Conflicts.none(),
        *_partners(different, count),
    )
    wrong = root[different[:, 0]] == root[different[:, 1]]
    if wrong.any():
        raise ValueError(f"rows {tuple(different[wrong][0].tolist())} are both same and different")
    _, smallest, place = np.unique(root, return_index=True, return_inverse=True)
    group = smallest[place].astype(np.int64)
    strongest = np.full(count, np.nan, np.float32)
    inside = group[links.first] == group[links.second]
    for ends in (links.first[inside], links.second[inside]):
        np.fmax.at(strongest, ends, links.scores[inside])
    return Groups(group, strongest, int(refused))


def _shared_moments(
    moments: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the moments that several rows share; other moments forbid nothing.

    Return the number of each row's moment int64 `[N]` (-1 for none), the rows of the moments one
    after the other, and the start of each moment's rows.
    """
    if (moments < NO_MOMENT).any():
        raise ValueError(f"moments below {NO_MOMENT} have no meaning")
    _, place, sizes = np.unique(moments, return_inverse=True, return_counts=True)
    shared = np.flatnonzero((moments != NO_MOMENT) & (sizes[place] > 1))
    _, numbers, sizes = np.unique(moments[shared], return_inverse=True, return_counts=True)
    number = np.full(len(moments), -1, np.int64)
    number[shared] = numbers
    return number, shared[np.argsort(numbers, kind="stable")], np.cumsum([0, *sizes])


def _partners(pairs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The other rows of each row's pairs, row after row, and the start of each row's."""
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    order = np.argsort(ends[:, 0], kind="stable")
    return ends[order, 1], np.searchsorted(ends[order, 0], np.arange(count + 1))


@njit(nogil=True, cache=True)
def _is_link(
    rows: NDArray[np.int64], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    """Mark the entries of `rows` `[N, k]` that are links; each link is marked in the row of its
    smaller end.
    """
    count, k = rows.shape
    link = np.zeros((count, k), np.bool_)
    for i in range(count):
        for c in range(k):
            j = rows[i, c]
            if j < 0 or scores[i, c] < threshold:
                break
            if j < i:
                continue
            for back in range(k):
                if rows[j, back] == i:
                    link[i, c] = True
                    break
    return link


@njit(nogil=True, cache=True)
def _join(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    forced: int,
    moment: NDArray[np.int64],
    members: NDArray[np.int64],
    starts: NDArray[np.int64],
    conflicts: Conflicts,
    partners: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int]:
    """Join groups by union-find, smaller into larger; return each row's root `[N]` and the refused
    links.

    The first `forced` links are never refused. No row is joined with one of its `partners`.

    The rows of a group form a ring, so that a loop can visit them.
    """
    count = moment.shape[0]
    parent, ring = np.arange(count), np.arange(count)
    size = np.ones(count, np.int64)
    refused = 0
    # Pairs of roots that were refused stay refused, because groups only grow. Each slot has the
    # last pair.
    apart = np.full((_SLOTS, 2), -1, np.int64)
    # The cameras of each group as a list of rows, one for each, with its first and last time.
    cameras = conflicts.low.shape[0]
    known = count if cameras > 0 else 0
    heads, after = np.full(known, -1, np.int64), np.full(known, -1, np.int64)
    earliest, latest = conflicts.time.copy(), conflicts.time.copy()
    for row in range(known):
        if conflicts.camera[row] >= 0:
            heads[row] = row
    for e in range(first.shape[0]):
        large, small = _root(parent, first[e]), _root(parent, second[e])
        if large == small:
            continue
        if size[large] < size[small] or (size[large] == size[small] and large > small):
            large, small = small, large
        known = apart[(large * 1_000_003 + small) % _SLOTS]
        if known[0] == large and known[1] == small:
            refused += 1
            continue
        meet = e >= forced and (
            _meet(large, small, parent, ring, moment, members, starts)
            or _told_apart(large, small, parent, ring, partners, bounds)
        )
        if e >= forced and not meet and cameras > 0:
            ours, theirs = _entries(heads[large], after), _entries(heads[small], after)
            meet = are_in_conflict(ours, theirs, earliest, latest, conflicts)
            meet = meet or _in_gap(large, small, parent, ring, conflicts)
        if meet:
            known[0], known[1] = large, small
            refused += 1
            continue
        if cameras > 0:
            heads[large] = _join_entries(
                heads[large], heads[small], after, earliest, latest, conflicts.camera
            )
        parent[small] = large
        size[large] += size[small]
        ring[large], ring[small] = ring[small], ring[large]
    for row in range(count):
        parent[row] = _root(parent, row)
    return parent, refused


@njit(nogil=True, cache=True)
def _root(parent: NDArray[np.int64], row: int) -> int:
    """The root of a row's group; this also halves the path to it."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@njit(nogil=True, cache=True)
def _meet(
    large: int,
    small: int,
    parent: NDArray[np.int64],
    ring: NDArray[np.int64],
    moment: NDArray[np.int64],
    members: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> bool:
    """Whether a row of the group `small` has the moment of a row of the group `large`."""
    row = small
    while True:
        number = moment[row]
        if number >= 0:
            for other in members[starts[number] : starts[number + 1]]:
                if _root(parent, other) == large:
                    return True
        row = ring[row]
        if row == small:
            return False


@njit(nogil=True, cache=True)
def _told_apart(
    large: int,
    small: int,
    parent: NDArray[np.int64],
    ring: NDArray[np.int64],
    partners: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> bool:
    """Whether a row of the group `small` has a partner in the group `large`."""
    if len(partners) == 0:
        return False
    row = small
    while True:
        for other in partners[bounds[row] : bounds[row + 1]]:
            if _root(parent, other) == large:
                return True
        row = ring[row]
        if row == small:
            return False


@njit(nogil=True, cache=True)
def _entries(head: int, after: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of a list, from its head."""
    count, row = 0, head
    while row >= 0:
        count, row = count + 1, after[row]
    found = np.empty(count, np.int64)
    row = head
    for place in range(count):
        found[place], row = row, after[row]
    return found


@njit(nogil=True, cache=True)
def _join_entries(
    large: int,
    small: int,
    after: NDArray[np.int64],
    earliest: NDArray[np.int64],
    latest: NDArray[np.int64],
    camera: NDArray[np.int64],
) -> int:
    """The head of the list of both groups' cameras."""
    while small >= 0:
        following, row = after[small], large
        while row >= 0 and camera[row] != camera[small]:
            row = after[row]
        if row >= 0:
            earliest[row] = min(earliest[row], earliest[small])
            latest[row] = max(latest[row], latest[small])
        else:
            after[small], large = large, small
        small = following
    return large


@njit(nogil=True, cache=True)
def _in_gap(
    large: int,
    small: int,
    parent: NDArray[np.int64],
    ring: NDArray[np.int64],
    conflicts: Conflicts,
) -> bool:
    """Whether a row of the group `large` lies in the gap around a row of the group `small`."""
    row = small
    while True:
        if conflicts.camera[row] >= 0:
            for other in range(conflicts.low.shape[0]):
                low, high = gap(conflicts, row, other)
                for place in range(low, high):
                    if _root(parent, conflicts.order[place]) == large:
                        return True
        row = ring[row]
        if row == small:
            return False
