"""Bring sources, galleries, tracklets, expanded galleries and links up to date, and report it."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.archive.listing.source import check_source
from pipeline.errors import InputError, RunError, is_failure
from pipeline.gallery import opening
from pipeline.gallery.files import storage
from pipeline.gallery.sidecars.candidates import about_candidates, is_candidates, read_candidates
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.purge import is_under_way
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from pipeline.model.fetched_networks import network_file
from pipeline.model.kinds import check_network_file
from pipeline.output_files import check_new_file, has_mark
from pipeline.report.plain import plain
from pipeline.runs.ages import parse_span
from pipeline.runs.camera_health import (
    CameraDrift,
    HealthSettings,
    SilentCamera,
    camera_drift,
    silent_cameras,
)
from pipeline.runs.erasing import erase_rows
from pipeline.runs.expanding import settings_of, update_expanded
from pipeline.runs.extraction import extract
from pipeline.runs.link_verdicts import verdicts_by_position, verdicts_digest
from pipeline.runs.linked import stored_settings
from pipeline.runs.linking import link
from pipeline.runs.stopping import StopRequestedError, check_stop, stopped_when, stopping
from pipeline.runs.tracklets import update_tracklets
from pipeline.runs.watch_config import WatchPlan
from pipeline.runs.watch_steps import (
    EraseStep,
    ExpandStep,
    ExtractStep,
    LinkStep,
    TrackletsStep,
    WatchStep,
    verb_of,
)
from pipeline.runs.watched import StepReport, Watched
from pipeline.stages.execution import StartProgress, silent

_log = logging.getLogger(__name__)

REPORT_MARK = "regallery_watch"


def watch_once(
    plan: WatchPlan,
    *,
    progress: StartProgress = silent,
    is_stop_wanted: Callable[[], bool] = lambda: False,
    rounds: int = 1,
    on_step: Callable[[StepReport], object] = lambda _: None,
) -> Watched:
    """Run every step of a plan, then check the cameras of the galleries that have sources.

    A failure, for whatever reason, stops only the steps whose gallery it should have made; other
    steps that depend on it continue with the existing state. When `is_stop_wanted` returns True,
    the current work unit is finished, and the rest is reported as stopped; the next watch continues
    from there. `rounds` is the number of this round, and `on_step` is called after each step. The
    report file of the plan is replaced.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    if plan.reporting.report is not None:
        _check_report(Path(plan.reporting.report))
    reports: list[StepReport] = []
    drift: list[CameraDrift] = []
    quiet: list[SilentCamera] = []
    health = HealthSettings(
        silent_after=plan.reporting.silence,
        ignored=plan.reporting.ignore_cameras,
        level=plan.reporting.level,
    )
    with stopped_when(is_stop_wanted):
        for step, needs in zip(plan.steps, plan.needs, strict=True):
            first_new = _next_row_id(step)
            before = _oldest_kept(step, plan, started)
            report = _reported(step, [reports[each] for each in needs], before, progress)
            reports.append(report)
            on_step(report)
            if isinstance(step, ExtractStep) and report.state != "stopped":
                found = _looked_at(step.gallery, first_new, report, plan, health)
                quiet += found[0]
                drift += found[1]
    done = Watched(
        config=plan.config,
        started=started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - begun,
        rounds=rounds,
        is_stopped=any(each.state == "stopped" for each in reports),
        steps=tuple(reports),
        silent=tuple(quiet),
        drift=tuple(drift),
    )
    if plan.reporting.report is not None:
        _write_report(Path(plan.reporting.report), done)
    return done


def step_line(report: StepReport) -> str:
    """What a step found and did, in a line.

    >>> step_line(StepReport("extract", "galleries/a", "changed", new=3, gone=1, rows=9, version=2))
    'extract galleries/a: changed, 3 new, 1 gone; version 2, 9 rows'
    """
    words: list[str] = [report.state]
    names = ("new", "changed", "gone", "removed", "erased", "rejected")
    words += [f"{getattr(report, name):,} {name}" for name in names if getattr(report, name)]
    if report.candidates is not None:
        before = report.candidates_before
        was = "" if before is None else f" (before: {before:,})"
        words.append(f"{report.candidates:,} candidates{was}")
    line = f"{report.step} {report.place}: {', '.join(words)}"
    if report.reason:
        return f"{line}: {report.reason}"
    if report.rows is not None:
        line += f"; version {report.version}, {report.rows:,} rows"
    return line


def _next_row_id(step: WatchStep) -> int:
    """The first id that new rows of an extraction will have."""
    if isinstance(step, ExtractStep) and opening.exists(step.gallery):
        try:
            return Gallery.open(step.gallery).next_row_id
        except Exception as error:  # noqa: BLE001 (the step itself will report it)
            _log.debug("%s: %s", step.gallery, error)
    return 0


def _oldest_kept(step: WatchStep, plan: WatchPlan, now: datetime) -> datetime | None:
    """The time before which the plan erases all rows of a gallery."""
    spans = [
        parse_span(each.older_than)
        for each in plan.steps
        if isinstance(each, EraseStep)
        and each.gallery == step.gallery
        and each.older_than is not None
        and each.where is None
    ]
    return now - min(spans) if spans else None


def _reported(
    step: WatchStep,
    needs: list[StepReport],
    not_before: datetime | None,
    progress: StartProgress,
) -> StepReport:
    begin = time.monotonic()
    report = StepReport(verb_of(step), step.makes, "stopped")
    try:
        check_stop()
        bad = [each for each in needs if each.state in ("failed", "skipped")]
        if bad and not opening.exists(step.gallery):
            told = f"{step.gallery} was never made: {bad[0].step} {bad[0].place} {bad[0].state}"
            return replace(report, state="skipped", reason=told)
        report = replace(report, **_do(step, not_before, progress))
    except StopRequestedError:
        pass
    except BaseException as error:
        if not is_failure(error):
            raise
        _log.debug("%s %s failed", report.step, report.place, exc_info=True)
        report = replace(report, state="failed", reason=_why(error))
    return replace(report, seconds=time.monotonic() - begin)


def _why(error: BaseException) -> str:
    """The message of an error in a line; of one from a Ray worker, that of its cause."""
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    text = " ".join(str(error).split())
    if text and isinstance(error, ValueError | RuntimeError | OSError):
        return text
    return f"{type(error).__name__}: {text}"


def _do(step: WatchStep, not_before: datetime | None, progress: StartProgress) -> dict[str, Any]:
    """The fields of a `StepReport` after the step; images from before `not_before` would be erased
    at once.
    """
    match step:
        case ExtractStep():
            return _extracted(step, not_before, progress)
        case EraseStep():
            return _erased(step)
        case TrackletsStep():
            made = update_tracklets(Gallery.open(step.gallery), step.out, step.feature)
            return _derived(made.is_new_version, made.version, made.rows)
        case ExpandStep():
            names = ("k", "alpha", "times", "camera_normalize", "camera_rows")
            given = {"mode": "database"} | {name: getattr(step, name) for name in names}
            settings, cameras = settings_of(given)
            parent = Gallery.open(step.gallery)
            expanded = update_expanded(
                parent, step.out, settings, cameras, on=step.on, progress=stopping(progress)
            )
            return _derived(expanded.is_new_version, expanded.version, expanded.rows)
        case LinkStep():
            return _linked(step, progress)


def _derived(is_new: bool, version: int, rows: int) -> dict[str, Any]:
    return {"state": "changed" if is_new else "unchanged", "version": version, "rows": rows}


def _extracted(
    step: ExtractStep, not_before: datetime | None, progress: StartProgress
) -> dict[str, Any]:
    check_source(step.source, step.layout, step.labels)
    check_network_file(step.model)
    before = Gallery.open(step.gallery).version if opening.exists(step.gallery) else -1
    done = extract(
        step.source,
        step.gallery,
        network_file(step.model, step.checkpoint),
        layout=step.layout,
        labels=step.labels,
        boxes=step.boxes,
        recipe=step.recipe,
        update=step.update,
        work=step.work,
        actors=step.on,
        not_before=not_before,
        progress=progress,
    )
    return _derived(done.version != before, done.version, done.rows) | {
        "new": done.new,
        "changed": done.changed,
        "gone": done.missing,
        "removed": done.removed,
        "rejected": done.rejected,
        "rejects": done.rejects,
    }


def _erased(step: EraseStep) -> dict[str, Any]:
    before = Gallery.open(step.gallery)
    limit = None if step.older_than is None else datetime.now(UTC) - parse_span(step.older_than)
    found = selected_rows(before, Selection(where=step.where, captured_before=limit))
    count = len(found.row_ids)
    if found.without_time:
        _log.warning(
            "%s: %d rows have no capture time and are kept", step.gallery, found.without_time
        )
    late = step.purge and (is_under_way(step.gallery) or _is_unpurged(before))
    if not count and not late:
        return _derived(False, before.version, before.count)
    if count > step.max_erased * before.count:
        raise InputError(
            f"{count:,} of {before.count:,} rows would be erased, and at most a share of"
            f" {step.max_erased:g} may be (`max_erased`): check the times, or raise it"
        )
    done = erase_rows(
        before, found if count else None, purge=step.purge, everywhere=step.everywhere
    )
    for each in done.followed:
        if not each.is_removed:
            _log.warning("may still hold erased rows: %s %s %s", each.kind, each.place, each.reason)
    after = done.gallery
    return _derived(True, after.version, after.count) | {"erased": count}


def _is_unpurged(gallery: Gallery) -> bool:
    """Whether a version from before an erasure is still there, as after a kill before a purge."""
    return any((each.run_id or "").startswith("erase-") for each in gallery.history()[1:])


def _linked(step: LinkStep, progress: StartProgress) -> dict[str, Any]:
    gallery, out = Gallery.open(step.gallery), Path(step.out)
    made_of = {
        "gallery": gallery.location,
        "version": gallery.version,
        "asked": plain(stored_settings(step.settings, step.select)),
        "verdicts": verdicts_digest(verdicts_by_position(gallery)),
    }
    before = None
    if out.exists() and is_candidates(out):
        about = about_candidates(out)
        sizes = pc.value_counts(read_candidates(out)["candidate"].drop_null())
        before = int(pc.sum(pc.greater(sizes.field("counts"), 1)).as_py() or 0)
        is_same = about is not None and all(about.get(each) == made_of[each] for each in made_of)
        if is_same and not _is_newer(step.settings.travel_times, out):
            state = _derived(False, gallery.version, gallery.count)
            return state | {"candidates": before, "candidates_before": before}
    out.parent.mkdir(parents=True, exist_ok=True)
    done = link(
        gallery, out, step.settings, select=step.select, on=step.on, progress=stopping(progress)
    )
    state = _derived(True, gallery.version, done.rows_linked)
    return state | {"candidates": done.candidates, "candidates_before": before}


def _is_newer(travel_times: str | None, out: Path) -> bool:
    """Whether a file of travel times was changed after the candidates were written."""
    there = None if travel_times is None else Path(travel_times)
    return there is not None and there.exists() and there.stat().st_mtime > out.stat().st_mtime


def _looked_at(
    location: str, first_new: int, report: StepReport, plan: WatchPlan, health: HealthSettings
) -> tuple[list[SilentCamera], list[CameraDrift]]:
    """The silent cameras of a gallery, and drift if it has new rows."""
    try:
        if not opening.exists(location):
            return [], []
        gallery = Gallery.open(location)
        quiet = silent_cameras(gallery, health)
        is_new = report.state == "changed" and plan.reporting.drift and first_new
        return quiet, camera_drift(gallery, first_new, health) if is_new else []
    except Exception as error:  # noqa: BLE001 (a report must not stop the steps)
        _log.warning("the cameras of %s cannot be looked at: %s", location, error)
        return [], []


def _check_report(path: Path) -> None:
    mark = f'"{REPORT_MARK}"'.encode()
    check_new_file(path, "report", partial(has_mark, mark=mark))


def _write_report(path: Path, done: Watched) -> None:
    text = json.dumps({REPORT_MARK: 1, **plain(done)}, indent=1) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    try:
        storage.drop_cut_off(path.parent, path.name)
        storage.write_whole(path, write)
    except (OSError, RunError) as error:
        _log.warning("the report %s cannot be written: %s", path, error)
