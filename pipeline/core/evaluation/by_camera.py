"""Figures by camera: for the queries of each camera, and for each pair of cameras."""

from dataclasses import dataclass, field
from math import isnan

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.labels import NO_CAMERA, Labels
from pipeline.core.evaluation.metrics import Summary, summarize
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.evaluation.restricted import ahead_among, choose_matches

Camera = int | str | None
"""A camera: its number in the labels, or its name in a report, where None means unknown."""

BLOCKS_AT_ONCE = 8
"""Number of gallery blocks in memory together, so that each camera has enough rows among them."""


@dataclass(frozen=True)
class CameraFigures:
    """The figures of one camera's queries; the means are over its `valid` queries, or NaN without
    any.

    Raise ValueError for an impossible number of valid queries.
    """

    camera: Camera
    queries: int
    valid: int
    rank1: float
    mean_ap: float = field(metadata={"json": "mAP"})

    def __post_init__(self) -> None:
        if not 0 <= self.valid <= self.queries:
            raise ValueError(f"camera {self.camera}: {self.valid} valid of {self.queries} queries")
        if {isnan(self.rank1), isnan(self.mean_ap)} != {self.valid == 0}:
            raise ValueError(
                f"camera {self.camera}: figures are NaN exactly where no query is valid"
            )


@dataclass(frozen=True)
class PairFigures:
    """The figures of one camera's queries in lists that hold only the rows of one gallery camera.

    `valid` counts the queries with a match in that camera; the means are over these.
    """

    query_camera: Camera
    gallery_camera: Camera
    valid: int
    rank1: float
    mean_ap: float = field(metadata={"json": "mAP"})

    def __post_init__(self) -> None:
        if self.valid < 1:
            raise ValueError(
                f"cameras {self.query_camera} and {self.gallery_camera}: no query has a match"
            )


def by_query_camera(summary: Summary, labels: Labels) -> list[CameraFigures]:
    """Divide the figures of a summary by the camera of the query, in the order of camera
    numbers.
    """
    cameras, place = np.unique(labels.camera, return_inverse=True)
    queries = np.bincount(place)
    valid = ~np.isnan(summary.average_precision)
    kept = np.bincount(place[valid], minlength=len(cameras))
    rank1 = _means(summary.rank1[valid], place[valid], kept)
    mean_ap = _means(summary.average_precision[valid], place[valid], kept)
    columns = (cameras, queries, kept, rank1, mean_ap)
    return [CameraFigures(*each) for each in zip(*(c.tolist() for c in columns), strict=True)]


def count_within_cameras(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """Count, for every match of `found` `[M]`, the kept rows of the match's camera that rank before
    it.

    Other matches are not counted, as in `RankCounts.ahead`. `part` limits the pass to a run of
    gallery rows; the counts of parts add up. A query meets only the cameras that hold a match of
    it, so this computes less than one whole pass. Memory is Q x D, the matches, several gallery
    blocks, and one tile per thread, for any number of cameras.
    """
    theirs = gallery_labels.camera[found.rows]
    sides = (queries, query_labels, gallery, gallery_labels)
    return _count_within(*sides, found, theirs, part=part, tiling=tiling)


def count_within_own_camera(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """Count, for every match of `found` `[M]`, the kept rows of the query's camera that rank before
    it.

    Lists without the query's own camera lack these rows. The count is 0 for a query of unknown
    camera. The other parameters are those of `count_within_cameras`.

    >>> from pipeline.core.evaluation.ranking import rank_counts
    >>> features = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> sides = (features[:1], Labels(np.array([7]), np.array([0])),
    ...          features, Labels(np.array([0, 9, 7]), np.array([1, 0, 1])))
    >>> found = rank_counts(*sides)
    >>> found.ahead, count_within_own_camera(*sides, found)
    (array([2]), array([1]))
    """
    sizes = np.diff(found.offsets)
    own = np.repeat(query_labels.camera, sizes)
    # This number belongs to no row, so an unknown camera equals no other.
    own[own == NO_CAMERA] = NO_CAMERA - 1
    sides = (queries, query_labels, gallery, gallery_labels)
    return _count_within(*sides, found, own, part=part, tiling=tiling)


def _count_within(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    theirs: NDArray[np.int64],
    *,
    part: tuple[int, int] | None,
    tiling: Tiling,
) -> NDArray[np.int64]:
    """Count, for every match of `found` `[M]`, the kept rows of camera `theirs` `[M]` before it."""
    queries, gallery = as_rows(queries), as_rows(gallery)
    first, last = part or (0, len(gallery))
    ahead = np.zeros(len(found.rows), np.int64)
    for start, stop in blocks(last, BLOCKS_AT_ONCE * tiling.gallery_block, first):
        features = gallery.read(start, stop)
        camera = gallery_labels.camera[start:stop]
        for each in np.intersect1d(camera, theirs):
            inside, chosen = np.flatnonzero(camera == each), theirs == each
            rows = start + inside
            labels = Labels(gallery_labels.identity[rows], gallery_labels.camera[rows])
            ahead[chosen] += ahead_among(
                queries, query_labels, features[inside], labels, rows,
                choose_matches(found, chosen), tiling=tiling,
            )  # fmt: skip
    return ahead


def by_camera_pair(
    found: RankCounts, within: NDArray[np.int64], query_labels: Labels, gallery_labels: Labels
) -> list[PairFigures]:
    """The figures of every pair of cameras with a match, in the order of camera numbers.

    `within` `[M]` is the result of `count_within_cameras` for the whole gallery.
    """
    owner = np.repeat(np.arange(len(found)), np.diff(found.offsets))
    camera = gallery_labels.camera[found.rows]
    order = np.lexsort((camera, owner))  # stable: by rank within a list
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(owner[order]) != 0) | (np.diff(camera[order]) != 0)
    starts = np.flatnonzero(first)
    lists = RankCounts(
        np.append(starts, len(order)), found.rows[order], found.scores[order], within[order]
    )
    summary = summarize(lists, len(gallery_labels))
    sides = np.stack([query_labels.camera[owner[order][starts]], camera[order][starts]])
    pairs, place = np.unique(sides, axis=1, return_inverse=True)
    valid = np.bincount(place.ravel(), minlength=pairs.shape[1])
    rank1 = _means(summary.rank1, place.ravel(), valid)
    mean_ap = _means(summary.average_precision, place.ravel(), valid)
    columns = (*pairs, valid, rank1, mean_ap)
    return [PairFigures(*each) for each in zip(*(c.tolist() for c in columns), strict=True)]


def _means(
    values: NDArray[np.float64], place: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean of the values at each place; NaN for a place without values."""
    sums = np.bincount(place, weights=values, minlength=len(sizes))
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)
