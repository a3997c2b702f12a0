"""erase: remove rows from a gallery, and their bytes from the disk."""

import logging
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.confirmation import confirm
from jobs.command.everywhere import output_lines
from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.input_files import read_text
from pipeline.runs.ages import parse_span
from pipeline.runs.locations import Location

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep.selection import Selected

_log = logging.getLogger(__name__)

_Switch = Annotated[bool, Parameter(negative=())]
_SEVERAL = Parameter(consume_multiple=True)


@dataclass(frozen=True)
class Erased:
    """What was erased, or would be; `purged` says what was deleted from disk, and what was
    searched.

    `without_time` rows are kept because their capture time is unknown.
    """

    gallery: str
    version: int
    rows_erased: int
    rejects_erased: int
    without_time: int
    rows_left: int
    dry_run: bool
    purge_resumed: bool
    purged: dict[str, Any] | None


def erase(
    gallery: Location,
    *,
    where: str | None = None,
    identity: Annotated[tuple[int, ...], _SEVERAL] = (),
    path: Annotated[tuple[str, ...], _SEVERAL] = (),
    ids: Annotated[tuple[str, ...], _SEVERAL] = (),
    older_than: str | None = None,
    purge: _Switch = False,
    everywhere: _Switch = False,
    dry_run: _Switch = False,
    yes: _Switch = False,
) -> Erased:
    """Remove rows from a gallery, and their bytes from the disk.

    A row is erased only if it meets all the conditions given. Without
    --purge, older versions keep the rows; with it, only the latest version
    is left, and all its files are searched for what the rows held; reports,
    search pages, tables, exports and galleries that were made from it
    and may hold the rows are named. After an interrupted purge, run the
    same command again. The number of rows is reported first; on a terminal
    you are asked to confirm.

    For example:

        regallery erase --gallery galleries/test --where "camera = '3'" --purge

    Args:
        gallery: Folder of the gallery.
        where: SQL condition on the columns, as in "camera = '3' and captured_at < '2026-01-01'":
            comparisons, and, or, not, in, between, like, is null, cast.
        identity: Rows of these identities.
        path: Rows and rejects whose path equals one of these or matches such a pattern (* and ?
            match any characters, slashes included).
        ids: Rows with these ids; each value is a number or a file with one number per line.
        older_than: Rows captured longer ago than this: 90d, 12w, 36h. Rows without a capture time
            are kept and reported.
        purge: Remove older versions and all abandoned work from the disk, then search every file
            of the gallery for what the removed rows held. Alone, it purges rows erased earlier.
        everywhere: With --purge, also delete the reports, search pages, tables and exports that
            may hold the rows, and expand and purge expanded galleries again; what cannot be
            reached is named.
        dry_run: Report how many rows would be erased; change nothing.
        yes: Do not ask. Required in scripts (without a terminal) to erase more than half of the
            rows and for --purge alone.
    """
    from pipeline.gallery.irregular import check_regular
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep.selection import Selection, selected_rows
    from pipeline.runs.erasing import erase_rows

    selection = Selection(
        where=where,
        identities=identity,
        paths=path,
        row_ids=_row_ids(ids),
        captured_before=None if older_than is None else _time_before(older_than),
    )
    if everywhere and not purge:
        raise InputError("--everywhere goes with --purge")
    if selection.is_empty and (dry_run or not purge):
        raise InputError(
            "no rows selected: give --where, --identity, --path, --ids or --older-than"
        )
    before = Gallery.open(gallery)
    found = None if selection.is_empty else selected_rows(before, selection)
    if purge:
        _log_outputs(before, everywhere=everywhere)
    done = None
    if not dry_run:
        if purge:
            check_regular(gallery)  # before anyone is asked
        _agree(before, found, purge=purge, yes=yes)
        with working("erasing"):
            done = erase_rows(before, found, purge=purge, everywhere=everywhere)
    rows = len(found.row_ids) if found else 0
    purged = None
    if done is not None and done.purged is not None:
        purged = asdict(replace(done.purged, outputs=())) | {"outputs": list(done.followed)}
    return Erased(
        gallery=gallery,
        version=before.version if done is None else done.gallery.version,
        rows_erased=rows,
        rejects_erased=len(found.reject_paths) if found else 0,
        without_time=found.without_time if found else 0,
        rows_left=before.count - rows,
        dry_run=dry_run,
        purge_resumed=done is not None and done.is_purge_resumed,
        purged=purged,
    )


def _agree(gallery: "Gallery", found: "Selected | None", *, purge: bool, yes: bool) -> None:
    """Report what is about to be erased, and ask."""
    from pipeline.report.figures import count

    if found is None:
        deed = f"purge older versions of {gallery.location}"
        _log.info(
            "%s: no rows selected; this only purges what was erased earlier, and removes all"
            " versions but %d%s",
            gallery.location,
            gallery.version,
            _with_them(gallery),
        )
        confirm(deed, yes=yes, is_grave=True)
        return
    rows = len(found.row_ids)
    gone = f"{rows:,} of {count(gallery.count, 'row')}"
    _log.info(
        "%s: %s and %s will be erased%s",
        gallery.location,
        gone,
        count(len(found.reject_paths), "reject"),
        f", and all older versions purged{_with_them(gallery)}" if purge else "",
    )
    if rows or found.reject_paths or purge:
        confirm(f"erase {gone}", yes=yes, is_grave=2 * rows > gallery.count)


def _log_outputs(gallery: "Gallery", *, everywhere: bool) -> None:
    """Log what was made from the gallery, and what will happen to it."""
    from pipeline.gallery.outputs import outputs_of

    fate = "purged too" if everywhere else "kept and named again"
    for each in outputs_of(gallery):
        told = "kept and named again" if each.why_of_another else fate
        _log.info("%s if it may hold erased rows: %s", told, each)


def _with_them(gallery: "Gallery") -> str:
    """How many more rows go with the older versions, in words."""
    from pipeline.gallery.upkeep.losses import lost_before
    from pipeline.report.figures import count

    lost = lost_before(gallery, gallery.version).rows
    return f" (with {count(lost, 'row')} that only they have)" if lost else ""


def describe(result: Erased) -> RenderableType:
    """What was erased, what is left, and which files were searched."""
    from pipeline.report.figures import count

    gone = f"{count(result.rows_erased, 'row')} and {count(result.rejects_erased, 'reject')}"
    left = count(result.rows_left, "row")
    if result.dry_run:
        lines = [f"{gone} would be erased, {left} would stay"]
    else:
        lines = [f"{result.gallery}: {gone} erased; version {result.version} has {left}"]
    if result.without_time:
        kept = count(result.without_time, "row")
        lines.append(f"{kept} without a capture time kept")
    if result.purge_resumed:
        lines.append("this purge also finished an earlier, interrupted one")
    if result.purged is not None:
        lines += _purged(result.purged)
    elif result.rows_erased and not result.dry_run:
        lines.append("older versions still hold them: --purge removes those too")
    if (result.rows_erased or result.rejects_erased) and not result.dry_run:
        lines.append("an image that is still in the source comes back with the next extract")
    return Text("\n".join(lines))


def _purged(done: dict[str, Any]) -> list[str]:
    from pipeline.report.figures import count

    lines = [
        f"purged: {count(done['versions_removed'], 'older version')},"
        f" {count(done['files_removed'], 'file')} of {count(done['bytes_removed'], 'byte')}",
        f"searched: {count(done['searched_files'], 'file')} of"
        f" {count(done['searched_bytes'], 'byte')}; nothing of {count(done['rows_gone'], 'row')}"
        f" and {count(done['rejects_gone'], 'reject')} is left",
    ]
    if done["verdicts_removed"]:
        lines.append(f"removed: {count(done['verdicts_removed'], 'verdict')} on rows that are gone")
    if done["scratch_folders"]:
        lines.append(f"deleted: {count(done['scratch_folders'], 'scratch folder')} of killed runs")
    lines += [
        f"NOT reached: {each}: delete it there, then delete that file"
        for each in done["out_of_reach"]
    ]
    lines += output_lines(done["outputs"])
    lines += [f"NOT checked: {each}" for each in done["not_checked"]]
    if done["unreadable"]:
        lines.append(
            f"not searched for: what {', '.join(done['unreadable'])} held, which could not be read"
        )
    return lines


def _time_before(age: str) -> datetime:
    try:
        return datetime.now(UTC) - parse_span(age)
    except InputError as error:
        raise InputError(f"--older-than {error}") from error
    except OverflowError as error:
        raise InputError(f"--older-than {age}: no time is that long ago") from error


def _row_ids(given: tuple[str, ...]) -> tuple[int, ...]:
    """The given numbers, and those in files with one number per line."""
    numbers: list[int] = []
    for each in given:
        try:
            lines = [each] if each.isdecimal() else read_text(each).split()
            found = [int(line) for line in lines]
        except ValueError as error:
            raise InputError(
                f"--ids {each}: neither a row id nor a file with one row id per line ({error})"
            ) from error
        if not found:
            raise InputError(f"--ids {each}: the file is empty; it must hold one row id per line")
        numbers += found
    return tuple(numbers)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["erase", *sys.argv[1:]]))
