"""k-reciprocal re-ranking, from the neighbor graph to rank counts, part by part."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import StackedRows, Tiling, blocks
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.neighbors.topk import TopK
from pipeline.core.reranking import ranks as reranked_ranks
from pipeline.core.reranking.distances import (
    Reranked,
    Reranking,
    check_neighbors,
    encoded,
    used_columns,
)
from pipeline.core.reranking.reciprocal import (
    SparseRows,
    greatest_distances,
    mean_weights,
    stacked,
    weights,
)
from pipeline.stages.execution import Execution

_PARTS_A_WORKER = 4


def count_reranked(
    reranked: Reranked,
    query_labels: Labels,
    gallery_labels: Labels,
    *,
    execution: Execution = Execution(),
) -> RankCounts:
    """Count ranks of every query's matches in lists ordered by k-reciprocal distance: exact.

    Rows are also read in random order, so they should be in memory or mapped. Progress counts the
    gallery rows of the finished parts.
    """
    tiling, gallery = execution.tiling, reranked.gallery
    total = found = reranked_ranks.matches(reranked, query_labels, gallery_labels, tiling=tiling)
    parts = execution.parts(len(gallery), tiling.gallery_block, most=20)
    shared = (reranked, query_labels, gallery_labels, found, execution.worker_tiling)
    step = execution.progress("counting ranks", len(gallery))
    for start, stop, counts in execution.run_parts(_count_part, shared, parts):
        total = total + counts
        step(stop - start)
    return total


def encode_union(
    union: StackedRows,
    near: TopK,
    settings: Reranking,
    least: NDArray[np.float32],
    *,
    execution: Execution = Execution(),
) -> Reranked:
    """Compute the result of `reranking.k_reciprocal`, with the rows' weights in parts.

    `near` has, for every row of the union of queries and gallery, its `settings.neighbors` best
    others or more, and `least` `[N]` its least score with another row. Memory is that of `near` and
    of the encoding, some tens of weights per row; with workers, the object store holds both once
    per machine.
    """
    total, queries, workers = len(union), len(union.parts[0]), execution.workers
    inside = execution.worker_tiling
    check_neighbors(near, total, settings)
    greatest = greatest_distances(least, settings.squared)

    def spread(fold: Callable[..., tuple[int, SparseRows]], *shared: object) -> SparseRows:
        size = -(-total // (_PARTS_A_WORKER * workers)) if workers else total
        parts = execution.run_parts(fold, (*shared, inside), blocks(total, max(1, size)))
        return stacked([part for _, part in sorted(parts, key=lambda part: part[0])])

    own = spread(_weights_part, union, near, greatest, settings)
    every = np.arange(total, dtype=np.int32)
    of_queries = mean_weights(own, near, settings.k2, every, part=(0, queries), tiling=inside)
    places = used_columns(of_queries, total)
    means = spread(_means_part, own, near, settings.k2, places, queries)
    return encoded(union, settings, greatest, of_queries, places, means)


def _weights_part(
    union: StackedRows,
    near: TopK,
    greatest: NDArray[np.float64],
    settings: Reranking,
    tiling: Tiling,
    start: int,
    stop: int,
) -> tuple[int, SparseRows]:
    made = weights(
        union, near, greatest, settings.k1, settings.squared, part=(start, stop), tiling=tiling
    )
    return start, made


def _means_part(
    own: SparseRows,
    near: TopK,
    k2: int,
    places: NDArray[np.int32],
    queries: int,
    tiling: Tiling,
    start: int,
    stop: int,
) -> tuple[int, SparseRows]:
    """The mean weights of the gallery rows in a part; queries are left out."""
    part = max(queries, start), max(queries, stop)
    return start, mean_weights(own, near, k2, places, part=part, tiling=tiling)


def _count_part(
    reranked: Reranked,
    query_labels: Labels,
    gallery_labels: Labels,
    found: RankCounts,
    tiling: Tiling,
    start: int,
    stop: int,
) -> tuple[int, int, RankCounts]:
    counts = reranked_ranks.rank_counts(
        reranked, query_labels, gallery_labels, found=found, part=(start, stop), tiling=tiling
    )
    return start, stop, counts
