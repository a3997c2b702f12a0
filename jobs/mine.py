"""mine: propose the pairs of rows whose verdict would change most."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import FilterFlags, FoldFlags
from jobs.command.progress import progress_lines
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.mined import Mined, MineSettings
from pipeline.runs.selection import ALL_ROWS
from pipeline.runs.settings import FoldSettings


def mine(
    gallery: Location,
    *,
    k: int = MineSettings.k,
    neighbors: int = MineSettings.neighbors,
    threshold: float | None = None,
    group_precision: float | None = None,
    width: float = MineSettings.width,
    out: Annotated[Path, LOCATION] | None = None,
    version: int | None = None,
    select: FilterFlags = ALL_ROWS,
    on: FoldFlags = FoldSettings(),
) -> Mined:
    """Propose the pairs of rows whose verdict would change most.

    These are links near the threshold of link, and among them those that
    bring large groups together or would part them, spread over the pairs
    of cameras. No pair has a verdict yet, also not by way of other rows.
    The same gallery and verdicts give the same pairs. Look at them, and
    give verdicts: verdict --from reads the table when its column verdict
    is filled in.

    For example:

        regallery mine --gallery galleries/test -k 10
        --group-precision 0.95 --out look.csv

    Args:
        gallery: Folder of the gallery.
        k: Pairs to propose.
        neighbors: Neighbors of each row that are considered for links.
        threshold: Least similarity of a link (default: estimated from the group precision).
        group_precision: Wanted precision of the groups: the share of a row's group that is the same
            person, averaged over rows (default: 0.9).
        width: Distance of a similarity from the threshold at which a link is wrong with a
            probability of 0.27; smaller values stay nearer to the threshold.
        out: File to write the pairs to, .csv or .parquet, with an empty column verdict.
        version: Version of the gallery (default: the latest).
    """
    settings = MineSettings(k, neighbors, threshold, group_precision, width)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.gallery.table import Gallery
        from pipeline.runs.mining import mine as mine_gallery

        opened = Gallery.open(gallery, version)
        return mine_gallery(opened, settings, out=out, select=select, on=on, progress=progress)


def describe(result: Mined) -> RenderableType:
    """The pairs, in the order in which to look at them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("a", "b"):
        table.add_column(name, justify="right")
        table.add_column("path")
        table.add_column("camera")
    table.add_column("similarity", justify="right")
    table.add_column("now")
    table.add_column("change", justify="right")
    for each in result.proposed:
        cells = (
            *(str(each.a), each.path_a, each.camera_a or ""),
            *(str(each.b), each.path_b, each.camera_b or ""),
            *(f"{each.score:.4f}", "linked" if each.linked else "apart", f"{each.change:.1f}"),
        )
        table.add_row(*map(Text, cells))
    lines = [
        f"{result.gallery}, version {result.version}: {len(result.proposed):,} pairs, threshold"
        f" {result.threshold:.4f} ({result.threshold_from})"
    ]
    if result.out is not None:
        lines.append(f"pairs to fill in: {result.out}")
    return Group(table, *(Text(line) for line in lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["mine", *sys.argv[1:]]))
