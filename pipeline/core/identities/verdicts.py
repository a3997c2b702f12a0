"""Verdicts: the words of people that two rows show the same person, or different people.

"Same" is an equivalence: if a is the same as b, and b the same as c, then a is the same as c. So
two rows of a verdict "different" must not be connected by verdicts "same".
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Pairs of rows int64: `same` `[S, 2]` and `different` `[T, 2]`.

    The smaller row of a pair comes first, pairs are in ascending order, and each pair is there
    once. Raise ValueError for arrays of another shape, and for a pair of a row with itself.

    >>> Verdicts([[5, 2], [2, 5]], []).same
    array([[2, 5]])
    """

    same: NDArray[np.int64]
    different: NDArray[np.int64]

    def __init__(self, same: ArrayLike = (), different: ArrayLike = ()) -> None:
        object.__setattr__(self, "same", _as_pairs(same))
        object.__setattr__(self, "different", _as_pairs(different))

    def __len__(self) -> int:
        return len(self.same) + len(self.different)

    def among(self, ids: NDArray[np.int64]) -> "Verdicts":
        """The verdicts on two rows of `ids` int64 `[N]`, ascending, as positions in it from 0.

        >>> Verdicts([[2, 5]], [[5, 9]]).among(np.array([2, 3, 5]))
        Verdicts(same=array([[0, 2]]), different=array([], shape=(0, 2), dtype=int64))
        """
        return Verdicts(*(_positions(pairs, ids) for pairs in (self.same, self.different)))

    def implied_among(self, ids: NDArray[np.int64]) -> "Verdicts":
        """What the verdicts say about rows of `ids` int64 `[N]`, ascending, as positions in it.

        Rows that are not in `ids` still connect others. Of rows that verdicts "same" connect, each
        is paired with the first one, and only the first one is in pairs "different". Raise
        ValueError if verdicts contradict each other.

        >>> Verdicts([[1, 2], [2, 3]], [[2, 9]]).implied_among(np.array([1, 3, 9]))
        Verdicts(same=array([[0, 1]]), different=array([[0, 2]]))
        """
        if found := contradictions(self):
            raise ValueError(f"verdicts contradict each other about the rows {found[0].pair}")
        parts = _connected(_neighbors(self.same))
        places = {row: place for place, row in enumerate(ids.tolist())}
        rows = sorted(parts.keys() & places.keys())
        first = {parts[row]: row for row in reversed(rows)}
        heads = [(first[parts[row]], row) for row in rows]
        same = [(places[head], places[row]) for head, row in heads if head != row]
        ends = [[first.get(parts.get(n, n), n) for n in pair] for pair in self.different.tolist()]
        apart = [(places[a], places[b]) for a, b in ends if a in places and b in places]
        return Verdicts(same, apart)


@dataclass(frozen=True)
class Contradiction:
    """A `pair` of rows that one verdict calls different, and others, along the `chain`, the same.

    The first and the last row of the chain are those of the pair.
    """

    pair: tuple[int, int]
    chain: tuple[int, ...]


def contradictions(verdicts: Verdicts) -> list[Contradiction]:
    """All contradictions, in the order of the pairs, each with a shortest chain.

    Among chains of one length, it is the one with the smallest rows, from the start on.

    >>> contradictions(Verdicts([[1, 2], [2, 3]], [[1, 3], [1, 4]]))
    [Contradiction(pair=(1, 3), chain=(1, 2, 3))]
    """
    near = _neighbors(verdicts.same)
    parts = _connected(near)
    found = []
    for a, b in verdicts.different.tolist():
        if a in parts and parts[a] == parts.get(b):
            found.append(Contradiction((a, b), _chain(near, a, b)))
    return found


def _as_pairs(given: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(given)
    pairs = array.astype(np.int64)
    if array.size == 0:
        pairs = np.empty((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"verdicts are pairs of rows [L, 2], not {list(pairs.shape)}")
    if (alone := np.flatnonzero(pairs[:, 0] == pairs[:, 1])).size:
        raise ValueError(f"a verdict on row {pairs[alone[0], 0]} and itself")
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _positions(pairs: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    kept = pairs[np.isin(pairs, ids).all(axis=1)]
    return np.searchsorted(ids, kept).astype(np.int64)


def _neighbors(same: NDArray[np.int64]) -> dict[int, list[int]]:
    """For each row, the rows with which it has a verdict "same", in ascending order."""
    near: dict[int, list[int]] = {}
    for a, b in same.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    return {row: sorted(others) for row, others in near.items()}


def _connected(near: dict[int, list[int]]) -> dict[int, int]:
    """For each row, one row that stands for all that are connected with it."""
    parts: dict[int, int] = {}
    for start in near:
        todo = [start]
        while todo:
            row = todo.pop()
            if row not in parts:
                parts[row] = start
                todo += near[row]
    return parts


def _chain(near: dict[int, list[int]], start: int, end: int) -> tuple[int, ...]:
    """The shortest way between two rows that are connected."""
    before, todo = {start: start}, deque([start])
    while end not in before:
        row = todo.popleft()
        for other in near[row]:
            if other not in before:
                before[other] = row
                todo.append(other)
    chain = [end]
    while chain[-1] != start:
        chain.append(before[chain[-1]])
    return tuple(reversed(chain))
