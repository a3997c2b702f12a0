"""DBSCAN on pairs of rows, with pairs that people have judged: must-links and cannot-links.

Ester et al., "A density-based algorithm for discovering clusters" (KDD 1996). A core row has at
least `min_samples` rows within reach, itself among them. Core rows within reach of each other are
of one cluster; any other row within reach of a core row is on the border of that row's cluster; all
others are noise. Without links, labels are those of scikit-learn on the dense matrix of distances.

Links change this so: rows of a must-link are of one cluster, even where neither is a core row. Two
rows of a cannot-link are never of one cluster: core rows join in the order of their distances, the
nearest first, and two clusters that hold such rows stay apart.
"""

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.clusters.jaccard import JaccardPairs
from pipeline.core.clusters.joining import join_all, root_of_row, roots_of_rows

NOISE = -1
"""The label of a row of no cluster."""

RowPairs = NDArray[np.int64]
"""Pairs of rows `[L, 2]`."""

_NONE: RowPairs = np.empty((0, 2), np.int64)


def dbscan(
    pairs: JaccardPairs, min_samples: int = 4, *, must: RowPairs = _NONE, cannot: RowPairs = _NONE
) -> NDArray[np.int64]:
    """The cluster int64 `[N]` of every row, from 0, or `NOISE`.

    `pairs` are all pairs of N rows within reach. Clusters are numbered by their lowest core row, or
    lowest row where a must-link alone makes the cluster. A border row that several clusters reach
    joins the one of the lowest number that holds no row which it must not join. ValueError if
    `min_samples` is less than 1, if a link names a row that does not exist or the same row twice,
    and if must-links join two rows of a cannot-link.

    >>> near = JaccardPairs(np.array([0, 1, 3, 4, 4]), np.array([1, 0, 2, 1], np.int32),
    ...                     np.array([0.2, 0.2, 0.3, 0.3], np.float32))
    >>> dbscan(near, 2)
    array([ 0,  0,  0, -1])
    >>> dbscan(near, 2, must=np.array([[2, 3]]), cannot=np.array([[0, 2]]))
    array([0, 0, 1, 1])
    """
    if min_samples < 1:
        raise ValueError(f"min_samples must be 1 or more, not {min_samples}")
    n = len(pairs)
    must, cannot = checked_links(must, cannot, n)
    parents = np.arange(n)
    join_all(parents, must)
    core = np.diff(pairs.starts) + _linked(pairs, must) + 1 >= min_samples
    a, b = _between(core, pairs)
    _join_apart(parents, a, b, cannot)
    return _labels(pairs, core, roots_of_rows(parents), cannot)


def checked_links(must: RowPairs, cannot: RowPairs, n: int) -> tuple[RowPairs, RowPairs]:
    """Both kinds of links among `n` rows, int64 `[L, 2]`; the ValueErrors are those of `dbscan`.

    >>> [links.shape for links in checked_links(np.array([[0, 1]]), np.empty(0), 2)]
    [(1, 2), (0, 2)]
    """
    must, cannot = (
        _checked(links, n, name) for links, name in ((must, "must"), (cannot, "cannot"))
    )
    parents = np.arange(n)
    join_all(parents, must)
    roots = roots_of_rows(parents)
    for a, b in cannot:
        if roots[a] == roots[b]:
            raise ValueError(
                f"rows {a} and {b} must not be of one cluster, but must-links join them"
            )
    return must, cannot


def _checked(links: RowPairs, n: int, name: str) -> RowPairs:
    links = np.asarray(links, np.int64).reshape(-1, 2)
    if len(links) and (links.min() < 0 or links.max() >= n or (links[:, 0] == links[:, 1]).any()):
        raise ValueError(f"{name}: a link is two different rows from 0 to {n - 1}")
    return links


def _linked(pairs: JaccardPairs, must: RowPairs) -> NDArray[np.int64]:
    """How many rows a must-link brings within reach of each row, that were not."""
    both = np.unique(np.concatenate([must, must[:, ::-1]]), axis=0)
    more = np.zeros(len(pairs), np.int64)
    for a, b in both:
        near = pairs.rows[pairs.starts[a] : pairs.starts[a + 1]]
        more[a] += b not in near
    return more


def _between(core: NDArray[np.bool_], pairs: JaccardPairs) -> tuple[RowPairs, RowPairs]:
    """The pairs of two core rows, the nearest first; at one distance, in the order of the rows."""
    owners = np.repeat(np.arange(len(pairs)), np.diff(pairs.starts))
    kept = np.flatnonzero((owners < pairs.rows) & core[owners] & core[pairs.rows])
    kept = kept[np.argsort(pairs.distances[kept], kind="stable")]
    return owners[kept], pairs.rows[kept].astype(np.int64)


@njit(nogil=True, cache=True)
def _join_apart(
    parents: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    cannot: RowPairs,
) -> None:
    """Join the rows of every pair in turn, unless that joins two rows of a cannot-link."""
    bound = np.zeros(parents.shape[0], np.bool_)  # roots of clusters with a row of a cannot-link
    for link in range(cannot.shape[0]):
        bound[root_of_row(parents, cannot[link, 0])] = True
        bound[root_of_row(parents, cannot[link, 1])] = True
    for pair in range(first.shape[0]):
        a, b = root_of_row(parents, first[pair]), root_of_row(parents, second[pair])
        if a == b:
            continue
        allowed = True
        if bound[a] and bound[b]:
            for link in range(cannot.shape[0]):
                c, d = root_of_row(parents, cannot[link, 0]), root_of_row(parents, cannot[link, 1])
                if (c == a and d == b) or (c == b and d == a):
                    allowed = False
                    break
        if allowed:
            low = min(a, b)
            parents[max(a, b)] = low
            bound[low] = bound[a] or bound[b]


def _labels(
    pairs: JaccardPairs, core: NDArray[np.bool_], roots: NDArray[np.int64], cannot: RowPairs
) -> NDArray[np.int64]:
    """Number the clusters of core rows, and let all other rows and groups of rows join them."""
    has_core = np.zeros(len(core), bool)
    has_core[roots[core]] = True
    firsts: dict[int, int] = {}
    for root in roots[core].tolist():
        firsts.setdefault(root, len(firsts))
    labels = np.full(len(core), NOISE)
    members = np.flatnonzero(has_core[roots])
    labels[members] = [firsts[root] for root in roots[members].tolist()]
    apart = _partners(cannot)
    count = len(firsts)
    for group in _groups(np.flatnonzero(~has_core[roots]), roots):
        near = np.concatenate([pairs.rows[pairs.starts[i] : pairs.starts[i + 1]] for i in group])
        barred = {int(labels[other]) for row in group for other in apart.get(int(row), ())}
        reached = set(labels[near[core[near]]].tolist()) - barred
        if reached:
            labels[group] = min(reached)
        elif len(group) > 1:
            labels[group] = count
            count += 1
    return _renumbered(labels, core)


def _partners(cannot: RowPairs) -> dict[int, list[int]]:
    """Which rows each row must not join."""
    apart: dict[int, list[int]] = {}
    for a, b in cannot.tolist():
        apart.setdefault(a, []).append(b)
        apart.setdefault(b, []).append(a)
    return apart


def _groups(rows: NDArray[np.int64], roots: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows by their root, which several share where must-links join them, in ascending order."""
    order = rows[np.argsort(roots[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    bounds = [0, *cuts.tolist(), len(order)] if len(order) else []
    return [order[a:b] for a, b in pairwise(bounds)]


def _renumbered(labels: NDArray[np.int64], core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Labels in the order of the lowest core row of each cluster, or of its lowest row."""
    firsts: dict[int, int] = {}
    for rows in (np.flatnonzero(core), np.flatnonzero(labels != NOISE)):
        for label, row in zip(labels[rows].tolist(), rows.tolist(), strict=True):
            firsts.setdefault(label, row)
    order = {label: place for place, label in enumerate(sorted(firsts, key=firsts.__getitem__))}
    return np.array([order.get(label, NOISE) for label in labels.tolist()], np.int64)
