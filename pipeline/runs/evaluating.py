"""The evaluation of queries in a gallery, in every requested way, as a report."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.multi_query import QueryGroups
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.table import Gallery
from pipeline.report.page import check_place
from pipeline.runs.evaluation_report import make_report, write_report
from pipeline.runs.mistakes import mistake_threshold, write_mistakes
from pipeline.runs.outcomes import Evaluated
from pipeline.runs.query_list import query_rows
from pipeline.runs.rankings import Figures, rank_every
from pipeline.runs.resources import joined
from pipeline.runs.selection import RowFilter
from pipeline.runs.settings import (
    EvaluationSettings,
    FigureSettings,
    FoldSettings,
    check_scratch,
    stated,
)
from pipeline.runs.sides import LabeledSide, check_matches, open_sides, warn_of_odd_sides
from pipeline.runs.union import as_one, parts_of
from pipeline.stages.execution import StartProgress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ways:
    """The ways to rank lists, and the figures to compute for them."""

    expansions: tuple[Expansion | Reranking, ...]
    normalizations: tuple[CameraNormalization, ...]
    figures: Figures

    @classmethod
    def of(cls, settings: EvaluationSettings) -> "_Ways":
        """Read the settings; raise InputError for values without meaning."""
        expansion, reranking, cameras = settings.expansion, settings.reranking, settings.cameras
        try:
            ways: list[Expansion | Reranking] = [
                Expansion(mode, **stated(expansion, without=("aqe",))) for mode in expansion.aqe
            ]
            ways += (
                [Reranking(**stated(reranking, without=("rerank",)))] if reranking.rerank else []
            )
            of_cameras = {} if cameras.camera_rows is None else {"least_rows": cameras.camera_rows}
            normalizations = [
                CameraNormalization(mode, **of_cameras)
                for mode in dict.fromkeys(cameras.camera_normalize)
            ]
            own = settings.select.not_own_camera
            figures = Figures.of(settings.figures, not_own_camera=own)
        except ValueError as error:
            raise InputError(str(error)) from error
        figures.check(ways)
        return cls(tuple(ways), tuple(normalizations), figures)


def evaluate_to_report(
    query: Gallery,
    gallery: Gallery | Sequence[Gallery],
    out: Path,
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    queries: Path | None = None,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> Evaluated:
    """Measure queries in a gallery, or in several as one, and write the report to `out`.

    A file `queries` says which rows of `query` are queries (see `query_list.query_rows`). Neighbors
    that a killed run found are reused. Raise InputError if the two cannot be compared, if no query
    can have a match, or if the report cannot be written.
    """
    check_scratch(on.scratch)
    _warn_of_unused(settings, on)
    check_place(out)
    ways, figures = _Ways.of(settings), settings.figures
    held = as_one(gallery)
    sides = open_sides(
        query,
        held,
        figures.same_place,
        clothes_changed=figures.clothes_changed,
        select=settings.select,
    )
    if queries is not None:
        sides = sides[0].take(query_rows(query, queries)), sides[1]
    check_matches(*sides)
    threshold = mistake_threshold(sides[1], settings.mistakes, out)
    warn_of_odd_sides(*sides)
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        base = stack.enter_context(_scratch_base(on.scratch, out, ways))
        sources = [query, *parts_of(held)]
        made_by = [repr(each) for each in (*ways.normalizations, *ways.expansions)]
        made_by += [repr(settings.select)] if settings.select.is_given else []
        folder = stack.enter_context(scratch_folder(base, "evaluate", sources, made_by))
        execution = on.execution(progress)
        normalizations = [None, *ways.normalizations]
        rankings = rank_every(
            *sides, normalizations, list(ways.expansions), ways.figures, folder, execution
        )
        _log.debug("ranks and neighbors: %s", execution.ledger.total)
        images = sides[0]
        if figures.multi_query is not None:  # a query shows its first image
            sides = sides[0].take(QueryGroups.of(sides[0].labels).first), sides[1]
        report = make_report(
            *sides,
            rankings,
            images=images,
            figures=ways.figures,
            settings=_chosen(on, ("workers", "query_block", "gallery_block"))
            | ({} if queries is None else {"queries": str(queries)})
            | _of_matches(figures)
            | _of_rows(settings.select),
            command=_command(sides, out, settings, queries),
        )
        json, html = write_report(report, *sides, out)
        mistakes = None
        if threshold is not None:
            mistakes = write_mistakes(
                images,
                sides[1],
                threshold,
                out,
                most=settings.mistakes.most,
                other_cameras=settings.select.not_own_camera,
                tiling=execution.tiling,
            )
    return Evaluated(json, html, report, execution.ledger.total.figures(), mistakes)


@contextmanager
def _scratch_base(chosen: Path | None, out: Path, ways: _Ways) -> Iterator[Path | None]:
    """The absolute folder for scratch: the chosen one, or that of the report.

    The latter is deleted again if the input is refused. The result is None, which means temporary
    files, if lists are only ranked plainly: then nothing needs to be kept, and scratch only shows a
    purge that a run is working.
    """
    if chosen or not ways.expansions:
        yield chosen.absolute() if chosen else None
        return
    is_new = not out.exists()
    storage.make_folder(out)
    try:
        yield out.absolute()
    except InputError:
        if is_new:
            with suppress(OSError):
                out.rmdir()
        raise


def _warn_of_unused(settings: EvaluationSettings, on: FoldSettings) -> None:
    """Warn of settings that change nothing because the feature they belong to is off."""
    for each, switch in (
        (settings.expansion, "aqe"),
        (settings.cameras, "camera_normalize"),
        (settings.reranking, "rerank"),
        (settings.mistakes, "mine"),
    ):
        given = list(stated(each, without=(switch,)))
        if given and not getattr(each, switch):
            names = ", ".join(f"`{name}`" for name in given)
            _log.warning("%s has no effect without `%s`", names, switch)
    if on.address and not on.workers:
        _log.warning("`address` has no effect without `workers`")


def _of_matches(figures: FigureSettings) -> dict[str, Any]:
    """The definition of queries and matches, if it is not the default, for the report."""
    said: dict[str, Any] = {"clothes_changed": True} if figures.clothes_changed else {}
    said |= {"multi_query": figures.multi_query} if figures.multi_query else {}
    return said | ({"same_place": " ".join(figures.same_place)} if figures.same_place else {})


def _of_rows(select: RowFilter) -> dict[str, Any]:
    """Which gallery rows are ranked, as the report shows them."""
    given = {
        name: " ".join(value) if isinstance(value, tuple) else value
        for name, value in asdict(select).items()
    }
    return {name: value for name, value in given.items() if value}


def _chosen(on: FoldSettings, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in stated(on).items() if name in names}


def _command(
    sides: tuple[LabeledSide, LabeledSide],
    out: Path,
    settings: EvaluationSettings,
    queries: Path | None,
) -> list[str]:
    """The command that gives the same report again, from any folder."""
    words = ["regallery", "evaluate"]
    for name, side in zip(("query", "gallery"), sides, strict=True):
        for each in parts_of(side.gallery):
            words += [f"--{name}", each.location, f"--{name}-version", str(each.version)]
    words += ["--out", str(out.absolute())]
    words += [] if queries is None else ["--queries", str(queries.absolute())]
    for known, value in (
        (known, getattr(getattr(settings, group.name), known.name))
        for group in fields(settings)
        for known in fields(getattr(settings, group.name))
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
