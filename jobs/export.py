"""export: write a gallery's features and rows for other tools."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import working
from jobs.command.times import parse_time
from pipeline.runs.locations import LOCATION, Location


@dataclass(frozen=True)
class ExportResult:
    """The files that were written, and what they hold."""

    files_written: tuple[str, ...]
    rows: int
    dimension: int
    version: int


def export(
    gallery: Location,
    *,
    out: Annotated[Path, LOCATION],
    format: Literal["npy", "parquet", "mat", "fast-reid", "faiss"] = "npy",  # noqa: A002 - the flag's name
    query: Location | None = None,
    version: int | None = None,
    at: str | None = None,
    safe_csv: Annotated[bool, Parameter(negative=())] = False,
) -> ExportResult:
    """Write a gallery's features and rows for other tools, in row-id order.

    For example:

        regallery export --gallery galleries/test --out exported

    Args:
        gallery: Folder of the gallery.
        out: New or empty folder, or one of an earlier export, which is replaced.
        format: npy for features.npy (float32 [N, D]) with rows.csv; parquet for rows.parquet with
            the feature as a list of floats; mat for layumi's pytorch_result.mat; fast-reid for one
            .npy file per image; faiss for a flat index with rows.csv. All come with gallery.json,
            which names the recipe.
        query: Gallery of the queries, with --format mat; its latest version is written.
        version: Version to write (default: the latest).
        at: Write the version that was latest at this time (ISO 8601, UTC) instead.
        safe_csv: Put an apostrophe before text in rows.csv that a spreadsheet would read as a
            formula. Use such a file for viewing only: import would read the changed text.
    """
    from pipeline.gallery.formats.export import export_gallery as write
    from pipeline.gallery.table import Gallery
    from pipeline.runs.sides import open_sides

    table = Gallery.open(gallery, version, parse_time("--at", at))
    asked = None
    if query is not None:
        asked = open_sides(Gallery.open(query), table)[0].gallery
    with working("writing"):
        done = write(table, str(out), format, asked, safe_csv=safe_csv)
    return ExportResult(done.files, done.rows, done.dimension, done.version)


def describe(result: ExportResult) -> RenderableType:
    """One line a file."""
    told = f"version {result.version}: {result.rows:,} rows of {result.dimension} dimensions"
    return Text("\n".join([told, *result.files_written]))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["export", *sys.argv[1:]]))
