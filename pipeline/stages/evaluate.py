"""Counting the ranks of every query's matches, part by part of the gallery."""

from collections.abc import Callable

from pipeline.core import ranking
from pipeline.core.blocks import FeatureRows, Tiling, blocks
from pipeline.core.ranking import Labels, RankCounts
from pipeline.stages.tasks import run_parts


def count_ranks(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> RankCounts:
    """The counts of `ranking.rank_counts` over the whole gallery, on `workers` (0: this process).

    The counts of parts add, so the result is the same to the bit for any number of workers.
    `progress` is told the gallery rows that each part has passed over.
    """
    tiling = tiling or Tiling()
    total = ranking.matches(queries, query_labels, gallery, gallery_labels)
    shared = (queries, query_labels, gallery, gallery_labels, total, tiling, workers > 0)
    size = tiling.gallery_block if workers else max(tiling.gallery_block, len(gallery) // 100)
    parts = blocks(len(gallery), size)
    for start, stop, counts in run_parts(_count_part, shared, parts, workers):
        total = total + counts
        progress(stop - start)
    return total


def _count_part(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    tiling: Tiling,
    alone: bool,
    start: int,
    stop: int,
) -> tuple[int, int, RankCounts]:
    counts = ranking.rank_counts(
        queries,
        query_labels,
        gallery,
        gallery_labels,
        found=found,
        part=(start, stop),
        tiling=tiling.on_one_thread() if alone else tiling,
    )
    return start, stop, counts
