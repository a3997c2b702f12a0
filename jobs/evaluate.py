"""evaluate: measure exact retrieval accuracy of queries against a gallery."""

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.arguments import LOCATION, Location
from jobs.console import progress
from pipeline.errors import InputError

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from collections.abc import Callable

    from jobs.comparison import Side
    from jobs.evaluation_report import Ranking
    from pipeline.core.blocks import Tiling
    from pipeline.core.expansion import Expansion
    from pipeline.core.reranking import Reranking


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
    aqe: tuple[Literal["query", "database", "joint"], ...] = (),
    k: int = 10,
    alpha: float = 3.0,
    times: int = 1,
    rerank: bool = False,
    k1: int = 20,
    k2: int = 6,
    lam: float = 0.3,
    variant: Literal["zhong", "torchreid"] = "zhong",
    max_rank: int = 50,
    workers: int = 0,
    address: str | None = None,
    query_block: int = 1024,
    gallery_block: int = 4096,
    memory: float = 4.0,
    scratch: Annotated[Path, LOCATION] | None = None,
) -> Evaluated:
    """Measure exact retrieval accuracy of queries against a gallery.

    Gives CMC, mAP in both definitions and mINP, with and without alpha query expansion, as a table,
    report.json and a self-contained report.html. Rows of the query's identity and camera, and junk,
    are left out; distractors count. The figures do not depend on blocks or workers.

    For example:

        regallery evaluate --query galleries/query --gallery galleries/test --out report --aqe joint

    Args:
        query: Gallery of the queries.
        gallery: Gallery that is searched; of the same recipe.
        out: Folder of the report.
        query_version: Version of the queries (default: the latest).
        gallery_version: Version of the gallery (default: the latest).
        aqe: Also rank with query expansion in this mode; give it again for another mode.
        k: Neighbours of the expansion, the row itself included.
        alpha: Power of the similarity that weighs a neighbour; 0 for a plain mean.
        times: Rounds of expansion.
        rerank: Also rank by k-reciprocal distance, in this process.
        k1: Neighbours of the re-ranking.
        k2: Rows that the re-ranking averages, the row itself included.
        lam: Share of the original distance in the re-ranked one.
        variant: Original distance: squared Euclidean (zhong), or its square (torchreid).
        max_rank: Length of the CMC curve.
        workers: Ray tasks at once; 0 works in this process, on all its CPUs.
        address: Ray cluster to join (auto, host:port, ray://...); without it, this machine alone.
        query_block: Queries of a tile.
        gallery_block: Gallery rows of a tile: with the former, what bounds the memory.
        memory: GiB that an expansion may hold in features; above it, more passes are made.
        scratch: Folder for expanded features, seen by every worker (default: a temporary one).
    """
    from jobs.comparison import check_matches, open_sides
    from jobs.evaluation_report import make_report, write_report
    from pipeline.core.blocks import Tiling
    from pipeline.core.expansion import Expansion
    from pipeline.core.reranking import Reranking

    try:
        tiling = Tiling(query_block, gallery_block)
        modes = [Expansion(mode, k, alpha, times) for mode in dict.fromkeys(aqe)]
        reranking = [Reranking(k1, k2, lam, variant)] if rerank else []
    except ValueError as error:
        raise InputError(str(error)) from error
    flags = (("--max-rank", max_rank, 1), ("--workers", workers, 0), ("--memory", memory, 0))
    for flag, value, least in flags:
        if not value >= least:
            raise InputError(f"{flag} must be at least {least}, not {value}")
    if scratch is not None and not scratch.is_dir():
        raise InputError(f"--scratch {scratch} is no folder: make it first")
    scratch = scratch and scratch.absolute()  # workers have folders of their own
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a report needs a folder")
    sides = open_sides(query, query_version, gallery, gallery_version)
    check_matches(*sides)
    with ExitStack() as stack:
        if workers:
            from cluster.connect import connect

            stack.enter_context(connect(address))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        rankings = [
            _ranked(sides, settings, folder / str(place), tiling, workers, max_rank, memory)
            for place, settings in enumerate([None, *modes, *reranking])
        ]
        settings = {
            "k": k, "alpha": alpha, "times": times, "workers": workers,
            "query block": query_block, "gallery block": gallery_block,
        }  # fmt: skip
        stated = [f"--aqe={mode.mode}" for mode in modes]
        if modes:
            stated += [f"--k={k}", f"--alpha={alpha}", f"--times={times}"]
        if rerank:
            stated += ["--rerank", f"--k1={k1}", f"--k2={k2}", f"--lam={lam}"]
            stated += [f"--variant={variant}"]
        report = make_report(
            *sides,
            rankings,
            tiling,
            max_rank=max_rank,
            settings=settings,
            command=_command(sides, out, stated),
        )
    json, html = write_report(report, *sides, out)
    return Evaluated(json, html, report)


def _command(sides: "tuple[Side, Side]", out: Path, stated: list[str]) -> list[str]:
    """What to type to get the same report again, from any folder."""
    words = ["regallery", "evaluate"]
    for name, side in zip(("query", "gallery"), sides, strict=True):
        words += [f"--{name}", str(Path(side.gallery.location).absolute())]
        words += [f"--{name}-version", str(side.gallery.version)]
    return [*words, "--out", str(out.absolute()), *stated]


def describe(result: Evaluated) -> RenderableType:
    """The metrics, then where the report is."""
    from pipeline.report.console import metrics_table
    from pipeline.report.results import checked

    return Group(metrics_table(checked(result.report)), Text(f"report: {result.report_html}"))


def _ranked(
    sides: "tuple[Side, Side]",
    settings: "Expansion | Reranking | None",
    folder: Path,
    tiling: "Tiling",
    workers: int,
    max_rank: int,
    memory: float,
) -> "Ranking":
    """Expand or re-rank as `settings` say, count the ranks, and sum them up."""
    from jobs.evaluation_report import Ranking
    from pipeline.core.expansion import Expansion
    from pipeline.core.metrics import summarize
    from pipeline.core.reranking import Reranking
    from pipeline.stages.evaluate import count_ranks
    from pipeline.stages.expand import expand_all, rows_to_expand
    from pipeline.stages.rerank import count_reranked

    query, gallery = sides
    queries, rows = query.features, gallery.features
    name = "baseline" if settings is None else settings.name
    begun = time.perf_counter()
    with progress() as bar:

        def told(task: str, total: int) -> "Callable[[int], None]":
            number = bar.add_task(f"{name}: {task}", total=total)
            return lambda done: bar.advance(number, done)

        if isinstance(settings, Expansion):
            folder.mkdir()
            total = settings.times * rows_to_expand(settings.mode, len(queries), len(rows))
            queries, rows = expand_all(
                queries,
                rows,
                settings,
                folder,
                workers=workers,
                tiling=tiling,
                memory=int(memory * 2**30),
                progress=told("expanding", total),
            )
        ranked = (queries, query.labels, rows, gallery.labels)
        counted = told("counting ranks", len(rows))
        if isinstance(settings, Reranking):
            counts = count_reranked(*ranked, settings, tiling=tiling, progress=counted)
        else:
            counts = count_ranks(*ranked, workers=workers, tiling=tiling, progress=counted)
    summary = summarize(counts, len(rows), max_rank=max_rank)
    return Ranking(name, settings, queries, rows, summary, time.perf_counter() - begun)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
