"""clean: delete what no version of a gallery needs."""

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.confirmation import confirm
from pipeline.runs.locations import Location

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep.leftovers import Leftovers
    from pipeline.gallery.upkeep.losses import Lost

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, or would be: `unfinished` files of abandoned runs, `old` ones of versions,
    and `scratch` folders elsewhere of killed runs.

    `versions_removed` counts those versions; `rows_lost` the rows that only they had.
    """

    gallery: str
    unfinished: tuple[str, ...]
    old: tuple[str, ...]
    scratch: tuple[str, ...]
    bytes_removed: int
    versions_removed: int
    rows_lost: int
    dry_run: bool


def clean(
    gallery: Location,
    *,
    keep: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(negative=())] = False,
) -> Cleaned:
    """Delete what no version of a gallery needs: the leftovers of abandoned runs.

    This includes scratch folders of killed evaluations, links and
    expansions. An interrupted run cannot resume after that; it starts again.
    With --keep, older versions are dropped, and the files that only they
    need are deleted: the rows that are lost with them are counted first,
    and on a terminal you are asked to confirm.

    For example:

        regallery clean --gallery galleries/test --keep 10

    Args:
        gallery: Folder of the gallery.
        keep: Number of newest versions to keep (default: all).
        dry_run: Report what would be deleted; delete nothing.
        yes: Do not ask. Required in scripts (without a terminal) if --keep drops a version.
    """
    from pipeline.gallery.log.lock import hold
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep import leftovers
    from pipeline.gallery.upkeep.losses import lost_before

    table = Gallery.open(gallery)
    found = leftovers.find_leftovers(table, keep)
    lost = lost_before(table, table.version - keep + 1) if keep and found.versions else None
    if not dry_run:
        _agree(table, found, lost, yes=yes)
        # Not `lock_gallery`, which deletes half-written files of killed runs: here they are
        # reported first.
        with hold(gallery, "clean") as lock:
            table.check_latest()  # what was agreed to is what goes
            found = leftovers.clean(table, lock, keep)
    return Cleaned(
        gallery=gallery,
        unfinished=found.unfinished,
        old=found.old,
        scratch=found.scratch,
        bytes_removed=found.bytes,
        versions_removed=found.versions,
        rows_lost=lost.rows if lost else 0,
        dry_run=dry_run,
    )


def _agree(gallery: "Gallery", found: "Leftovers", lost: "Lost | None", *, yes: bool) -> None:
    """Say what is lost for good, and ask."""
    from pipeline.report.figures import count

    if lost is None:
        if found.unfinished or found.scratch:
            left = [
                count(len(each), name)
                for each, name in ((found.unfinished, "file"), (found.scratch, "scratch folder"))
                if each
            ]
            confirm(
                f"delete {' and '.join(left)} of unfinished runs, which then start again",
                yes=yes,
                is_grave=False,
            )
        return
    which = f"version {lost.first}"
    if lost.versions > 1:
        which = f"versions {lost.first} to {lost.last}"
    deed = f"delete {which} of {gallery.location} for good, with {count(lost.rows, 'row')} that"
    deed += " no later version has"
    _log.info("%s: this will %s", gallery.location, deed)
    confirm(deed, yes=yes, is_grave=True)


def describe(result: Cleaned) -> RenderableType:
    """The files, then a line that sums them up."""
    from pipeline.report.figures import count

    lines = [*result.unfinished, *result.old, *result.scratch]
    done = "would be deleted" if result.dry_run else "deleted"
    lines.append(
        f"{result.gallery}: {count(len(result.unfinished), 'file')} of unfinished runs and"
        f" {len(result.old):,} of {count(result.versions_removed, 'older version')} {done},"
        f" {count(result.bytes_removed, 'byte')}"
    )
    if result.scratch:
        lines.append(f"{count(len(result.scratch), 'scratch folder')} of killed runs {done}")
    if result.versions_removed:
        lines.append(f"rows that no version has any more: {result.rows_lost:,}")
    return Text("\n".join(lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["clean", *sys.argv[1:]]))
