"""The mathematics on plain arrays and lists, checked before anything is computed.

`core` takes arrays of one form and trusts them. These functions also take lists, other number types
and cameras as text, convert them to that form, and raise `ValueError` if that is impossible: above
all for rows that are not of unit length, whose products are not cosines.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.blocks import FeatureRows, StackedRows, Tiling, as_rows
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import NO_CAMERA, Labels
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.expansion import Expansion, average
from pipeline.core.neighbors import pairs, topk
from pipeline.core.neighbors.topk import TopK
from pipeline.core.reranking.distances import Reranking
from pipeline.core.reranking.distances import k_reciprocal as rerank
from pipeline.core.vectors import as_features

Features = ArrayLike | FeatureRows
Pair = tuple[ArrayLike, Sequence[Any] | NDArray[Any]]
"""Identities `[N]` and cameras `[N]` (numbers, text, or None where unknown)."""


def make_labels(*sides: Pair) -> tuple[Labels, ...]:
    """Labels of several sets of rows; a camera has the same number in all of them.

    Each of `sides` is identities `[N]` (whole numbers: -1 junk, 0 distractor) with cameras `[N]`
    (whole numbers, text, or None). Raise ValueError for other values, and for different lengths.

    >>> query, gallery = make_labels(([7], ["door"]), ([7, 0], ["yard", None]))
    >>> query.camera, gallery.camera
    (array([0]), array([ 1, -1]))
    """
    cameras = [[None if _is_unknown(each) else str(each) for each in side[1]] for side in sides]
    names = sorted({name for side in cameras for name in side if name is not None})
    numbers = {name: number for number, name in enumerate(names)} | {None: NO_CAMERA}
    return tuple(
        Labels(_whole(identity), np.array([numbers[name] for name in named], np.int64))
        for (identity, _), named in zip(sides, cameras, strict=True)
    )


def search(
    queries: Features,
    gallery: Features,
    k: int = 10,
    *,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> TopK:
    """The `k` best rows of `gallery` `[G, D]` for each of `queries` `[Q, D]`, exactly.

    By cosine similarity, descending, ties by row. k is clipped to G. Rows must have length 1; with
    `normalize` they are scaled to it.

    >>> search([[1, 0]], [[0, 1], [0.8, 0.6], [1, 0]], k=2).rows
    array([[2, 1]])
    """
    first, second = (
        feature_rows(queries, "queries", normalize),
        feature_rows(gallery, "gallery", normalize),
    )
    _check_dimensions(first, second)
    return topk.search(first, second, min(_whole_k(k), len(second)), tiling=tiling)


def neighbors(
    features: Features, k: int = 10, *, normalize: bool = False, tiling: Tiling = Tiling()
) -> TopK:
    """The `k` best other rows of every row of `features` `[N, D]`, exactly; ties by row.

    >>> neighbors([[1, 0], [0.8, 0.6], [0, 1]], k=1).rows.ravel()
    array([1, 0, 1])
    """
    rows = feature_rows(features, "features", normalize)
    return pairs.neighbors(rows, min(_whole_k(k), max(0, len(rows) - 1)), tiling=tiling)


def rank_counts(
    queries: Features,
    query_labels: Labels | Pair,
    gallery: Features,
    gallery_labels: Labels | Pair,
    *,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """The rank of every match of every query, by counting; see `core.evaluation.ranking`.

    >>> rank_counts([[1, 0]], ([7], ["a"]), [[1, 0], [0.6, 0.8]], ([9, 7], ["b", "b"])).ranks()
    array([2])
    """
    first, second = (
        feature_rows(queries, "queries", normalize),
        feature_rows(gallery, "gallery", normalize),
    )
    _check_dimensions(first, second)
    ours, theirs = both_labels(query_labels, gallery_labels)
    return ranking.rank_counts(first, ours, second, theirs, tiling=tiling)


def expand(
    queries: Features,
    gallery: Features,
    settings: Expansion = Expansion(),
    *,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Queries `[Q, D]` and gallery `[G, D]` after alpha query expansion, both as unit vectors.

    `settings.mode` says which of them changes. Everything is in memory; `evaluate` and
    `update_expanded` expand a gallery on disk block by block.

    >>> expanded, _ = expand([[1, 0]], [[0.6, 0.8]], Expansion("query", k=2, alpha=0))
    >>> expanded.round(3)
    array([[0.894, 0.447]], dtype=float32)
    """
    first = as_rows(_array(queries, "queries", normalize))
    second = as_rows(_array(gallery, "gallery", normalize))
    _check_dimensions(first, second)
    for _ in range(settings.times):
        if settings.k == 1:
            break
        if settings.mode == "query":
            first = _averaged(first, topk.search(first, second, settings.k - 1, tiling=tiling),
                              second, settings, tiling)  # fmt: skip
        elif settings.mode == "database":
            second = _expanded_together(second, settings, tiling)
        else:
            union = _expanded_together(StackedRows(first, second), settings, tiling)
            edge = len(first)
            first, second = (as_rows(part) for part in np.split(union.read(0, len(union)), [edge]))
    return first.read(0, len(first)), second.read(0, len(second))


def k_reciprocal(
    queries: Features,
    gallery: Features,
    settings: Reranking = Reranking(),
    *,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> NDArray[np.float32]:
    """The re-ranked distances `[Q, G]` (Zhong et al., CVPR 2017): less is nearer.

    The result has Q x G numbers; `evaluate` ranks by these distances without holding them all.

    >>> k_reciprocal([[1, 0]], [[1, 0], [0, 1]], Reranking(k1=1, k2=1, lam=1)).round(3)
    array([[0., 1.]], dtype=float32)
    """
    first = as_rows(_array(queries, "queries", normalize))
    second = as_rows(_array(gallery, "gallery", normalize))
    _check_dimensions(first, second)
    union = StackedRows(first, second)
    near = pairs.neighbors(union, settings.neighbors, tiling=tiling)
    return rerank(union, near, settings, tiling=tiling).distances(0, len(first), tiling=tiling)


def both_labels(first: Labels | Pair, second: Labels | Pair) -> tuple[Labels, Labels]:
    """Labels of both sides, with common camera numbers; refuse one `Labels` with one pair."""
    if isinstance(first, Labels) and isinstance(second, Labels):
        return first, second
    if isinstance(first, Labels) or isinstance(second, Labels):
        raise ValueError(
            "give both labels as Labels or both as (identities, cameras): cameras of the two forms"
            " cannot be compared"
        )
    ours, theirs = make_labels(first, second)
    return ours, theirs


def feature_rows(features: Features, name: str, normalize: bool) -> FeatureRows:
    """Rows of a gallery or a file unchanged, because they are checked when read; otherwise an
    array.
    """
    if hasattr(features, "take") and hasattr(features, "dimension"):
        return features  # type: ignore[return-value]
    return as_rows(as_features(features, name, normalize=normalize))


def _array(features: Features, name: str, normalize: bool) -> NDArray[np.float32]:
    rows = feature_rows(features, name, normalize)
    return rows.read(0, len(rows))


def _check_dimensions(first: FeatureRows, second: FeatureRows) -> None:
    if first.dimension != second.dimension:
        raise ValueError(
            f"queries have {first.dimension} dimensions, the gallery {second.dimension}"
        )


def _averaged(
    rows: FeatureRows, near: TopK, among: FeatureRows, settings: Expansion, tiling: Tiling
) -> FeatureRows:
    block = rows.read(0, len(rows))
    return as_rows(average(block, near, among, settings.alpha, tiling=tiling))


def _expanded_together(rows: FeatureRows, settings: Expansion, tiling: Tiling) -> FeatureRows:
    near = pairs.neighbors(rows, min(settings.k - 1, max(0, len(rows) - 1)), tiling=tiling)
    return _averaged(rows, near, as_rows(rows.read(0, len(rows))), settings, tiling)


def _whole(identity: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(identity)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(
            f"identities must be whole numbers [N], not {values.dtype} {list(values.shape)}"
        )
    return values.astype(np.int64)


def _whole_k(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number from 1, not {k!r}")
    return int(k)


def _is_unknown(camera: object) -> bool:
    """Whether a camera is None, NaN, or the number for unknown in `Labels`."""
    return (
        camera is None
        or camera != camera
        or (isinstance(camera, int | np.integer) and camera == NO_CAMERA)
    )
