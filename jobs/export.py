"""export: write a gallery's features and rows for other tools."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import working
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.times import parse_time


@dataclass(frozen=True)
class ExportResult:
    """The files that were written, and what they hold; `dimension` is None for labels on frames."""

    files_written: tuple[str, ...]
    rows: int
    dimension: int | None
    version: int


def export(
    gallery: Location,
    *,
    out: Annotated[Path, LOCATION],
    format: Literal[  # noqa: A002 - the flag's name
        "npy", "parquet", "mat", "fast-reid", "faiss", "coco", "cvat", "fiftyone", "mot"
    ] = "npy",
    query: Location | None = None,
    links: Annotated[Path, LOCATION] | None = None,
    number: Literal["tracklet", "identity", "candidate"] = "tracklet",
    version: int | None = None,
    at: str | None = None,
    safe_csv: Annotated[bool, Parameter(negative=())] = False,
) -> ExportResult:
    """Write a gallery's features and rows, or labels on frames, for other tools.

    Features and rows are in row-id order. The formats coco, cvat, fiftyone
    and mot hold no features: they put identities, tracklets and the
    candidates of link as labels on the original frames and pictures.

    For example:

        regallery export --gallery galleries/test --out exported

    Args:
        gallery: Folder of the gallery.
        out: New or empty folder, or one of an earlier export, which is replaced.
        format: npy for features.npy (float32 [N, D]) with rows.csv; parquet for rows.parquet with
            the feature as a list of floats; mat for layumi's pytorch_result.mat; fast-reid for one
            .npy file per image; faiss for a flat index with rows.csv. coco for annotations.json;
            cvat for a folder of its XML, a file for each video; fiftyone for a folder that it opens
            as a FiftyOneDataset; mot for a folder of MOTChallenge's sequences. All come with
            gallery.json, which names the recipe.
        query: Gallery of the queries, with --format mat; its latest version is written.
        links: File that link wrote for this gallery or for its tracklets, whose candidates become
            labels, with --format coco, cvat, fiftyone or mot.
        number: What the number of a box is with --format mot, which holds only one.
        version: Version to write (default: the latest).
        at: Write the version that was latest at this time (ISO 8601, UTC) instead.
        safe_csv: Put an apostrophe before text in rows.csv that a spreadsheet would read as a
            formula. Use such a file for viewing only: import would read the changed text.
    """
    from pipeline.errors import InputError
    from pipeline.gallery.formats.export import LABEL_PLACES
    from pipeline.gallery.formats.export import export_gallery as write
    from pipeline.gallery.table import Gallery
    from pipeline.runs.sides import open_sides

    if (format in LABEL_PLACES) and (query is not None or safe_csv):
        raise InputError("--query and --safe-csv are about features: labels have neither")
    if format not in LABEL_PLACES and (links is not None or number != "tracklet"):
        raise InputError(
            "--links and --number are about labels: they go with --format"
            f" {', '.join(LABEL_PLACES)}"
        )
    table = Gallery.open(gallery, version, parse_time("--at", at))
    if format in LABEL_PLACES:
        from pipeline.runs.labeling import label_frames

        with working("writing"):
            labels = label_frames(table, str(out), format, links=links, number=number)
        return ExportResult(labels.files, labels.rows, None, labels.version)
    asked = None
    if query is not None:
        asked = Gallery.open(query)
        open_sides(asked, table)  # they must be comparable
    with working("writing"):
        done = write(table, str(out), format, asked, safe_csv=safe_csv)
    return ExportResult(done.files, done.rows, done.dimension, done.version)


def describe(result: ExportResult) -> RenderableType:
    """One line a file."""
    what = "labels" if result.dimension is None else f"rows of {result.dimension} dimensions"
    told = f"version {result.version}: {result.rows:,} {what}"
    return Text("\n".join([told, *result.files_written]))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["export", *sys.argv[1:]]))
