"""The features and rows that an import reads, in any of its formats."""

from pathlib import Path
from typing import Literal

import pyarrow as pa

from pipeline.archive.layouts.labels import LayoutError
from pipeline.archive.layouts.named import layout as layout_of
from pipeline.archive.layouts.rules import AS_THEY_ARE, LabelSettings
from pipeline.archive.listing import manifest_files
from pipeline.archive.locations import locate
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError
from pipeline.gallery.formats import faiss_files, fastreid_files, mat_files
from pipeline.gallery.formats import features as interchange
from pipeline.gallery.formats.features import RawFeatures
from pipeline.gallery.formats.mat_files import MatSide
from pipeline.gallery.formats.origin import FeatureOrigin, exported_rows
from pipeline.runs.settings import ImportFormat


def check_label_settings(labels: LabelSettings, form: ImportFormat) -> None:
    """Raise InputError for settings that this format does not use."""
    if labels.only:
        raise InputError("`only` would leave features without rows: import all of them")
    if labels.allow_root:
        raise InputError("`allow_root` has no effect here: no images are read")
    if form == "mat" and labels != AS_THEY_ARE:
        raise InputError("a .mat file holds labels as numbers: leave out the settings of labels")


def read_source(
    source: Path,
    form: ImportFormat,
    rows: Path | None,
    part: Literal["query", "gallery"],
    layout: str,
    labels: LabelSettings,
    kept: FeatureOrigin | None,
) -> tuple[RawFeatures, pa.Table]:
    """The features, and the path and labels of each."""
    if form == "mat":
        side = mat_files.read_mat(source, part)
        return side.features, _mat_labels(side, part)
    if form == "fast-reid":
        files = fastreid_files.read_folder(source)
        return files, _named(list(files.names), layout, labels)
    features = interchange.read_npy(source) if form == "npy" else faiss_files.read_index(source)
    table = rows or source.with_name("rows.csv")
    if kept is not None:
        return features, _exported_rows(table, layout, labels)
    return features, _table(table, layout, labels)


def _mat_labels(side: MatSide, part: str) -> pa.Table:
    """Labels from the arrays; the file has no names, so a row's name is its position."""
    paths = [f"{part}/{place:08d}" for place in range(len(side.identity))]
    return pa.table({"path": paths, "identity": side.identity, "camera": side.camera})


def _exported_rows(rows: Path, layout: str, labels: LabelSettings) -> pa.Table:
    """The rows of the exported gallery, with all of their columns."""
    if layout != "none" or labels != AS_THEY_ARE:
        raise InputError(
            f"{rows} has the labels of the gallery that was exported: leave out `layout` and the"
            " settings of labels, or say with `made_by` what made the features"
        )
    if not rows.is_file():
        raise InputError(f"{rows}: no such file; give the table of the features' rows with `rows`")
    return exported_rows(rows)


def _table(rows: Path, layout: str, labels: LabelSettings) -> pa.Table:
    """The labels of a table of rows; the layout fills the columns that it does not have."""
    if not rows.is_file():
        raise InputError(f"{rows}: no such file; give the table of the features' rows with `rows`")
    if rows.suffix not in manifest_files.MANIFEST_SUFFIXES:
        endings = " or ".join(manifest_files.MANIFEST_SUFFIXES)
        raise InputError(f"`rows` {rows} must end in {endings}")
    told = manifest_files.read_manifest(*locate(str(rows)), labels)
    read = _named(told["path"].to_pylist(), layout, labels)
    columns = {name: read[name] for name in read.column_names}
    return pa.table(columns | {name: told[name] for name in columns if name in told.column_names})


def _named(paths: list[str], layout: str, settings: LabelSettings) -> pa.Table:
    """Labels from names, as the layout reads them; raise InputError for one that does not fit."""
    chosen = layout_of(layout, settings=settings)
    try:
        labels = [chosen.parse(path) for path in paths]
    except LayoutError as error:
        raise InputError(f"{error}; labels can also come from a table (`format` npy)") from error
    names = ("identity", "camera", "captured_at", "frame")
    columns = {
        name: pa.array([getattr(each, name) for each in labels], MANIFEST_SCHEMA.field(name).type)
        for name in names
    }
    return pa.table({"path": pa.array(paths, pa.string())} | columns)
