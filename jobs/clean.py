"""clean: delete what no version of a gallery needs."""

import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from pipeline.runs.locations import Location


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, or would be: files of unfinished runs, and of `versions` given up."""

    gallery: str
    unfinished: tuple[str, ...]
    old: tuple[str, ...]
    bytes: int
    versions: int
    dry_run: bool


def clean(
    *,
    gallery: Location,
    keep: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> Cleaned:
    """Delete what no version of a gallery needs: the leftovers of abandoned runs.

    An interrupted extraction cannot resume after that; it starts again.
    With --keep, older versions are dropped, and the files that only they
    need are deleted.

    For example:

        regallery clean --gallery galleries/test --keep 10

    Args:
        gallery: Folder of the gallery.
        keep: Number of newest versions to keep (default: all).
        dry_run: Report what would be deleted; delete nothing.
    """
    from pipeline.gallery.log.lock import hold
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep import leftovers

    table = Gallery.open(gallery)
    if dry_run:
        found = leftovers.find_leftovers(table, keep)
    else:
        # Not `lock_gallery`: what killed runs had half written is reported before it is deleted.
        with hold(gallery, "clean") as lock:
            found = leftovers.clean(Gallery.open(gallery), lock, keep)
    return Cleaned(gallery, found.unfinished, found.old, found.bytes, found.versions, dry_run)


def describe(result: Cleaned) -> RenderableType:
    """The files, then a line that sums them up."""
    from pipeline.report.figures import count

    lines = [*result.unfinished, *result.old]
    done = "would be deleted" if result.dry_run else "deleted"
    lines.append(
        f"{result.gallery}: {count(len(result.unfinished), 'file')} of unfinished runs and"
        f" {len(result.old):,} of {count(result.versions, 'older version')} {done},"
        f" {count(result.bytes, 'byte')}"
    )
    return Text("\n".join(lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["clean", *sys.argv[1:]]))
