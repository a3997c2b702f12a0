"""merge: write the rows of several galleries to one."""

import sys

from rich.console import RenderableType
from rich.text import Text

from jobs.command.galleries import open_galleries
from jobs.command.progress import progress_lines
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import MergedGalleries


def merge(
    gallery: tuple[Location, ...],
    *,
    out: Location,
    version: tuple[int, ...] = (),
) -> MergedGalleries:
    """Write the rows of several galleries to one, or bring it up to date.

    Rows get new ids, in the order of the galleries; the columns origin and
    origin_row say which gallery and which row each is a copy of. The
    recipes must agree. When the galleries have new versions, run the
    command again: it copies what is new and removes what is gone.

    For example:

        regallery merge galleries/north galleries/south
        --out galleries/all

    Args:
        gallery: Folder of a gallery; repeat for further galleries.
        out: Folder of the merged gallery; created if it does not exist.
        version: Version to merge (default: the latest); one for each gallery, in their order.
    """
    tables = open_galleries(gallery, version)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.runs.copying import merge as merge_galleries

        return merge_galleries(tables, out, progress=progress)


def describe(result: MergedGalleries) -> RenderableType:
    """What was merged, and where it is."""
    rejects = sum(result.rejects.values())
    return Text(
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {len(result.merged)} galleries ({result.rows_added:,} added, {result.rows_removed:,}"
        f" removed), {rejects:,} rejects"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["merge", *sys.argv[1:]]))
