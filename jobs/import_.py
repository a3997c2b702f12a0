"""import: make a gallery of features that another tool made."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.console import progress_lines
from jobs.command.flags import LabelFlags
from pipeline.archive.layouts.rules import AS_THEY_ARE, LabelSettings
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    import pyarrow as pa

    from pipeline.gallery.formats.features import RawFeatures
    from pipeline.gallery.formats.mat_files import MatSide
    from pipeline.gallery.formats.origin import FeatureOrigin

Format = Literal["npy", "mat", "fast-reid", "faiss"]


@dataclass(frozen=True)
class Imported:
    """The gallery that was made; `rejects` are features without a direction, by reason."""

    gallery: str
    version: int
    rows: int
    rejects: dict[str, int]
    dimension: int
    made_by: str | None
    """What made the features, in the user's words; None where their own recipe was kept."""
    fingerprint: str


def import_(
    source: Annotated[Path, LOCATION],
    /,
    *,
    gallery: Location,
    format: Format,  # noqa: A002 - the flag's name
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
    and dimension, never with extracted ones. What export wrote keeps its
    own recipe instead: leave out --made-by, and the gallery is as it was.
    After an interruption, run the same command again: it resumes. Once
    finished, it changes nothing.

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
            path and any of identity, camera, captured_at, frame (default: rows.csv beside SOURCE).
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
    from pipeline.gallery import table
    from pipeline.gallery.formats.features import import_rows, is_import_of
    from pipeline.gallery.formats.origin import FeatureOrigin
    from pipeline.runs.import_target import begin, listed_copy, maker_of, properties_of

    _check_labels(labels, format)
    layout_of(layout, settings=labels)
    table.check_writable(gallery)
    maker = maker_of(source, part if format == "mat" else "gallery", made_by)
    kept = maker if isinstance(maker, FeatureOrigin) else None
    features, told = _read(source, format, rows, part, layout, labels, kept)
    if len(features) != len(told):
        raise InputError(
            f"{source} has {len(features)} features, but there are {len(told)} rows of labels"
        )
    about = properties_of(maker, features.dimension, source, labels.described(layout), storage)
    with (
        listed_copy(kept, gallery),
        table.lock_gallery(gallery, f"import {source}") as lock,
        progress_lines() as progress,
    ):
        made = begin(gallery, about, lock)
        if made.version == 0:
            step = progress("importing", len(features))
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


def _check_labels(labels: LabelSettings, format: Format) -> None:  # noqa: A002 - the flag's name
    """InputError for settings that this format has no use for."""
    if labels.only:
        raise InputError("--only would leave features without rows: import all of them")
    if format == "mat" and labels != AS_THEY_ARE:
        raise InputError("a .mat file holds labels as numbers: leave out the settings of labels")


def describe(result: Imported) -> RenderableType:
    """What was imported, and what was not."""
    from pipeline.report.figures import listed

    lines = [
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions, {_made_by(result)}"
    ]
    if result.rejects:
        lines.append(f"rejects: {listed(result.rejects)}")
    return Group(*(Text(line) for line in lines))


def _made_by(result: Imported) -> str:
    if result.made_by is None:
        return f"with the recipe of the gallery that was exported, {result.fingerprint[:12]}"
    return f"made by {result.made_by}"


def _read(
    source: Path,
    format: Format,  # noqa: A002 - the flag's name
    rows: Path | None,
    part: Literal["query", "gallery"],
    layout: str,
    labels: LabelSettings,
    kept: "FeatureOrigin | None",
) -> "tuple[RawFeatures, pa.Table]":
    """The features, and what is known of each: its path, and its labels."""
    from pipeline.gallery.formats import faiss_files, fastreid_files, mat_files
    from pipeline.gallery.formats import features as interchange

    if format == "mat":
        side = mat_files.read_mat(source, part)
        return side.features, _mat_labels(side, part)
    if format == "fast-reid":
        files = fastreid_files.read_folder(source)
        return files, _named(list(files.names), layout, labels)
    features = interchange.read_npy(source) if format == "npy" else faiss_files.read_index(source)
    table = rows or source.with_name("rows.csv")
    if kept is not None:
        return features, _exported_rows(table, layout, labels)
    return features, _table(table, layout, labels)


def _mat_labels(side: "MatSide", part: str) -> "pa.Table":
    """Labels from the arrays; the file has no names, so a row is named by its place."""
    import pyarrow as pa

    paths = [f"{part}/{place:08d}" for place in range(len(side.identity))]
    return pa.table({"path": paths, "identity": side.identity, "camera": side.camera})


def _exported_rows(rows: Path, layout: str, labels: LabelSettings) -> "pa.Table":
    """The rows of a gallery, with all that it knew of their images."""
    from pipeline.gallery.formats.origin import exported_rows

    if layout != "none" or labels != AS_THEY_ARE:
        raise InputError(
            f"{rows} has the labels of the gallery that was exported: leave out --layout and the"
            " settings of labels, or say with --made-by what made the features"
        )
    if not rows.is_file():
        raise InputError(f"{rows}: no such file; give the table of the features' rows with --rows")
    return exported_rows(rows)


def _table(rows: Path, layout: str, labels: LabelSettings) -> "pa.Table":
    """The labels of a table of rows; the layout fills the columns that it does not have."""
    import pyarrow as pa

    from pipeline.archive.listing import manifest_files
    from pipeline.archive.locations import locate

    if not rows.is_file():
        raise InputError(f"{rows}: no such file; give the table of the features' rows with --rows")
    if rows.suffix not in manifest_files.MANIFEST_SUFFIXES:
        endings = " or ".join(manifest_files.MANIFEST_SUFFIXES)
        raise InputError(f"--rows {rows} must end in {endings}")
    told = manifest_files.read(*locate(str(rows)), labels)
    read = _named(told["path"].to_pylist(), layout, labels)
    columns = {name: read[name] for name in read.column_names}
    return pa.table(columns | {name: told[name] for name in columns if name in told.column_names})


def _named(paths: list[str], layout: str, settings: LabelSettings) -> "pa.Table":
    """Labels from names, as the layout reads them; InputError for one that does not fit."""
    import pyarrow as pa

    from pipeline.archive.layouts.labels import LayoutError
    from pipeline.archive.layouts.named import layout as layout_of
    from pipeline.archive.manifest import MANIFEST_SCHEMA

    chosen = layout_of(layout, settings=settings)
    try:
        labels = [chosen.parse(path) for path in paths]
    except LayoutError as error:
        raise InputError(f"{error}; labels can also come from a table (--format npy)") from error
    names = ("identity", "camera", "captured_at", "frame")
    columns = {
        name: pa.array([getattr(each, name) for each in labels], MANIFEST_SCHEMA.field(name).type)
        for name in names
    }
    return pa.table({"path": pa.array(paths, pa.string())} | columns)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["import", *sys.argv[1:]]))
