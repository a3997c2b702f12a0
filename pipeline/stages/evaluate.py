"""What an evaluation counts, part by part of the gallery.

The counts of parts add, so every result is the same to the bit for any number of `workers` (Ray
tasks at once; 0 counts in this process, on the threads of `tiling`). `progress` is told the gallery
rows that each part has passed over.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import camera_figures, ranking, single_shot
from pipeline.core.blocks import Blocks, FeatureRows, Tiling, blocks
from pipeline.core.negatives import Negatives, count_negatives, margin
from pipeline.core.open_set import OpenSet, settle
from pipeline.core.ranking import Labels, RankCounts
from pipeline.core.single_shot import SingleShot
from pipeline.stages.tasks import run_parts

Progress = Callable[[int], None]


def untold(_rows: int) -> None:
    """Progress that nobody follows."""


def count_ranks(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Progress = untold,
) -> RankCounts:
    """The counts of `ranking.rank_counts` over the whole gallery."""
    tiling = tiling or Tiling()
    total = ranking.matches(queries, query_labels, gallery, gallery_labels)
    sides = (queries, query_labels, gallery, gallery_labels)
    shared = (ranking.rank_counts, sides, {"found": total}, _inside(tiling, workers))
    parts = _parts(len(gallery), tiling.gallery_block, workers)
    for start, stop, counts in run_parts(_part, shared, parts, workers):
        total = total + counts
        progress(stop - start)
    return total


def count_within_cameras(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Progress = untold,
) -> NDArray[np.int64]:
    """The counts `[M]` of `camera_figures.count_within_cameras` over the whole gallery."""
    tiling = tiling or Tiling()
    ahead = np.zeros(len(found.rows), np.int64)
    sides = (queries, query_labels, gallery, gallery_labels)
    fold, options = camera_figures.count_within_cameras, {"found": found}
    shared = (fold, sides, options, _inside(tiling, workers))
    parts = _parts(len(gallery), camera_figures.BLOCKS_AT_ONCE * tiling.gallery_block, workers)
    for start, stop, counts in run_parts(_part, shared, parts, workers):
        ahead += counts
        progress(stop - start)
    return ahead


def measure_open_set(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Progress = untold,
) -> OpenSet | None:
    """The figures of `open_set.open_set`, whose positives are the matches `found`.

    The gallery is passed over twice.
    """
    tiling = tiling or Tiling()
    sides = (queries, query_labels, gallery, gallery_labels)

    def count(settled: NDArray[np.int64]) -> Negatives:
        total = Negatives.none(settled)
        shared = (count_negatives, sides, {"settled": settled}, _inside(tiling, workers))
        parts = _parts(len(gallery), tiling.gallery_block, workers)
        for start, stop, counts in run_parts(_part, shared, parts, workers):
            total = total + counts
            progress(stop - start)
        return total

    return settle(found.scores, count, margin(gallery.dimension))


def draw_first_ranks(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    settings: SingleShot,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Progress = untold,
) -> NDArray[np.int64]:
    """The first ranks `[R, Q]` of `single_shot.first_ranks` in every draw; a draw is a part.

    `progress` is told each draw that is done.
    """
    sides = (queries, query_labels, gallery, gallery_labels)
    shared = (sides, found, settings, _inside(tiling or Tiling(), workers))
    ranks = np.zeros((settings.repeats, len(queries)), np.int64)
    parts = ((repeat,) for repeat in range(settings.repeats))
    for repeat, first in run_parts(_draw, shared, parts, workers):
        ranks[repeat] = first
        progress(1)
    return ranks


def _inside(tiling: Tiling, workers: int) -> Tiling:
    """The tiling of a part: a worker owns one CPU."""
    return tiling.on_one_thread() if workers else tiling


def _parts(length: int, size: int, workers: int) -> Blocks:
    """Parts of `size` rows; in this process at most a hundred."""
    return blocks(length, size if workers else max(size, length // 100))


def _part(
    fold: Callable[..., Any],
    sides: tuple[FeatureRows, Labels, FeatureRows, Labels],
    options: dict[str, Any],
    tiling: Tiling,
    start: int,
    stop: int,
) -> tuple[int, int, Any]:
    return start, stop, fold(*sides, **options, part=(start, stop), tiling=tiling)


def _draw(
    sides: tuple[FeatureRows, Labels, FeatureRows, Labels],
    found: RankCounts,
    settings: SingleShot,
    tiling: Tiling,
    repeat: int,
) -> tuple[int, NDArray[np.int64]]:
    return repeat, single_shot.first_ranks(*sides, found, settings, repeat, tiling=tiling)
