"""Find the link threshold at which groups reach a target precision, from rows that surely differ.

Two rows of one moment (one camera at one time) are always two different people. Such pairs stand
for all pairs of different people: if a share r of them falls into one group, then about a share r
of all others does too. Then a row in a group of s rows, of N in total, has about r (N - 1) wrong
rows in its group, and the B-cubed precision of the grouping is

    1 - the mean over certainly different pairs of [in one group] (N - 1) / s

with links joined as if moments forbade nothing. The estimate errs on the safe side in two ways:
groups that respect moments are at least as good, and people under one camera look more alike than
others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.identities.linking import NO_MOMENT, Groups, Links, join_rows
from pipeline.core.travel.conflicts import Conflicts

FEWEST_PAIRS = 30
"""The least number of certainly different pairs for an estimate."""

_STEPS = 32
_REFINING = 8


@dataclass(frozen=True)
class Estimate:
    """The `precision` of groups, estimated from `pairs` of rows that surely differ.

    `together` is the number of pairs that fall into one group.
    """

    precision: float
    pairs: int
    together: int


def estimate_precision(
    groups: Groups, moments: NDArray[np.int64], others: float | None = None
) -> Estimate:
    """Estimate the B-cubed precision of groups that ignore the `moments` int64 `[N]` of their rows.

    Each row may share its group with so many `others` on average (default: N - 1). Moments are
    those of `linking.join_rows`. The precision is NaN if no two rows share one; it may be negative.

    >>> links = Links(np.array([0]), np.array([1]), np.array([0.9], np.float32))
    >>> apart = np.array([0, 0, 1, 1])
    >>> estimate_precision(join_rows(links, np.full(4, NO_MOMENT)), apart)
    Estimate(precision=0.25, pairs=2, together=1)
    """
    known = np.flatnonzero(moments != NO_MOMENT)
    sizes = np.bincount(moments[known]) if len(known) else np.zeros(0, np.int64)
    pairs = int((sizes * (sizes - 1) // 2).sum())
    if not pairs:
        return Estimate(float("nan"), 0, 0)
    count = len(moments)
    cells, held = np.unique(moments[known] * count + groups.group[known], return_counts=True)
    alike = held * (held - 1) // 2
    of_group = np.bincount(groups.group, minlength=count)[cells % count]
    others = count - 1 if others is None else others
    wrong = float((alike * others / of_group).sum()) / pairs
    return Estimate(1 - wrong, pairs, int(alike.sum()))


def least_threshold(
    links: Links,
    rows: int,
    wanted: float,
    precision: Callable[[Groups], float],
    conflicts: Conflicts | None = None,
) -> float | None:
    """The least similarity of `links` among `rows` rows at which groups reach the precision
    `wanted`.

    `precision` measures groups, which ignore moments, but not `conflicts`; `wanted` is between 0
    and 1. The function tries some dozens of thresholds, because precision may also fall as the
    threshold rises. It returns the least tried threshold that reaches `wanted`, unless one just
    above it falls short. It returns None if even the strongest links fall short.

    >>> links = Links(np.array([0, 2]), np.array([1, 3]), np.array([0.9, 0.5], np.float32))
    >>> least_threshold(links, 4, 0.9, lambda groups: 1.0 if groups.group[3] == 3 else 0.5)
    0.8999999761581421
    """
    free = np.full(rows, NO_MOMENT)
    # The starts of runs of lower scores: a threshold takes links of equal score together.
    ends = np.append(np.flatnonzero(np.diff(links.scores) != 0) + 1, len(links))
    ends = ends[ends > 0]

    def reaches(place: int) -> bool:
        cut = int(ends[place])
        held = Links(links.first[:cut], links.second[:cut], links.scores[:cut])
        return precision(join_rows(held, free, conflicts)) >= wanted

    tried = np.unique(np.linspace(0, len(ends) - 1, _STEPS).astype(np.int64)).tolist()
    good = [place for place in tried if reaches(place)] if len(ends) else []
    if not good:
        return None
    low, high = good[-1], next((place for place in tried if place > good[-1]), good[-1] + 1)
    for _ in range(_REFINING):
        middle = (low + high) // 2
        if middle == low:
            break
        low, high = (middle, high) if reaches(middle) else (low, middle)
    return float(links.scores[ends[low] - 1])
