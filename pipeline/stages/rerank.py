"""k-reciprocal re-ranking, from features to rank counts."""

from collections.abc import Callable

from pipeline.core import reranked_ranks
from pipeline.core.blocks import ArrayRows, FeatureRows, StackedRows, Tiling, blocks
from pipeline.core.neighbors import neighbors
from pipeline.core.ranking import Labels, RankCounts
from pipeline.core.reranking import Reranking, k_reciprocal


def count_reranked(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    settings: Reranking,
    *,
    tiling: Tiling | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> RankCounts:
    """Ranks of every query's matches in lists ordered by k-reciprocal distance, in this process.

    The features of both are held in memory, and the graph of their neighbours; nothing grows with
    Q x G. `progress` is told gallery rows as they are counted.
    """
    tiling = tiling or Tiling()
    first, second = (ArrayRows(rows.read(0, len(rows))) for rows in (queries, gallery))
    union = StackedRows(first, second)
    found = neighbors(union, settings.neighbors, tiling=tiling)
    reranked = k_reciprocal(union, found, settings, tiling=tiling)
    total = matches = reranked_ranks.matches(reranked, query_labels, gallery_labels)
    for part in blocks(len(gallery), max(tiling.gallery_block, len(gallery) // 20)):
        total = total + reranked_ranks.rank_counts(
            reranked, query_labels, gallery_labels, found=matches, part=part, tiling=tiling
        )
        progress(part[1] - part[0])
    return total
