"""Count ranks in lists that hold only some rows of the gallery."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import RankCounts, rank_counts


def choose_matches(found: RankCounts, chosen: NDArray[np.bool_]) -> RankCounts:
    """The matches of `found` `[M]` that are `chosen`, before anything is counted.

    >>> both = RankCounts(np.array([0, 2]), np.array([4, 7]), np.array([0.9, 0.8], np.float32),
    ...                   np.array([3, 5]))
    >>> choose_matches(both, np.array([False, True]))
    RankCounts(offsets=array([0, 1]), rows=array([7]), scores=array([0.8], dtype=float32), \
ahead=array([0]))
    """
    before = np.append(0, np.cumsum(chosen))
    rows = found.rows[chosen]
    return RankCounts(before[found.offsets], rows, found.scores[chosen], np.zeros_like(rows))


def ahead_among(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    features: NDArray[np.float32] | FeatureRows,
    labels: Labels,
    rows: NDArray[np.int64],
    found: RankCounts,
    *,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """Count, for every match of `found` `[M]`, the kept rows among `rows` that rank before it.

    `rows` int64 `[N]` are the gallery rows to count, ascending, with their `features` `[N, D]` and
    `labels`. Rows of the query's identity are not counted, and a match need not be among `rows`.
    """
    # Ties break by row: a match beats the counted rows from its place among them on.
    places = np.searchsorted(rows, found.rows)
    placed = RankCounts(found.offsets, places, found.scores, np.zeros_like(found.ahead))
    return rank_counts(queries, query_labels, features, labels, found=placed, tiling=tiling).ahead
