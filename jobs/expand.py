"""expand: write a gallery of expanded features, or bring it up to date with its parent."""

import sys
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from jobs.command.flags import FoldFlags
from jobs.command.progress import progress_lines
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import Expanded
from pipeline.runs.settings import FoldSettings


def expand(
    gallery: Location,
    *,
    out: Location,
    mode: Literal["database"] = "database",
    k: int | None = None,
    alpha: float | None = None,
    times: int | None = None,
    camera_normalize: Literal["mean", "zscore"] | None = None,
    camera_rows: int | None = None,
    version: int | None = None,
    on: FoldFlags = FoldSettings(),
) -> Expanded:
    """Write a gallery of expanded features, or bring it up to date.

    Every feature becomes the weighted mean of itself and its nearest rows of
    the same gallery. Rows keep their ids and columns. When the gallery has a
    new version, run the command again: it searches only what is new. After
    an interruption it resumes. To expand queries, see evaluate --aqe.

    For example:

        regallery expand --gallery galleries/test --out galleries/test-expanded
        -k 10 --alpha 3

    Args:
        gallery: Folder of the gallery whose features are expanded.
        out: Folder of the gallery of expanded features; created if it does not exist.
        mode: database: expand each row with the rows of its gallery.
        k: Neighbors averaged by the expansion, the row itself included (default: 10).
        alpha: Exponent of the similarity in a neighbor's weight; 0 for a plain mean (default: 3).
        times: Rounds of expansion (default: 1).
        camera_normalize: Before the expansion, subtract the mean of the camera from each feature;
            zscore also divides by the standard deviation.
        camera_rows: Rows that a camera needs for statistics of its own; with fewer, those of all
            rows are used (default: 16).
        version: Version of the gallery (default: the latest).
    """
    of_cameras = {"camera_normalize": camera_normalize, "camera_rows": camera_rows}
    how = {"mode": mode, "k": k, "alpha": alpha, "times": times} | of_cameras
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.gallery.table import Gallery
        from pipeline.runs.expanding import settings_of, update_expanded

        settings, normalization = settings_of(how)
        parent = Gallery.open(gallery, version)
        return update_expanded(parent, out, settings, normalization, on=on, progress=progress)


def describe(result: Expanded) -> RenderableType:
    """What was expanded, and where it is."""
    how = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    state = "expanded" if result.is_new_version else "up to date"
    return Text(
        f"{result.parent}, version {result.parent_version}: {state} ({how})\n"
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["expand", *sys.argv[1:]]))
