"""One way to rank queries against a gallery, and all its figures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows
from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.bootstrap import Bootstrap, intervals
from pipeline.core.evaluation.by_camera import (
    CameraFigures,
    PairFigures,
    by_camera_pair,
    by_query_camera,
)
from pipeline.core.evaluation.metrics import Summary, summarize, with_draws
from pipeline.core.evaluation.multi_query import best_lists
from pipeline.core.evaluation.ranked_lists import (
    RankedLists,
    examples,
    lists_of_other_cameras,
    ranked_lists,
)
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.evaluation.single_shot import SingleShot, list_length
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.core.reranking.lists import reranked_lists
from pipeline.core.thresholds.open_set import OpenSet
from pipeline.errors import InputError
from pipeline.runs.neighborhood import Neighborhood
from pipeline.runs.query_forms import LabeledRows, MultiQuery, as_queries
from pipeline.runs.settings import FigureSettings, stated
from pipeline.runs.sides import LabeledSide, normalize_sides
from pipeline.stages.evaluate import (
    count_best_ranks,
    count_ranks,
    count_within_cameras,
    draw_first_ranks,
    measure_open_set,
    without_own_camera,
)
from pipeline.stages.execution import Execution

SHOWN_QUERIES = 5
SHOWN_ROWS = 10

_OF_MATCHES = ("same_place", "clothes_changed", "multi_query")


@dataclass(frozen=True)
class Figures:
    """Which figures to compute, and how they are drawn; None for those left out."""

    max_rank: int
    open_set: bool
    camera_pairs: bool
    bootstrap: Bootstrap | None
    draws: SingleShot | None
    multi_query: MultiQuery | None = None
    not_own_camera: bool = False

    @classmethod
    def of(cls, settings: FigureSettings, *, not_own_camera: bool = False) -> "Figures":
        """The figures that the settings name; raise ValueError for settings without meaning.

        With `not_own_camera`, lists are without the rows of the query's camera.
        """
        seed: dict[str, Any] = {} if settings.seed is None else {"seed": settings.seed}
        names = ("max_rank", "open_set", "camera_pairs", "protocol", "seed", *_OF_MATCHES)
        drawn = stated(settings, without=names) | seed
        return cls(
            max_rank=settings.max_rank,
            open_set=settings.open_set,
            camera_pairs=settings.camera_pairs,
            bootstrap=None if settings.replicates == 0 else Bootstrap(**drawn),
            draws=SingleShot(**seed) if settings.protocol == "cuhk03" else None,
            multi_query=settings.multi_query,
            not_own_camera=not_own_camera,
        )

    def check(self, ways: list[Expansion | Reranking]) -> None:
        """Raise InputError if a way to rank does not support the requested figures."""
        reranked = any(isinstance(way, Reranking) for way in ways)
        if self.not_own_camera and (reranked or self.draws or self.multi_query == "best"):
            other = "`protocol` cuhk03" if self.draws else "`multi_query` best"
            raise InputError(
                f"{'`rerank`' if reranked else other} does not go with `not_own_camera`: it is"
                " computed over the whole gallery; leave out one of the two"
            )
        if self.draws and reranked:
            raise InputError(
                "`rerank` does not go with `protocol` cuhk03: k-reciprocal distances depend on the"
                " whole gallery; leave out one of the two"
            )
        if self.multi_query == "best":
            if any(isinstance(way, Reranking) for way in ways):
                raise InputError(
                    "`rerank` does not go with `multi_query` best, which has no distance between"
                    " queries: give `multi_query` mean"
                )
            if self.draws:
                raise InputError(
                    "`protocol` cuhk03 does not go with `multi_query` best: give `multi_query` mean"
                )


@dataclass(frozen=True)
class Ranking:
    """One way to rank: its name and its results.

    `intervals` `[2, 2]` are those of mAP and rank-1; `gains` `[3, 2]` those of what mAP, rank-1 and
    mINP gain over the first ranking, query by query (None for the first itself). Re-ranked lists
    have no open-set figures and no camera pairs, since no similarity orders them; nor have those by
    the best image of each query. `examples` are
    some queries of high, of middle and of low AP, and `lists` the top of their lists, one after the
    other.
    """

    name: str
    normalization: CameraNormalization | None
    settings: Expansion | Reranking | None
    summary: Summary
    intervals: NDArray[np.float64] | None
    open_set: OpenSet | None
    cameras: list[CameraFigures]
    pairs: list[PairFigures] | None
    seconds: float
    examples: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    lists: RankedLists
    gains: NDArray[np.float64] | None = None


def rank_every(
    query: LabeledSide,
    gallery: LabeledSide,
    normalizations: Sequence[CameraNormalization | None],
    ways: Sequence[Expansion | Reranking],
    figures: Figures,
    folder: Path,
    execution: Execution,
) -> list[Ranking]:
    """Rank both sides plainly and in each of `ways`, for each normalization (None: without).

    Files are written to `folder`, which every worker sees.
    """
    rankings = []
    for number, normalization in enumerate(normalizations):
        sides = query, gallery
        if normalization:
            sides = normalize_sides(query, gallery, normalization, execution)
        inside = folder / str(number)
        inside.mkdir(exist_ok=True)
        first, second = (LabeledRows(side.features, side.labels) for side in sides)
        first = as_queries(first, figures.multi_query)
        rankings += rank_all_ways(first, second, ways, figures, inside, execution, normalization)
    return with_gains(rankings, figures.bootstrap)


def with_gains(rankings: Sequence[Ranking], settings: Bootstrap | None) -> list[Ranking]:
    """Add to rankings of the same queries the intervals of their gains over the first one.

    A gain is the mean of the differences query by query, so both rankings use the same draws.
    """
    first, *others = rankings
    if settings is None or not first.summary.valid:
        return list(rankings)
    base = _of_queries(first.summary)
    return [
        first,
        *(
            replace(each, gains=intervals(_of_queries(each.summary) - base, settings))
            for each in others
        ),
    ]


def rank_all_ways(
    query: LabeledRows,
    gallery: LabeledRows,
    ways: Sequence[Expansion | Reranking],
    figures: Figures,
    folder: Path,
    execution: Execution,
    normalization: CameraNormalization | None = None,
) -> list[Ranking]:
    """Rank both sides plainly and in each of `ways`; `normalization` says how they were normalized.

    Files are written to `folder`, which every worker sees; none without `ways`.
    """
    around = Neighborhood.of(query.features, gallery.features, ways, folder)
    return [
        rank(query, gallery, way, around, figures, normalization, execution)
        for way in (None, *dict.fromkeys(ways))
    ]


def rank(
    query: LabeledRows,
    gallery: LabeledRows,
    settings: Expansion | Reranking | None,
    around: Neighborhood,
    figures: Figures,
    normalization: CameraNormalization | None,
    execution: Execution,
) -> Ranking:
    """Expand or re-rank as `settings` say, and compute the figures.

    `normalization` says how both sides were normalized.
    """
    queries, rows = query.features, gallery.features
    name = " + ".join(each.name for each in (normalization, settings) if each) or "baseline"
    begun = time.perf_counter()
    execution = execution.named(f"{name}: ")
    open_set, pairs, reranked = None, None, None
    if isinstance(settings, Reranking):
        reranked, counts = around.rerank(query.labels, gallery.labels, settings, execution)
        summary = summarize(counts, len(rows), max_rank=figures.max_rank)
    else:
        if settings:
            queries, rows = around.expand(settings, execution)
        counts = _counted(query, queries, gallery, rows, execution)
        sides = (queries, query.labels, rows, gallery.labels)
        if figures.not_own_camera:
            counts = without_own_camera(*sides, counts, execution=execution)
        summary = summarize(counts, len(rows), max_rank=figures.max_rank)
        if figures.draws:
            ranks = draw_first_ranks(*sides, counts, figures.draws, execution=execution)
            length = list_length(gallery.labels)
            summary = with_draws(summary, ranks, length, max_rank=figures.max_rank)
        if figures.camera_pairs and query.groups is None:
            within = count_within_cameras(*sides, counts, execution=execution)
            pairs = by_camera_pair(counts, within, query.labels, gallery.labels)
        if figures.open_set and query.groups is None:
            open_set = measure_open_set(
                *sides, counts, not_own_camera=figures.not_own_camera, execution=execution
            )
    seconds = time.perf_counter() - begun
    chosen = examples(summary.average_precision, SHOWN_QUERIES)
    asked = np.concatenate(chosen)
    labels = query.labels.take(asked), gallery.labels
    tiling = replace(execution.tiling, gpus=0)  # few queries: a GPU is for the folds
    if reranked:
        shown = reranked.of_queries(asked)
        lists = reranked_lists(shown, *labels, SHOWN_ROWS, tiling=tiling)
    elif query.groups is not None:
        images, groups = query.groups.take(asked)
        few = queries.take(images)
        lists = best_lists(few, groups, labels[0], rows, labels[1], SHOWN_ROWS, tiling=tiling)
    else:
        few = queries.take(asked)
        list_rows = lists_of_other_cameras if figures.not_own_camera else ranked_lists
        lists = list_rows(few, labels[0], rows, labels[1], SHOWN_ROWS, tiling=tiling)
    return Ranking(
        name=name,
        normalization=normalization,
        settings=settings,
        summary=summary,
        intervals=_intervals(summary, figures.bootstrap),
        open_set=open_set,
        cameras=by_query_camera(summary, query.labels),
        pairs=pairs,
        seconds=seconds,
        examples=chosen,
        lists=lists,
    )


def _counted(
    query: LabeledRows,
    images: FeatureRows,
    gallery: LabeledRows,
    rows: FeatureRows,
    execution: Execution,
) -> RankCounts:
    """The ranks of the matches, by the features `images` and `rows`."""
    if query.groups is None:
        return count_ranks(images, query.labels, rows, gallery.labels, execution=execution)
    return count_best_ranks(
        images, query.groups, query.labels, rows, gallery.labels, execution=execution
    )


def _intervals(summary: Summary, settings: Bootstrap | None) -> NDArray[np.float64] | None:
    """The intervals `[2, 2]` of mAP and rank-1 over the valid queries."""
    if settings is None or not summary.valid:
        return None
    return intervals(_of_queries(summary)[:2], settings)


def _of_queries(summary: Summary) -> NDArray[np.float64]:
    """AP, rank-1 and INP `[3, V]` of the valid queries."""
    values = [summary.average_precision, summary.rank1, summary.inverse_negative_penalty]
    return np.stack(values)[:, summary.first_rank > 0]
