"""restore: make a new version that holds what an older one held."""

import sys
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from jobs.command.times import moment
from pipeline.errors import InputError
from pipeline.runs.locations import Location


@dataclass(frozen=True)
class Restored:
    """The version that was restored, the new one that equals it, and what that changed."""

    gallery: str
    restored: int
    version: int
    rows: int
    rows_before: int
    changed: bool


def restore(*, gallery: Location, version: int | None = None, at: str | None = None) -> Restored:
    """Make a new version that holds what an older one held, rows and rejects.

    The versions in between stay readable, and row ids assigned since then
    are not reused. Rows that were erased since then and not purged come
    back.

    For example:

        regallery restore --gallery galleries/test --version 1

    Args:
        gallery: Folder of the gallery.
        version: Version to restore.
        at: Restore the version that was latest at this time (ISO 8601, UTC) instead.
    """
    if (version is None) == (at is None):
        raise InputError("give --version or --at to say what to restore")
    from pipeline.gallery.table import Gallery, lock_gallery
    from pipeline.gallery.upkeep import restore as restoring

    wanted = Gallery.open(gallery, version, moment("--at", at)).version
    with lock_gallery(gallery, f"restore version {wanted}") as lock:
        before = Gallery.open(gallery)
        after = restoring.restore(before, wanted, lock)
    return Restored(
        gallery=gallery,
        restored=wanted,
        version=after.version,
        rows=after.count,
        rows_before=before.count,
        changed=after.version != before.version,
    )


def describe(result: Restored) -> RenderableType:
    """One line."""
    if not result.changed:
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
