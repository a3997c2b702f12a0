"""All figures of two sets of features, or of two galleries, in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.evaluation.labels import Labels
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.gallery.table import Gallery
from pipeline.runs.arrays import Features, Pair, both_labels, feature_rows
from pipeline.runs.query_forms import LabeledRows, as_queries
from pipeline.runs.query_list import query_rows
from pipeline.runs.rankings import Figures, Ranking, rank_all_ways, with_gains
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FigureSettings
from pipeline.runs.sides import check_matches, open_sides
from pipeline.runs.union import as_one
from pipeline.stages.execution import Execution

_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Evaluation:
    """The figures of every way to rank, the plain one first; prints as a table in percent.

    Each ranking has a `summary` (CMC, mAP in both definitions, mINP, all per query too), the
    confidence `intervals` of mAP and rank-1, those of its `gains` over the first,
    `open_set`, `cameras`, `pairs` of cameras, and the `lists` of some queries.
    """

    rankings: tuple[Ranking, ...]

    @property
    def baseline(self) -> Ranking:
        """The plain ranking."""
        return self.rankings[0]

    def __getitem__(self, name: str) -> Ranking:
        """The ranking that the table shows under this name; raise KeyError if there is none."""
        for ranking in self.rankings:
            if ranking.name == name:
                return ranking
        raise KeyError(name)

    def __str__(self) -> str:
        width = max(len("result"), *(len(each.name) for each in self.rankings))
        heads = ("mAP", "trapez.", "mINP", *(f"R{rank}" for rank in _RANKS))
        lines = ["  ".join([f"{'result':<{width}}", *(f"{head:>7}" for head in heads)])]
        for ranking in self.rankings:
            found = ranking.summary
            curve = [found.cmc[r - 1] if r <= len(found.cmc) else None for r in _RANKS]
            values = [found.mean_ap, found.mean_ap_trapezoid, found.mean_inp, *curve]
            shown = [f"{'-' if value is None else f'{100 * value:.2f}':>7}" for value in values]
            lines.append("  ".join([f"{ranking.name:<{width}}", *shown]))
        found = self.baseline.summary
        lines.append(f"over {found.valid:,} valid queries; {found.invalid:,} have no match")
        return "\n".join(lines)


def measure(
    queries: Features,
    query_labels: Labels | Pair,
    gallery: Features,
    gallery_labels: Labels | Pair,
    ways: Sequence[Expansion | Reranking] = (),
    *,
    normalize: bool = False,
    figures: FigureSettings = FigureSettings(),
    execution: Execution = Execution(),
    scratch: Path | None = None,
) -> Evaluation:
    """Compute all metrics of `queries` `[Q, D]` in a `gallery` `[G, D]`: exact, without a Q x G
    array.

    Labels are `Labels`, or pairs of identities `[N]` (-1 junk, 0 distractor) and cameras `[N]`
    (numbers, text or None). Each of `ways` is ranked in addition to the plain similarity. Files of
    expansion and re-ranking go to a temporary folder below `scratch`. Raise ValueError for rows
    that are not of unit length, unless `normalize`, and for labels that do not fit.

    >>> found = measure([[1, 0]], ([7], ["a"]), [[0.6, 0.8], [1, 0]], ([7, 9], ["b", "b"]))
    >>> found.baseline.summary.mean_ap
    0.5
    """
    ours, theirs = both_labels(query_labels, gallery_labels)
    first = LabeledRows(feature_rows(queries, "queries", normalize), ours)
    second = LabeledRows(feature_rows(gallery, "gallery", normalize), theirs)
    return _ranked(first, second, ways, Figures.of(figures), execution, scratch)


def evaluate(
    query: Gallery,
    gallery: Gallery | Sequence[Gallery],
    ways: Sequence[Expansion | Reranking] = (),
    *,
    select: RowFilter = ALL_ROWS,
    queries: Path | None = None,
    figures: FigureSettings = FigureSettings(),
    execution: Execution = Execution(),
    scratch: Path | None = None,
) -> Evaluation:
    """All metrics of a gallery of queries in another of the same recipe, or in several as one.

    As `measure`, with features read block by block. Raise InputError if the two cannot be compared,
    or if no query can have a match. A file `queries` says which rows of `query` are queries (see
    `query_list.query_rows`). `select` says which rows of the gallery are ranked; queries without a
    match among them do not count. `regallery evaluate` writes the same figures as a report.
    """
    wanted = Figures.of(figures, not_own_camera=select.not_own_camera)
    sides = open_sides(query, as_one(gallery), select=select)
    if queries is not None:
        sides = sides[0].take(query_rows(query, queries)), sides[1]
    check_matches(*sides)
    first, second = (LabeledRows(side.features, side.labels) for side in sides)
    return _ranked(first, second, ways, wanted, execution, scratch)


def _ranked(
    query: LabeledRows,
    gallery: LabeledRows,
    ways: Sequence[Expansion | Reranking],
    wanted: Figures,
    execution: Execution,
    scratch: Path | None,
) -> Evaluation:
    wanted.check(list(ways))
    query = as_queries(query, wanted.multi_query)
    with TemporaryDirectory(dir=scratch, prefix="regallery-") as folder:
        rankings = rank_all_ways(query, gallery, ways, wanted, Path(folder), execution)
    return Evaluation(tuple(with_gains(rankings, wanted.bootstrap)))
