"""import: make a gallery of features that another tool made."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.flags import LabelFlags
from jobs.command.progress import progress_lines
from pipeline.archive.layouts.rules import AS_THEY_ARE
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.settings import ImportFormat


@dataclass(frozen=True)
class Imported:
    """The gallery that was made; `rejects` are features without a direction, by reason."""

    gallery: str
    version: int
    rows: int
    rejects: dict[str, int]
    dimension: int
    made_by: str | None
    """What made the features, in the user's words; None if the recipe of an export was kept."""
    fingerprint: str


def import_(
    source: Annotated[Path, LOCATION],
    /,
    *,
    gallery: Location,
    format: ImportFormat,  # noqa: A002 - the flag's name
    made_by: str | None = None,
    rows: Annotated[Path, LOCATION] | None = None,
    part: Literal["query", "gallery"] = "gallery",
    layout: str = "none",
    labels: LabelFlags = AS_THEY_ARE,
    storage: Literal["float32", "float16"] | None = None,
) -> Imported:
    """Make a gallery of features that another tool computed.

    The features are scaled to unit length; a feature without a direction
    (NaN, infinite, all zero) is a reject. The recipe records --made-by:
    imported galleries can be compared only with those of the same --made-by
    and dimension, never with extracted ones. Files that export wrote keep
    the recipe of their gallery: leave out --made-by. After an interruption,
    run the same command again: it resumes. Once finished, it changes nothing.

    For example:

        regallery import pytorch_result.mat --gallery galleries/layumi-test
        --format mat --made-by "layumi ft_ResNet50" --part gallery

    Args:
        source: File of features (.npy, .mat, a faiss flat index), or fast-reid's folder.
        gallery: Folder of the new gallery.
        format: npy for one array [N, D]; mat for layumi's pytorch_result.mat; fast-reid for a
            folder with one .npy file per image; faiss for a flat index.
        made_by: The network and tool that computed the features, in your words; needed unless
            an export wrote them, whose recipe is kept.
        rows: Table of the rows (.csv, .parquet) in the order of the features, for npy and faiss:
            path and any of identity, camera, captured_at, frame, tracklet (default: rows.csv
            beside SOURCE).
        part: Which side of a .mat file to take.
        layout: How identity and camera are read from names, if no array or table has them.
        storage: Type of the stored features; float16 halves the size of the gallery (default:
            float32, or that of the gallery that was exported).
    """
    if rows is not None and format not in ("npy", "faiss"):
        raise InputError(f"--rows goes with --format npy and faiss, not {format}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    from pipeline.archive.layouts.named import layout as layout_of
    from pipeline.gallery import opening
    from pipeline.gallery.formats.features import import_rows, is_import_of
    from pipeline.gallery.formats.origin import FeatureOrigin
    from pipeline.runs.import_source import check_label_settings, read_source
    from pipeline.runs.import_target import listed_copy, maker_of, open_target, properties_of
    from pipeline.runs.reporting import reported

    check_label_settings(labels, format)
    layout_of(layout, settings=labels)
    opening.check_writable(gallery)
    maker = maker_of(source, part if format == "mat" else "gallery", made_by)
    kept = maker if isinstance(maker, FeatureOrigin) else None
    features, told = read_source(source, format, rows, part, layout, labels, kept)
    if len(features) != len(told):
        raise InputError(
            f"{source} has {len(features)} features, but there are {len(told)} rows of labels"
        )
    about = properties_of(maker, features.dimension, source, labels.described(layout), storage)
    with (
        listed_copy(kept, gallery),
        opening.lock_gallery(gallery, f"import {source}") as lock,
        progress_lines() as progress,
        reported(lock, progress) as report,
    ):
        made = open_target(gallery, about, lock)
        if made.version == 0:
            step = report.start("importing", len(features))
            are_unit = kept is not None
            made = import_rows(made, features, told, lock, progress=step, are_unit=are_unit)
        elif not is_import_of(made, features, told):
            raise InputError(
                f"{gallery}: there is a gallery already, of other features or changed since it was"
                " imported; import makes a new one"
            )
    reasons = Counter(made.rejects()["reason"].to_pylist())
    return Imported(
        gallery=gallery,
        version=made.version,
        rows=made.count,
        rejects=dict(reasons),
        dimension=made.dimension,
        made_by=None if kept else made_by,
        fingerprint=made.fingerprint,
    )


def describe(result: Imported) -> RenderableType:
    """What was imported, and what was not."""
    from pipeline.report.figures import counts_line

    lines = [
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions, {_made_by(result)}"
    ]
    if result.rejects:
        lines.append(f"rejects: {counts_line(result.rejects)}")
    return Group(*(Text(line) for line in lines))


def _made_by(result: Imported) -> str:
    if result.made_by is None:
        return f"with the recipe of the gallery that was exported, {result.fingerprint[:12]}"
    return f"made by {result.made_by}"


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["import", *sys.argv[1:]]))
