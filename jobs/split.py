"""split: write each camera's rows to a gallery of its own."""

import sys
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import progress_lines
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import SplitGallery


def split(
    gallery: Location,
    *,
    out: Location,
    by: Literal["camera", "identity", "month", "origin"] = "camera",
    version: int | None = None,
) -> SplitGallery:
    """Write each camera's rows to a gallery of its own, or bring these up to date.

    Each part is a gallery in the folder, such as camera-3, and a copy: the
    columns origin and origin_row say which row of the gallery each row is.
    When the gallery has a new version, run the command again. Rejects stay
    with the gallery.

    For example:

        regallery split galleries/all --out galleries/by-camera --by camera

    Args:
        gallery: Folder of the gallery.
        out: Folder for the parts.
        by: What the rows of a part have in common: camera, identity, month (of captured_at, in
            UTC), or origin (the gallery that a merged gallery has them from).
        version: Version to split (default: the latest).
    """
    from pipeline.gallery.table import Gallery

    table = Gallery.open(gallery, version)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.runs.copying import split as split_gallery

        return split_gallery(table, out, by, progress=progress)


def describe(result: SplitGallery) -> RenderableType:
    """A line for each part."""
    lines = [
        f"{each.gallery}: version {each.version}, {each.rows:,} rows ({each.rows_added:,} added,"
        f" {each.rows_removed:,} removed)"
        for each in result.parts
    ]
    total = sum(each.rows for each in result.parts)
    lines.append(
        f"{result.parent}, version {result.parent_version}: {total:,} rows in"
        f" {len(result.parts)} parts by {result.by}"
    )
    return Text("\n".join(lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["split", *sys.argv[1:]]))
