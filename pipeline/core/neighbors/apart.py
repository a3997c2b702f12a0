"""Find, for every row, the k best rows of other groups, exactly.

A row never meets a row of its own group. Each pair of groups is compared once, in few large
products: the groups are split into two halves, the halves meet, and each half is split again. Rows
without a group meet all other rows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.ledger import Ledger
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import TopK

NO_GROUP = -1
"""The group number of rows that meet all other rows, including each other."""

Places = NDArray[np.int64]


def neighbors_apart(
    features: NDArray[np.float32],
    group: Places,
    k: int,
    *,
    first_row: int = 0,
    known: TopK | None = None,
    tiling: Tiling = Tiling(),
    ledger: Ledger | None = None,
) -> TopK:
    """Find the `k` best rows of another group for every row of `features` `[N, D]`; ties by row.

    `group` int64 `[N]` holds numbers from 0, or `NO_GROUP`. The other parameters are those of
    `pairs.neighbors`.

    >>> x = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> neighbors_apart(x, np.array([0, 0, 1]), 1).rows.ravel()
    array([2, 2, 1])
    """
    found = _copied(known, len(features), k)
    numbers = np.arange(len(features)) + first_row
    free = np.flatnonzero(group == NO_GROUP)
    if len(free) > 1:
        near = neighbors(
            features[free], k, first_row=numbers[free], known=_at(found, free), tiling=tiling,
            ledger=ledger,
        )  # fmt: skip
        _put(found, free, near)
    for first, second in _halves(group, group, within=True):
        there, back = between(
            features[first], features[second], k,
            first_row=numbers[first], second_row=numbers[second],
            known=(_at(found, first), _at(found, second)), tiling=tiling, ledger=ledger,
        )  # fmt: skip
        _put(found, first, there)
        _put(found, second, back)
    return found


def between_apart(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    groups: tuple[Places, Places],
    k: int,
    *,
    first_row: int = 0,
    second_row: int = 0,
    known: tuple[TopK | None, TopK | None] = (None, None),
    tiling: Tiling = Tiling(),
    ledger: Ledger | None = None,
) -> tuple[TopK, TopK]:
    """Find the `k` best rows of `second` in another group for every row of `first`, and the
    reverse.

    `groups` holds the group numbers of both sides, int64 `[N]` and `[M]`. The other parameters are
    those of `pairs.between`.

    >>> x = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> there, back = between_apart(x[:1], x[1:], (np.array([0]), np.array([0, 1])), 1,
    ...                             second_row=1)
    >>> there.rows.ravel(), back.rows.ravel()
    (array([2]), array([-1,  0]))
    """
    ours, theirs = _copied(known[0], len(first), k), _copied(known[1], len(second), k)
    for a, b in _halves(*groups, within=False):
        there, back = between(
            first[a], second[b], k, first_row=a + first_row, second_row=b + second_row,
            known=(_at(ours, a), _at(theirs, b)), tiling=tiling, ledger=ledger,
        )  # fmt: skip
        _put(ours, a, there)
        _put(theirs, b, back)
    return ours, theirs


def _halves(first: Places, second: Places, *, within: bool) -> Iterator[tuple[Places, Places]]:
    """Yield the rows of `first` and of `second` that must meet; each pair of groups comes once.

    If both sides are one set (`within`), a pair does not meet again with its ends swapped, and rows
    without a group do not meet each other.
    """
    sides = [np.argsort(each, kind="stable") for each in (first, second)]
    ordered = [each[side] for each, side in zip((first, second), sides, strict=True)]
    groups = np.union1d(first, second)
    groups = groups[groups != NO_GROUP]

    def rows(side: int, low: int, high: int) -> Places:
        """The rows of one side in the groups `low` to `high` (exclusive), ascending."""
        start, stop = np.searchsorted(ordered[side], [low, high])
        return np.sort(sides[side][start:stop])

    end = int(groups[-1]) + 1 if len(groups) else 0
    waiting = [(NO_GROUP, 0, 0, end)]
    if not within:
        waiting = [(NO_GROUP, 0, NO_GROUP, end), (0, end, NO_GROUP, 0)]
    spans = [(0, len(groups))]
    while spans:
        start, stop = spans.pop()
        if stop - start < 2:
            continue
        middle = (start + stop) // 2
        spans += [(start, middle), (middle, stop)]
        low, cut, high = int(groups[start]), int(groups[middle]), int(groups[stop - 1]) + 1
        waiting.append((low, cut, cut, high))
        if not within:
            waiting.append((cut, high, low, cut))
    for low, high, their_low, their_high in waiting:
        pair = rows(0, low, high), rows(1, their_low, their_high)
        if all(map(len, pair)):
            yield pair


def _copied(known: TopK | None, rows: int, k: int) -> TopK:
    """Writable lists of `k` entries that start with the known neighbors."""
    found = TopK.none(rows, k)
    if known is not None:
        held = min(k, known.k)
        found.scores[:, :held], found.rows[:, :held] = known.scores[:, :held], known.rows[:, :held]
    return found


def _at(found: TopK, places: Places) -> TopK:
    return TopK(found.scores[places], found.rows[places])


def _put(found: TopK, places: Places, near: TopK) -> None:
    found.scores[places], found.rows[places] = near.scores, near.rows
