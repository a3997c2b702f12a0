"""The top of re-ranked lists, for display: nearest by final distance first, without junk."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels, check_labels
from pipeline.core.evaluation.ranked_lists import JunkRule, RankedLists, best_of
from pipeline.core.neighbors.topk import TopK, search
from pipeline.core.products.kernels import pair_scores
from pipeline.core.reranking.distances import Reranked, final_distance, pair_distances
from pipeline.core.reranking.nearby import surroundings

_WIDER = 4


def reranked_lists(
    reranked: Reranked,
    query_labels: Labels,
    gallery_labels: Labels,
    k: int,
    *,
    tiling: Tiling = Tiling(),
) -> RankedLists:
    """Find the `k` kept rows of every query that are nearest by final distance, ties by row: exact.

    The result is that of `ranked_lists`, plus the final `distances` by which the lists are ordered.
    The candidates for a list are the rows that share weight with the query, and the rows most
    similar to it. Every other row is at least as far away as the last of the similar rows would be
    without shared weight. If this does not settle a list, for example because many rows have one
    distance, more similar rows are read.
    """
    check_labels(reranked.queries, query_labels, "query")
    check_labels(reranked.gallery, gallery_labels, "gallery")
    rule = JunkRule.of(query_labels, gallery_labels)
    width, rows = rule.widened(k), rule.rows_of(reranked.gallery)
    near = surroundings(reranked, tiling=tiling)
    sharing = np.repeat(np.arange(len(near)), np.diff(near.starts)), near.columns.astype(np.int64)
    inside = np.isin(sharing[1], rule.kept)
    while True:
        similar = search(reranked.queries, rows, width, tiling=tiling)
        owner, place = (np.ascontiguousarray(each) for each in np.nonzero(similar.rows >= 0))
        columns = rule.kept[similar.rows[owner, place]]
        distances = _distances(reranked, similar.scores[owner, place], owner, columns)
        owners = np.append(sharing[0][inside], owner)
        columns = np.append(sharing[1][inside], columns)
        # A pair found in both ways has the same distance both times.
        pairs, at = np.unique(np.stack([owners, columns]), axis=1, return_index=True)
        values = np.append(near.values[inside], distances)[at]
        kept = rule.without_junk(*pairs)
        owner, columns, values = pairs[0, kept], pairs[1, kept], values[kept]
        owner, place, order = best_of(owner, columns, values, k, len(near))
        columns, values = columns[order], values[order]
        # Once they include all rows, the similar rows fill every list.
        if width >= len(rule.kept) or _are_settled(reranked, similar, values[place == k - 1]):
            break
        width *= _WIDER
    scores = _scores(reranked, owner, columns)
    return rule.lists(owner, place, columns, scores, k, values)


def _distances(
    reranked: Reranked,
    scores: NDArray[np.float32],
    owner: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Final distances of pairs with known similarity."""
    settings = reranked.settings
    return pair_distances(
        scores, owner, rows, *reranked.query_weights.arrays, *reranked.gallery_weights.arrays,
        reranked.greatest, settings.lam, settings.squared,
    )  # fmt: skip


def _are_settled(reranked: Reranked, similar: TopK, last: NDArray[np.float32]) -> bool:
    """Whether the `last` distance `[Q]` of every list is less than that of any row not yet read."""
    settings, nothing = reranked.settings, np.float32(0)
    return all(
        distance < final_distance(score, nothing, greatest, settings.lam, settings.squared)
        for distance, score, greatest in zip(
            last, similar.scores[:, -1], reranked.greatest, strict=True
        )
    )


def _scores(
    reranked: Reranked, owner: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    needed, place = np.unique(rows, return_inverse=True)
    asked = reranked.queries.read(0, len(reranked.queries))
    return pair_scores(asked, reranked.gallery.take(needed), owner, place.astype(np.int64))
