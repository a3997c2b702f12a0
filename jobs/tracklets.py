"""tracklets: write a gallery with one row for each tracklet, or bring it up to date."""

import sys
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from jobs.command.galleries import open_galleries
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import TrackletsMade


def tracklets(
    *,
    gallery: tuple[Location, ...],
    out: Location,
    feature: Literal["mean", "medoid"] = "mean",
    version: tuple[int, ...] = (),
) -> TrackletsMade:
    """Write a gallery with one row for each tracklet, or bring it up to date.

    A tracklet is the boxes of one person under one camera, in time; rows
    without one are left out. The new gallery follows its parent: when that
    has a new version, run the command again. Every command works on it.

    For example:

        regallery tracklets --gallery galleries/north --out
        galleries/north-tracklets

    Args:
        gallery: Folder of the gallery whose rows are boxes of tracklets; repeat for further
            galleries, whose tracklets are written together.
        out: Folder of the gallery of tracklets; created if it does not exist.
        feature: mean: the unit mean of the boxes, weighted by quality where all of a tracklet's
            boxes have it; medoid: the box that is most similar to all of them.
        version: Version of the gallery (default: the latest); one for each gallery, in their order.
    """
    from pipeline.runs.tracklets import update_tracklets

    return update_tracklets(open_galleries(gallery, version), out, feature)


def describe(result: TrackletsMade) -> RenderableType:
    """What was made, and where it is."""
    state = "made" if result.is_new_version else "up to date"
    left = f"; {result.without_tracklet:,} rows are of none" if result.without_tracklet else ""
    return Text(
        f"{result.parent}, version {result.parent_version}: {result.rows:,} tracklets of"
        f" {result.boxes:,} boxes {state} ({result.feature}){left}\n"
        f"{result.gallery}: version {result.version}, {result.rows:,} rows"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["tracklets", *sys.argv[1:]]))
