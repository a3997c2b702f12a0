"""Several images as one query: their unit mean, or the best of their similarities to each row.

The multi-query protocol of Market-1501 (Zheng et al., Scalable Person Re-identification, ICCV 2015)
combines all images of one identity under one camera into one query.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import ArrayRows, FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.labels import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    NO_CLOTHES,
    Labels,
    check_labels,
    matching_pairs,
)
from pipeline.core.evaluation.ranked_lists import JunkRule, RankedLists, best_of
from pipeline.core.evaluation.ranking import RankCounts, rows_ahead
from pipeline.core.float_products import Product
from pipeline.core.neighbors.topk import TopK, search
from pipeline.core.products.counting import matches_beaten
from pipeline.core.products.kernels import longest, product_slack
from pipeline.core.products.kernels import score as pair_score
from pipeline.core.sweep import sweep
from pipeline.core.tracklets import mean_features

_LAST = 2**62  # the number of a row that loses every tie
_PAIRS_AT_ONCE = 4096


@dataclass(frozen=True)
class QueryGroups:
    """The images of each query: query q has the images `order[starts[q]:starts[q + 1]]`.

    `order` int64 `[N]` holds every image once, and `starts` int64 `[Q + 1]` the start of each
    query. Each query has at least one image.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not np.array_equal(np.sort(self.order), np.arange(len(self.order))):
            raise ValueError("the images of queries must hold every image once")
        edges = (*self.starts[:1].tolist(), *self.starts[-1:].tolist())
        if edges != (0, len(self.order)) or (np.diff(self.starts) < 1).any():
            raise ValueError("every query has an image, and every image a query")

    @classmethod
    def of(cls, labels: Labels) -> "QueryGroups":
        """Combine all images of one identity under one camera into one query.

        If clothes count, the images must also show the same clothes. Queries are in the order of
        their first images. Distractors, junk, and images without one of these labels are queries of
        their own.

        >>> QueryGroups.of(Labels(np.array([5, 0, 5, 5, 0]), np.array([1, 1, 2, 1, 1])))
        QueryGroups(order=array([0, 3, 1, 2, 4]), starts=array([0, 2, 3, 4, 5]))
        """
        columns = [labels.identity, labels.camera]
        alone = (labels.identity <= DISTRACTOR) | (labels.camera == NO_CAMERA)
        if labels.clothes is not None:
            columns.append(labels.clothes)
            alone |= labels.clothes == NO_CLOTHES
        columns.append(np.where(alone, np.arange(len(labels)), -1))
        _, first, place = np.unique(
            np.stack(columns), axis=1, return_index=True, return_inverse=True
        )
        owner = first[place.ravel()]
        order = np.argsort(owner, kind="stable").astype(np.int64)
        starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
        return cls(order, np.append(starts, len(order)).astype(np.int64))

    @classmethod
    def together(cls, images: int) -> "QueryGroups":
        """Combine this number of images into one query."""
        return cls(np.arange(images), np.array([0, images]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def first(self) -> NDArray[np.int64]:
        """The first image `[Q]` of each query."""
        return self.order[self.starts[:-1]]

    def mean(self, images: NDArray[np.float32] | FeatureRows) -> FeatureRows:
        """The unit mean `[Q, D]` of the images `[N, D]` of each query.

        If the mean has no direction, take the image with the largest sum of similarities to all of
        the query's images (see `tracklets.mean_features`).

        >>> QueryGroups.together(2).mean(np.eye(2, dtype=np.float32)).read(0, 1)
        array([[0.70710677, 0.70710677]], dtype=float32)
        """
        rows = as_rows(images)
        parts = mean_features(rows, self.order, self.starts, np.ones(len(self.order)))
        return ArrayRows(np.concatenate([np.empty((0, rows.dimension), np.float32), *parts]))

    def best(self, found: TopK) -> TopK:
        """The best rows of each query `[Q, k]` by its best image, from the best rows of all images
        `[N, k]`.

        The result is exact: a row among the k best of a query is also among the k best of the
        query's most similar image.

        >>> found = TopK(np.array([[0.9, 0.2], [0.8, 0.7]], np.float32), np.array([[3, 5], [3, 4]]))
        >>> QueryGroups.together(2).best(found).rows
        array([[3, 4]])
        """
        image, place = np.nonzero(found.rows >= 0)
        of_image = np.empty(len(self.order), np.int64)
        of_image[self.order] = np.repeat(np.arange(len(self)), np.diff(self.starts))
        owner, rows, scores = of_image[image], found.rows[image, place], found.scores[image, place]
        order = np.lexsort((-scores, rows, owner))
        owner, rows, scores = owner[order], rows[order], scores[order]
        again = (np.diff(owner, prepend=-1) == 0) & (np.diff(rows, prepend=-1) == 0)
        owner, rows, scores = owner[~again], rows[~again], scores[~again]
        owner, place, order = best_of(owner, rows, -scores, found.k, len(self))
        best = TopK.none(len(self), found.k)
        best.scores[owner, place], best.rows[owner, place] = scores[order], rows[order]
        return TopK(best.scores, best.rows)

    def take(self, queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], "QueryGroups"]:
        """The images of some queries `[P]`, and the groups of these images, both in order."""
        sizes = np.diff(self.starts)[queries]
        starts = np.append(0, np.cumsum(sizes))
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
        images = self.order[places + np.repeat(self.starts[:-1][queries], sizes)]
        return images, QueryGroups(np.arange(len(images)), starts)


def best_matches(
    images: NDArray[np.float32] | FeatureRows,
    groups: QueryGroups,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    *,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """Find every query's matches by its best image, before anything is counted (see
    `ranking.matches`).

    `images` is `[N, D]`; `query_labels` are the labels of the queries `[Q]`.
    """
    images, gallery = as_rows(images), as_rows(gallery)
    check_labels(groups, query_labels, "query")
    if len(images) != len(groups.order):
        raise ValueError(f"{len(images)} images do not go with queries of {len(groups.order)}")
    check_labels(gallery, gallery_labels, "gallery")
    owner, rows = matching_pairs(query_labels, gallery_labels)
    held = images.take(groups.order)
    scores = np.empty(len(rows), np.float32)

    def score(start: int, stop: int) -> None:
        needed, place = np.unique(rows[start:stop], return_inverse=True)
        theirs = gallery.take(needed)
        scores[start:stop] = _best_scores(held, groups.starts, owner[start:stop], theirs, place)

    with tiling.workers() as run:
        run(score, blocks(len(rows), _PAIRS_AT_ONCE))
    order = np.lexsort((-scores, owner))
    offsets = np.searchsorted(owner, np.arange(len(groups) + 1)).astype(np.int64)
    return RankCounts(offsets, rows[order], scores[order], np.zeros(len(rows), np.int64))


def best_counts(
    images: NDArray[np.float32] | FeatureRows,
    groups: QueryGroups,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    *,
    found: RankCounts | None = None,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """The counts of `ranking.rank_counts` by the best image of each query: exact.

    A query's similarity to a row is that of its best image. Tiles are float32 products; a row gets
    its score only if the product does not settle its place among the matches. Memory is N x D, the
    matches, three blocks of the gallery, and one tile per thread.

    >>> images = np.array([[1, 0], [0, 1]], np.float32)
    >>> gallery = np.array([[0.6, 0.8], [0.8, 0.6], [0.28, 0.96]], np.float32)
    >>> best_counts(images, QueryGroups.together(2), Labels(np.array([7]), np.array([0])),
    ...             gallery, Labels(np.array([7, 7, 9]), np.array([1, 1, 1]))).ranks()
    array([2, 3])
    """
    images, gallery = as_rows(images), as_rows(gallery)
    if found is None:
        sides = (images, groups, query_labels, gallery, gallery_labels)
        found = best_matches(*sides, tiling=tiling)
    first, last = part or (0, len(gallery))
    place = np.flatnonzero(np.diff(found.offsets))
    beaten = np.zeros(len(found.rows) + len(place), np.int64)
    own, asked = groups.take(place)
    held = images.take(own)
    runs = _runs(asked.starts, tiling.query_block)
    length, product = longest(held), Product()
    identity, starts, ends = (
        query_labels.identity[place], found.offsets[:-1][place], found.offsets[1:][place]
    )  # fmt: skip

    def enter(
        start: int, _stop: int, block: NDArray[np.float32]
    ) -> tuple[int, NDArray[np.float32]]:
        return start, block

    def take(entered: tuple[int, NDArray[np.float32]], x: int, _stop: int) -> None:
        start, block = entered
        low, high = runs[x]
        edges = asked.starts[low : high + 1]
        mine = held[edges[0] : edges[-1]]
        _count_best(
            product(mine, block), product_slack(gallery.dimension, length, longest(block)),
            mine, edges - edges[0], identity[low:high], starts[low:high], ends[low:high], low,
            block, start, gallery_labels.identity[start : start + len(block)],
            found.scores, found.rows, beaten,
        )  # fmt: skip

    with tiling.workers() as run:
        passing = blocks(last, tiling.gallery_block, first)
        sweep(passing, gallery.read, enter, (len(runs), 1), take, run)
    ahead = rows_ahead(beaten, starts, ends, len(found.rows))
    return RankCounts(found.offsets, found.rows, found.scores, ahead)


def best_lists(
    images: NDArray[np.float32] | FeatureRows,
    groups: QueryGroups,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    k: int,
    *,
    tiling: Tiling = Tiling(),
) -> RankedLists:
    """The lists of `ranked_lists.ranked_lists` by the best image of each query: exact."""
    gallery = as_rows(gallery)
    rule = JunkRule.of(query_labels, gallery_labels)
    found = search(images, rule.rows_of(gallery), rule.widened(k), tiling=tiling)
    return rule.best(groups.best(found), k)


def _runs(starts: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Runs of consecutive queries with at most this number of images together, or of one query."""
    runs, low = [], 0
    while low < len(starts) - 1:
        high = int(np.searchsorted(starts, starts[low] + most, "right")) - 1
        runs.append((low, max(low + 1, high)))
        low = runs[-1][1]
    return runs


@njit(nogil=True, cache=True)
def _best_scores(
    images: NDArray[np.float32],
    starts: NDArray[np.int64],
    owner: NDArray[np.int64],
    rows: NDArray[np.float32],
    place: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The similarity `[P]` of the best image of query `owner[p]` and the row `place[p]`."""
    out = np.empty(owner.shape[0], np.float32)
    for p in range(owner.shape[0]):
        best = np.float32(-np.inf)
        for image in range(starts[owner[p]], starts[owner[p] + 1]):
            best = max(best, pair_score(images[image], rows[place[p]]))
        out[p] = best
    return out


@njit(nogil=True, cache=True)
def _count_best(
    tile: NDArray[np.float32],
    slack: np.float32,
    images: NDArray[np.float32],
    edges: NDArray[np.int64],
    identity: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first_query: int,
    block: NDArray[np.float32],
    first_row: int,
    identities: NDArray[np.int64],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    beaten: NDArray[np.int64],
) -> None:
    """Count the rows of a block for a run of queries, whose images are the rows of the tile.

    A row of the query's own identity is a match or junk, so it is not counted.
    """
    best = np.empty(tile.shape[1], np.float32)
    for q in range(identity.shape[0]):
        best[:] = -np.inf
        for image in range(edges[q], edges[q + 1]):
            for c in range(best.shape[0]):
                best[c] = max(best[c], tile[image, c])
        start, end = starts[q], ends[q]
        slot = start + first_query + q
        for c in range(best.shape[0]):
            value = best[c]
            if value < scores[end - 1] - slack:
                continue
            if identities[c] == JUNK or identities[c] == identity[q]:
                continue
            count = matches_beaten(scores, rows, start, end, value - slack, _LAST)
            if count != matches_beaten(scores, rows, start, end, value + slack, -1):
                exact = np.float32(-np.inf)
                for image in range(edges[q], edges[q + 1]):
                    if tile[image, c] >= value - 2 * slack:
                        exact = max(exact, pair_score(images[image], block[c]))
                count = matches_beaten(scores, rows, start, end, exact, first_row + c)
            beaten[slot + count] += 1
