"""evaluate: measure exact retrieval accuracy of queries against a gallery."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.flags import (
    CameraFlags,
    ExpansionFlags,
    FigureFlags,
    FilterFlags,
    FoldFlags,
    MistakeFlags,
    RerankingFlags,
)
from jobs.command.galleries import open_galleries
from jobs.command.progress import progress_lines
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.outcomes import Evaluated
from pipeline.runs.selection import ALL_ROWS
from pipeline.runs.settings import (
    CameraSettings,
    EvaluationSettings,
    ExpansionSettings,
    FigureSettings,
    FoldSettings,
    MistakeSettings,
    RerankingSettings,
)
from pipeline.runs.times import parse_time


def evaluate(
    *,
    query: Location,
    gallery: tuple[Location, ...],
    out: Annotated[Path, LOCATION],
    query_version: int | None = None,
    query_at: str | None = None,
    gallery_version: tuple[int, ...] = (),
    gallery_at: str | None = None,
    queries: Annotated[Path, LOCATION] | None = None,
    select: FilterFlags = ALL_ROWS,
    figures: FigureFlags = FigureSettings(),
    cameras: CameraFlags = CameraSettings(),
    expansion: ExpansionFlags = ExpansionSettings(),
    reranking: RerankingFlags = RerankingSettings(),
    mistakes: MistakeFlags = MistakeSettings(),
    on: FoldFlags = FoldSettings(),
) -> Evaluated:
    """Measure exact retrieval accuracy of queries against a gallery.

    Computes CMC, mAP in both definitions and mINP, with confidence
    intervals, overall, by camera and by pair of cameras, and the open-set
    figures: TAR at FAR 1e-2 to 1e-6 and the equal-error rate. Ranks plainly
    and, on request, with alpha query expansion and re-ranking. Writes a
    table, report.json and a self-contained report.html. Junk and rows of
    the query's own identity and camera are left out; distractors count. No
    figure depends on block sizes or workers.

    For example:

        regallery evaluate --query galleries/query --gallery galleries/test
        --out report --aqe joint

    Args:
        query: Gallery of the queries.
        gallery: Gallery to search; it must have the same recipe. Repeat for further galleries,
            which are ranked together.
        out: Folder to write the report to.
        query_version: Version of the queries (default: the latest).
        query_at: Use the version of the queries that was latest at this time (ISO 8601, UTC)
            instead.
        gallery_version: Version of the gallery (default: the latest); one for each gallery, in
            their order.
        gallery_at: Use the version of the gallery that was latest at this time instead.
        queries: Only these rows of the query gallery are queries: a text file with a path, or the
            name of a tracklet, in each line; or MARS' query_IDX.mat (see the documentation).
    """
    from pipeline.gallery.table import Gallery

    settings = EvaluationSettings(figures, cameras, expansion, reranking, select, mistakes)
    asked = Gallery.open(query, query_version, parse_time("--query-at", query_at))
    flags = "--gallery-version", "--gallery-at"
    held = open_galleries(gallery, gallery_version, gallery_at, flags)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.runs.evaluating import evaluate_to_report

        return evaluate_to_report(
            asked, held, out, settings, queries=queries, on=on, progress=progress
        )


def describe(result: Evaluated) -> RenderableType:
    """The metrics, then where the report is."""
    from pipeline.report.console import metrics_table

    lines = [f"report: {result.report_html}"]
    if (found := result.mistakes) is not None:
        lines.append(
            f"{found.false_accepts:,} false accepts and {found.false_rejects:,} false rejects at"
            f" threshold {found.threshold:.4f}; {found.listed:,} pairs: {found.file}"
        )
    return Group(metrics_table(result.report), *(Text(line) for line in lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
