"""restore: make a new version that holds what an older one held."""

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.confirmation import confirm
from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.runs.times import parse_time

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep.restore import Swapped

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """The version that was restored, the new one that equals it, and what that changed.

    `rows_removed` left the latest version, `rows_returned` came back to it. `is_new_version` is
    false if the latest version already held the same.
    """

    gallery: str
    restored: int
    version: int
    rows: int
    rows_before: int
    rows_removed: int
    rows_returned: int
    is_new_version: bool


def restore(
    gallery: Location,
    *,
    version: int | None = None,
    at: str | None = None,
    yes: Annotated[bool, Parameter(negative=())] = False,
) -> Restored:
    """Make a new version that holds what an older one held, rows and rejects.

    The versions in between stay readable, and row ids assigned since then
    are not reused. Rows that were erased since then and not purged come
    back. The rows that leave and come back are counted first; on a terminal
    you are asked to confirm.

    For example:

        regallery restore --gallery galleries/test --version 1

    Args:
        gallery: Folder of the gallery.
        version: Version to restore.
        at: Restore the version that was latest at this time (ISO 8601, UTC) instead.
        yes: Do not ask. Required in scripts (without a terminal) if rows leave the latest version.
    """
    if (version is None) == (at is None):
        raise InputError("give --version or --at to say what to restore")
    from pipeline.gallery.opening import lock_gallery
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep import restore as restoring

    wanted = Gallery.open(gallery, version, parse_time("--at", at)).version
    before = Gallery.open(gallery)
    swapped = restoring.swapped_by(before, wanted)
    _agree(before, wanted, swapped, yes=yes)
    with working("restoring"), lock_gallery(gallery, f"restore version {wanted}") as lock:
        before.check_latest()  # what was agreed to is what goes
        after = restoring.restore(before, wanted, lock)
    return Restored(
        gallery=gallery,
        restored=wanted,
        version=after.version,
        rows=after.count,
        rows_before=before.count,
        rows_removed=swapped.leaving,
        rows_returned=swapped.returning,
        is_new_version=after.version != before.version,
    )


def _agree(gallery: "Gallery", version: int, swapped: "Swapped", *, yes: bool) -> None:
    """Say which rows leave the latest version and which come back, and ask."""
    from pipeline.report.figures import count

    if not swapped.leaving and not swapped.returning:
        return
    gone = f"{swapped.leaving:,} of {count(gallery.count, 'row')}"
    _log.info(
        "%s: restoring version %d takes %s out of the latest version and brings back %s; version"
        " %d keeps what leaves, until a clean or a purge removes that version",
        gallery.location,
        version,
        gone,
        count(swapped.returning, "row"),
        gallery.version,
    )
    deed = f"restore version {version}"
    if swapped.leaving:
        deed += f", which takes {gone} out of the latest version"
    confirm(deed, yes=yes, is_grave=swapped.leaving > 0)


def describe(result: Restored) -> RenderableType:
    """One line."""
    if not result.is_new_version:
        return Text(
            f"{result.gallery}: version {result.version} already holds what version"
            f" {result.restored} held"
        )
    return Text(
        f"{result.gallery}: version {result.version} holds the {result.rows:,} rows of version"
        f" {result.restored} (before: {result.rows_before:,} rows)"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["restore", *sys.argv[1:]]))
