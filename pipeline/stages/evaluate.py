"""The counts of an evaluation, part by part of the gallery.

The counts of parts add up, so every result is the same to the bit for any `execution`. Progress
counts the gallery rows of the finished parts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.evaluation import by_camera as camera_figures
from pipeline.core.evaluation import multi_query, ranking, single_shot
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.multi_query import QueryGroups
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.evaluation.single_shot import SingleShot
from pipeline.core.ledger import Account, Ledger
from pipeline.core.thresholds.negatives import (
    Negatives,
    count_negatives,
    count_negatives_of_others,
    margin,
)
from pipeline.core.thresholds.open_set import OpenSet, settle_rates
from pipeline.stages.execution import Execution, Step

Sides = tuple[FeatureRows, Labels, FeatureRows, Labels]


def count_ranks(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    *,
    execution: Execution = Execution(),
) -> RankCounts:
    """Count ranks as `ranking.rank_counts` does, over the whole gallery."""
    sides = (queries, query_labels, gallery, gallery_labels)
    found = ranking.matches(*sides, tiling=execution.tiling)
    step = execution.progress("counting ranks", len(gallery))
    over = _Pass(sides, execution, step, on_gpu=True)
    total = found
    for counts, account in over.counts(_count_part, found=found):
        total += counts
        execution.ledger.add(account)
    return total


def _count_part(*sides: Any, **options: Any) -> tuple[RankCounts, Account]:
    ledger = Ledger()
    return ranking.rank_counts(*sides, **options, ledger=ledger), ledger.total


def count_best_ranks(
    images: FeatureRows,
    groups: QueryGroups,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    *,
    execution: Execution = Execution(),
) -> RankCounts:
    """Count ranks as `multi_query.best_counts` does, over the whole gallery."""
    sides = (images, query_labels, gallery, gallery_labels)
    found = multi_query.best_matches(
        images, groups, query_labels, gallery, gallery_labels, tiling=execution.tiling
    )
    step = execution.progress("counting ranks", len(gallery))
    total = found
    for counts in _Pass(sides, execution, step).counts(_count_best, groups=groups, found=found):
        total += counts
    return total


def _count_best(
    images: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    *,
    groups: QueryGroups,
    **options: Any,
) -> RankCounts:
    sides = (images, groups, query_labels, gallery, gallery_labels)
    return multi_query.best_counts(*sides, **options)


def count_within_cameras(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    execution: Execution = Execution(),
) -> NDArray[np.int64]:
    """Count as `by_camera.count_within_cameras` does, over the whole gallery; the result is
    `[M]`.
    """
    sides = (queries, query_labels, gallery, gallery_labels)
    step = execution.progress("counting by camera", len(gallery))
    over = _Pass(sides, execution, step, camera_figures.BLOCKS_AT_ONCE)
    counts = over.counts(camera_figures.count_within_cameras, found=found)
    return sum(counts, start=np.zeros(len(found.rows), np.int64))


def without_own_camera(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    execution: Execution = Execution(),
) -> RankCounts:
    """The counts of `found`, over the whole gallery, in lists without rows of the query's camera.

    This takes one more pass over the gallery, with `by_camera.count_within_own_camera`.
    """
    sides = (queries, query_labels, gallery, gallery_labels)
    step = execution.progress("leaving out own cameras", len(gallery))
    over = _Pass(sides, execution, step, camera_figures.BLOCKS_AT_ONCE)
    counts = over.counts(camera_figures.count_within_own_camera, found=found)
    own = sum(counts, start=np.zeros(len(found.rows), np.int64))
    return RankCounts(found.offsets, found.rows, found.scores, found.ahead - own)


def measure_open_set(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    *,
    not_own_camera: bool = False,
    execution: Execution = Execution(),
) -> OpenSet | None:
    """The figures of `open_set.open_set`; the positives are the matches `found`.

    With `not_own_camera`, rows of the query's camera are not negatives. This takes two passes over
    the gallery.
    """
    sides = (queries, query_labels, gallery, gallery_labels)
    step = execution.progress("counting negatives", 2 * len(gallery))
    over = _Pass(sides, execution, step)

    def count(settled: NDArray[np.int64]) -> Negatives:
        fold = count_negatives_of_others if not_own_camera else count_negatives
        return sum(over.counts(fold, settled=settled), start=Negatives.none(settled))

    return settle_rates(found.scores, count, margin(gallery.dimension))


def draw_first_ranks(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    settings: SingleShot,
    *,
    execution: Execution = Execution(),
) -> NDArray[np.int64]:
    """The first ranks `[R, Q]` of `single_shot.first_ranks` in every draw; each draw is a part.

    Progress counts the finished draws.
    """
    sides = (queries, query_labels, gallery, gallery_labels)
    shared = (sides, found, settings, execution.worker_tiling)
    step = execution.progress("drawing images", settings.repeats)
    ranks = np.zeros((settings.repeats, len(queries)), np.int64)
    parts = ((repeat,) for repeat in range(settings.repeats))
    for repeat, first in execution.run_parts(_draw, shared, parts):
        ranks[repeat] = first
        step(1)
    return ranks


@dataclass(frozen=True)
class _Pass:
    """A pass over the gallery in parts of several blocks; `step` counts the rows of each part.

    If `on_gpu`, its tasks have the tiling's share of a GPU.
    """

    sides: Sides
    execution: Execution
    step: Step
    blocks_at_once: int = 1
    on_gpu: bool = False

    def counts(self, fold: Callable[..., Any], **options: Any) -> Iterator[Any]:
        """Yield the result of `fold` for each part; in this process there are at most a hundred
        parts.
        """
        execution, tiling = self.execution, self.execution.tiling
        length, size = len(self.sides[2]), self.blocks_at_once * tiling.gallery_block
        size = tiling.rows_of_part() if self.on_gpu and tiling.gpus else size
        parts = execution.parts(length, size)
        shared = (fold, self.sides, options, execution.worker_tiling)
        for start, stop, counts in execution.run_parts(_part, shared, parts, on_gpu=self.on_gpu):
            yield counts
            self.step(stop - start)


def _part(
    fold: Callable[..., Any],
    sides: Sides,
    options: dict[str, Any],
    tiling: Tiling,
    start: int,
    stop: int,
) -> tuple[int, int, Any]:
    return start, stop, fold(*sides, **options, part=(start, stop), tiling=tiling)


def _draw(
    sides: Sides,
    found: RankCounts,
    settings: SingleShot,
    tiling: Tiling,
    repeat: int,
) -> tuple[int, NDArray[np.int64]]:
    return repeat, single_shot.first_ranks(*sides, found, settings, repeat, tiling=tiling)
