"""evaluate: measure exact retrieval accuracy of queries against a gallery."""

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.arguments import LOCATION, Location
from jobs.console import progress
from jobs.flags import ExpansionFlags, FoldFlags, RerankingFlags, stated
from pipeline.errors import InputError

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from collections.abc import Callable

    from jobs.comparison import Side
    from jobs.evaluation_report import Ranking
    from jobs.neighborhood import Neighborhood
    from pipeline.core.expansion import Expansion
    from pipeline.core.reranking import Reranking


NO_EXPANSION = ExpansionFlags()
NO_RERANKING = RerankingFlags()
THIS_PROCESS = FoldFlags()


@dataclass(frozen=True)
class Evaluated:
    """Where the report lies, and the report itself (see `pipeline.report.results`)."""

    report_json: Path
    report_html: Path
    report: dict[str, Any]


def evaluate(
    *,
    query: Location,
    gallery: Location,
    out: Annotated[Path, LOCATION],
    query_version: int | None = None,
    gallery_version: int | None = None,
    max_rank: int = 50,
    expansion: ExpansionFlags = NO_EXPANSION,
    reranking: RerankingFlags = NO_RERANKING,
    on: FoldFlags = THIS_PROCESS,
) -> Evaluated:
    """Measure exact retrieval accuracy of queries against a gallery.

    Gives CMC, mAP in both definitions and mINP, plain, with alpha query
    expansion and re-ranked, as a table, report.json and a self-contained
    report.html. Rows of the query's identity and camera, and junk, are left
    out; distractors count. The figures do not depend on blocks or workers.

    For example:

        regallery evaluate --query galleries/query --gallery galleries/test
        --out report --aqe joint

    Args:
        query: Gallery of the queries.
        gallery: Gallery that is searched; of the same recipe.
        out: Folder of the report.
        query_version: Version of the queries (default: the latest).
        gallery_version: Version of the gallery (default: the latest).
        max_rank: Length of the CMC curve.
    """
    from jobs.comparison import check_matches, open_sides
    from jobs.evaluation_report import make_report, write_report
    from jobs.neighborhood import Neighborhood
    from pipeline.core.blocks import Tiling
    from pipeline.core.expansion import Expansion
    from pipeline.core.reranking import Reranking

    if max_rank < 1:
        raise InputError(f"--max-rank must be at least 1, not {max_rank}")
    if on.scratch is not None and not on.scratch.is_dir():
        raise InputError(f"--scratch {on.scratch} is no folder: make it first")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a report needs a folder")
    try:
        tiling = Tiling(**_chosen(on, ("query_block", "gallery_block")))
        ways: list[Expansion | Reranking] = [
            Expansion(mode, **stated(expansion, without=("aqe",))) for mode in expansion.aqe
        ]
        ways += [Reranking(**stated(reranking, without=("rerank",)))] if reranking.rerank else []
    except ValueError as error:
        raise InputError(str(error)) from error
    sides = open_sides(query, query_version, gallery, gallery_version)
    check_matches(*sides)
    with ExitStack() as stack:
        if on.workers:
            from cluster.connect import connect

            stack.enter_context(connect(on.address))
        # Absolute, since workers have folders of their own.
        scratch = on.scratch.absolute() if on.scratch else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        features = sides[0].features, sides[1].features
        around = Neighborhood.of(*features, ways, folder, tiling, on)
        rankings = [_ranked(sides, way, around, max_rank) for way in [None, *dict.fromkeys(ways)]]
        report = make_report(
            *sides,
            rankings,
            tiling,
            max_rank=max_rank,
            settings=_chosen(on, ("workers", "query_block", "gallery_block")),
            command=_command(sides, out, expansion, reranking),
        )
    json, html = write_report(report, *sides, out)
    return Evaluated(json, html, report)


def _chosen(on: FoldFlags, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in stated(on).items() if name in names}


def _command(sides: "tuple[Side, Side]", out: Path, *flags: Any) -> list[str]:
    """What to type to get the same report again, from any folder."""
    words = ["regallery", "evaluate"]
    for name, side in zip(("query", "gallery"), sides, strict=True):
        words += [f"--{name}", str(Path(side.gallery.location).absolute())]
        words += [f"--{name}-version", str(side.gallery.version)]
    words += ["--out", str(out.absolute())]
    for name, value in (pair for each in flags for pair in stated(each).items()):
        if isinstance(value, bool):
            words += [f"--{name}"] if value else []
        else:
            every = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}={one}" for one in every]
    return words


def describe(result: Evaluated) -> RenderableType:
    """The metrics, then where the report is."""
    from pipeline.report.console import metrics_table
    from pipeline.report.results import checked

    return Group(metrics_table(checked(result.report)), Text(f"report: {result.report_html}"))


def _ranked(
    sides: "tuple[Side, Side]",
    settings: "Expansion | Reranking | None",
    around: "Neighborhood",
    max_rank: int,
) -> "Ranking":
    """Expand or re-rank as `settings` say, count the ranks, and sum them up."""
    from jobs.evaluation_report import Ranking
    from pipeline.core.expansion import Expansion
    from pipeline.core.metrics import summarize
    from pipeline.core.reranking import Reranking
    from pipeline.stages.evaluate import count_ranks

    query, gallery = sides
    queries, rows = query.features, gallery.features
    name = "baseline" if settings is None else settings.name
    begun = time.perf_counter()
    with progress() as bar:

        def told(task: str, total: int) -> "Callable[[int], None]":
            number = bar.add_task(f"{name}: {task}", total=total)
            return lambda done: bar.advance(number, done)

        if isinstance(settings, Expansion):
            queries, rows = around.expand(settings, told)
        if isinstance(settings, Reranking):
            counts = around.rerank(query.labels, gallery.labels, settings, told)
        else:
            counts = count_ranks(
                queries,
                query.labels,
                rows,
                gallery.labels,
                workers=around.on.workers,
                tiling=around.tiling,
                progress=told("counting ranks", len(rows)),
            )
    summary = summarize(counts, len(rows), max_rank=max_rank)
    return Ranking(name, settings, queries, rows, summary, time.perf_counter() - begun)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
