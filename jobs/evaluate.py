"""evaluate: measure exact retrieval accuracy of queries against a gallery."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.console import progress_lines
from jobs.command.flags import CameraFlags, ExpansionFlags, FigureFlags, FoldFlags, RerankingFlags
from jobs.command.times import moment
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.resources import joined
from pipeline.runs.settings import (
    CameraSettings,
    ExpansionSettings,
    FigureSettings,
    FoldSettings,
    RerankingSettings,
    check_scratch,
    stated,
)

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from pipeline.report.results import Report
    from pipeline.runs.sides import Side

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """Where the report lies, and the report itself.

    `products` are the pairs of the counted ranks and of the neighbors, by what was multiplied for
    them, and those that were scored.
    """

    report_json: Path
    report_html: Path
    report: "Report"
    products: dict[str, int | float] = field(compare=False, default_factory=dict)


def evaluate(
    *,
    query: Location,
    gallery: Location,
    out: Annotated[Path, LOCATION],
    query_version: int | None = None,
    query_at: str | None = None,
    gallery_version: int | None = None,
    gallery_at: str | None = None,
    figures: FigureFlags = FigureSettings(),
    cameras: CameraFlags = CameraSettings(),
    expansion: ExpansionFlags = ExpansionSettings(),
    reranking: RerankingFlags = RerankingSettings(),
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
        gallery: Gallery to search; it must have the same recipe.
        out: Folder to write the report to.
        query_version: Version of the queries (default: the latest).
        query_at: Use the version of the queries that was latest at this time (ISO 8601, UTC)
            instead.
        gallery_version: Version of the gallery (default: the latest).
        gallery_at: Use the version of the gallery that was latest at this time instead.
    """
    from pipeline.core.cameras.normalization import CameraNormalization
    from pipeline.core.expansion import Expansion
    from pipeline.core.reranking.distances import Reranking
    from pipeline.gallery.scratch import scratch_folder
    from pipeline.gallery.table import Gallery
    from pipeline.report.page import check_place
    from pipeline.runs.evaluation_report import make_report, write_report
    from pipeline.runs.rankings import Figures, rank_every
    from pipeline.runs.sides import check_matches, open_sides, warn_of_oddities

    check_scratch(on.scratch)
    _tell_unused(expansion, cameras, reranking, on)
    check_place(out)
    try:
        on.execution()
        ways: list[Expansion | Reranking] = [
            Expansion(mode, **stated(expansion, without=("aqe",))) for mode in expansion.aqe
        ]
        ways += [Reranking(**stated(reranking, without=("rerank",)))] if reranking.rerank else []
        of_cameras = {} if cameras.camera_rows is None else {"least_rows": cameras.camera_rows}
        normalizations = [
            CameraNormalization(mode, **of_cameras)
            for mode in dict.fromkeys(cameras.camera_normalize)
        ]
        wanted = Figures.of(figures)
    except ValueError as error:
        raise InputError(str(error)) from error
    wanted.check(ways)
    sides = open_sides(
        Gallery.open(query, query_version, moment("--query-at", query_at)),
        Gallery.open(gallery, gallery_version, moment("--gallery-at", gallery_at)),
        figures.same_place,
        clothes_changed=figures.clothes_changed,
    )
    check_matches(*sides)
    warn_of_oddities(*sides)
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        # Absolute, since workers have folders of their own.
        base = on.scratch.absolute() if on.scratch else None
        tables = [side.gallery for side in sides]
        made_by = [repr(each) for each in (*normalizations, *ways)]
        folder = stack.enter_context(scratch_folder(base, "evaluate", tables, made_by))
        execution = on.execution(stack.enter_context(progress_lines()))
        rankings = rank_every(*sides, [None, *normalizations], ways, wanted, folder, execution)
        logger.debug("ranks and neighbors: %s", execution.ledger.total)
        report = make_report(
            *sides,
            rankings,
            figures=wanted,
            settings=_chosen(on, ("workers", "query_block", "gallery_block"))
            | _of_matches(figures),
            command=_command(sides, out, figures, cameras, expansion, reranking),
        )
    json, html = write_report(report, *sides, out)
    return Evaluated(json, html, report, execution.ledger.total.figures())


def _tell_unused(
    expansion: ExpansionSettings,
    cameras: CameraSettings,
    reranking: RerankingSettings,
    on: FoldSettings,
) -> None:
    """Warn of settings that change nothing because the feature they belong to is off."""
    for settings, switch in (
        (expansion, "aqe"), (cameras, "camera_normalize"), (reranking, "rerank")
    ):  # fmt: skip
        given = list(stated(settings, without=(switch,)))
        if given and not getattr(settings, switch):
            names = ", ".join(f"`{name}`" for name in given)
            logger.warning("%s has no effect without `%s`", names, switch)
    if on.address and not on.workers:
        logger.warning("`address` has no effect without `workers`")


def _of_matches(figures: FigureSettings) -> dict[str, Any]:
    """What a match must be beside its usual self, for the report."""
    said: dict[str, Any] = {"clothes_changed": True} if figures.clothes_changed else {}
    return said | ({"same_place": " ".join(figures.same_place)} if figures.same_place else {})


def _chosen(on: FoldSettings, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in stated(on).items() if name in names}


def _command(sides: "tuple[Side, Side]", out: Path, *flags: Any) -> list[str]:
    """What to type to get the same report again, from any folder."""
    words = ["regallery", "evaluate"]
    for name, side in zip(("query", "gallery"), sides, strict=True):
        words += [f"--{name}", str(Path(side.gallery.location).absolute())]
        words += [f"--{name}-version", str(side.gallery.version)]
    words += ["--out", str(out.absolute())]
    for known, value in (
        (known, getattr(each, known.name)) for each in flags for known in fields(each)
    ):
        name = known.name.replace("_", "-")
        if value == known.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            every = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}={one}" for one in every]
    return words


def describe(result: Evaluated) -> RenderableType:
    """The metrics, then where the report is."""
    from pipeline.report.console import metrics_table

    return Group(metrics_table(result.report), Text(f"report: {result.report_html}"))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
