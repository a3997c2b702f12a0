"""The top of ranked lists, for display: the rows found, and whether each is right.

The junk rule is the same as for ranks (`labels.same_identity_pairs`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows, Tiling, as_rows
from pipeline.core.evaluation.labels import (
    JUNK,
    NO_CAMERA,
    Labels,
    check_labels,
    same_identity_pairs,
)
from pipeline.core.neighbors.topk import TopK, search


@dataclass(frozen=True)
class RankedLists:
    """The best k kept gallery rows of every query, best first; immutable.

    `rows` int64 `[Q, k]` are gallery rows, `scores` float32 `[Q, k]` their similarities to the
    query, and `hits` bool `[Q, k]` says whether each matches. If fewer than k rows are kept, -1,
    -inf and False fill the rest. `matches` int64 `[Q]` is the number of matches in the whole
    gallery. Lists descend by score. Re-ranked lists ascend by `distances` float32 `[Q, k]`, which
    are inf beyond the end of a list. Ties by row. Raise ValueError if the arrays do not fit
    together or are out of order.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    hits: NDArray[np.bool_]
    matches: NDArray[np.int64]
    distances: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        order = -self.scores if self.distances is None else self.distances
        if not self.rows.shape == self.scores.shape == self.hits.shape == order.shape:
            raise ValueError("rows, scores, hits and distances must be of one shape [Q, k]")
        if self.matches.shape != self.rows.shape[:1]:
            raise ValueError(f"{len(self.matches)} numbers of matches, {len(self.rows)} lists")
        beyond = self.rows < 0
        if (beyond != np.isneginf(self.scores)).any() or (beyond & self.hits).any():
            raise ValueError("beyond the end of a list stand row -1, score -inf and no hit")
        if (self.hits.sum(axis=1) > self.matches).any():
            raise ValueError("a list has more hits than the gallery has matches")
        left, right = slice(None, -1), slice(1, None)
        tied = (order[:, left] == order[:, right]) & ~beyond[:, right]
        late = tied & (self.rows[:, left] >= self.rows[:, right])
        if (late | (order[:, left] > order[:, right])).any():
            raise ValueError("the rows of a list are out of order or repeated")
        for values in (self.rows, self.scores, self.hits, self.matches, self.distances):
            if values is not None:
                values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.rows)


def ranked_lists(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    k: int,
    *,
    tiling: Tiling = Tiling(),
) -> RankedLists:
    """Find the `k` best kept rows of every query by similarity, ties by row: exact.

    `queries` `[Q, D]`, `gallery` `[G, D]`. Junk is excluded as in `ranking.rank_counts`. A query
    without an identity has no match, and keeps all rows except those of identity -1. Raise
    ValueError for `k` below 1, and for labels or dimensions that do not fit the features.

    >>> features = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> found = ranked_lists(features[:1], Labels(np.array([7]), np.array([0])),
    ...                      features, Labels(np.array([7, 0, 7]), np.array([0, 1, 1])), 2)
    >>> found.rows, found.hits  # row 0 is junk: of the query's own camera
    (array([[1, 2]]), array([[False,  True]]))
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    check_labels(queries, query_labels, "query")
    check_labels(gallery, gallery_labels, "gallery")
    rule = JunkRule.of(query_labels, gallery_labels)
    found = search(queries, rule.rows_of(gallery), rule.widened(k), tiling=tiling)
    return rule.best(found, k)


def lists_of_other_cameras(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    k: int,
    *,
    tiling: Tiling = Tiling(),
) -> RankedLists:
    """Like `ranked_lists`, but without the rows of the query's own camera, if that is known.

    >>> features = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> asked, labels = Labels(np.array([7]), np.array([0])), np.array([9, 0, 7])
    >>> held = Labels(labels, np.array([0, 1, 1]))
    >>> lists_of_other_cameras(features[:1], asked, features, held, 2).rows
    array([[1, 2]])
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    shape = len(queries), min(k, int((gallery_labels.identity != JUNK).sum()))
    rows, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    hits, matches = np.zeros(shape, bool), np.zeros(len(queries), np.int64)
    for camera in np.unique(query_labels.camera).tolist():
        asked = np.flatnonzero(query_labels.camera == camera)
        others = (gallery_labels.camera != camera) | (camera == NO_CAMERA)
        kept = np.flatnonzero(others)
        found = ranked_lists(
            queries.take(asked), query_labels.take(asked),
            ChosenRows(gallery, kept), gallery_labels.take(kept), k, tiling=tiling,
        )  # fmt: skip
        width = slice(0, found.rows.shape[1])
        rows[asked, width] = np.where(found.rows < 0, -1, kept[found.rows])
        scores[asked, width], hits[asked, width] = found.scores, found.hits
        matches[asked] = found.matches
    return RankedLists(rows, scores, hits, matches)


@dataclass(frozen=True)
class JunkRule:
    """The gallery rows that each query keeps.

    `kept` holds the rows that are not junk by their identity alone. Pairs with the same identity
    are encoded as numbers, query x `gallery` + row: `own` are those with the query's camera,
    `matching` the others, both ascending.
    """

    queries: int
    gallery: int
    kept: NDArray[np.int64]
    own: NDArray[np.int64]
    matching: NDArray[np.int64]

    @classmethod
    def of(cls, queries: Labels, gallery: Labels) -> "JunkRule":
        """Make the rule for these queries and this gallery."""
        owner, rows, junk = same_identity_pairs(queries, gallery)
        pairs = owner * len(gallery) + rows
        kept = np.flatnonzero(gallery.identity != JUNK)
        return cls(len(queries), len(gallery), kept, pairs[junk], pairs[~junk])

    def rows_of(self, gallery: FeatureRows) -> FeatureRows:
        """The rows that are `kept`; their order is that of the whole gallery, so ties do not
        change.
        """
        return gallery if len(self.kept) == len(gallery) else ChosenRows(gallery, self.kept)

    def widened(self, k: int) -> int:
        """The number of best `kept` rows that surely contain k rows that the query keeps."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return k + int(self._by_query(self.own).max(initial=0))

    def without_junk(self, owner: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """A mask of the pairs of a query and a `kept` row that the query keeps."""
        return ~np.isin(owner * self.gallery + rows, self.own)

    def best(self, found: TopK, k: int) -> RankedLists:
        """The k best rows that each query keeps, of the rows `found` among `rows_of`."""
        owner, place = np.nonzero(found.rows >= 0)
        rows = self.kept[found.rows[owner, place]]
        pairs = self.without_junk(owner, rows)
        owner, rows, scores = owner[pairs], rows[pairs], found.scores[owner, place][pairs]
        owner, place, order = best_of(owner, rows, -scores, k, self.queries)
        return self.lists(owner, place, rows[order], scores[order], k)

    def lists(
        self,
        owner: NDArray[np.int64],
        place: NDArray[np.int64],
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        k: int,
        distances: NDArray[np.float32] | None = None,
    ) -> RankedLists:
        """Build lists from pairs; each pair goes to its `place`."""
        shape = self.queries, min(k, len(self.kept))

        def laid_out(values: NDArray[Any], beyond: float) -> NDArray[Any]:
            out = np.full(shape, beyond, values.dtype)
            out[owner, place] = values
            return out

        hits = np.isin(owner * self.gallery + rows, self.matching)
        return RankedLists(
            laid_out(rows, -1),
            laid_out(scores, -np.inf),
            laid_out(hits, False),
            self._by_query(self.matching),
            None if distances is None else laid_out(distances, np.inf),
        )

    def _by_query(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(pairs // max(1, self.gallery), minlength=self.queries)


def best_of(
    owner: NDArray[np.int64],
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    k: int,
    queries: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each query, the k pairs of least value, ties by row: their owners, places and numbers."""
    order = np.lexsort((rows, values, owner))
    first = np.searchsorted(owner[order], np.arange(queries))
    place = np.arange(len(order)) - first[owner[order]]
    order, place = order[place < k], place[place < k]
    return owner[order], place, order


def examples(
    average_precision: NDArray[np.float64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Choose at most `most` queries each with the highest, middle and lowest AP; no query comes
    twice.

    `average_precision` `[Q]` is NaN for invalid queries, which are never chosen; ties by row.

    >>> examples(np.array([0.5, np.nan, 1.0, 0.25, 0.75]), 1)
    (array([2]), array([4]), array([3]))
    """
    order = np.argsort(-average_precision, kind="stable")
    order = order[: len(order) - int(np.isnan(average_precision).sum())]
    shown = min(most, max(1, len(order) // 3))
    middle = (len(order) - shown) // 2
    best, median, worst = order[:shown], order[middle : middle + shown], order[::-1][:shown]
    median = median[~np.isin(median, best)]
    worst = worst[~np.isin(worst, np.append(best, median))]
    return best, median, worst
