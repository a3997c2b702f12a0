"""Write a version of a gallery for other tools, in their formats."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import local_root
from pipeline.gallery.formats import faiss_files, fastreid_files, mat_files
from pipeline.gallery.formats.csv_cells import safe_cells
from pipeline.gallery.formats.origin import ORIGIN_FILE, ORIGIN_FORMAT, about_gallery
from pipeline.gallery.outputs import digest, listed_in_galleries
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.output_files import check_file_name, check_new_folder

FEATURES_FILE = "features.npy"
ROWS_FILE = "rows.csv"
PARQUET_FILE = "rows.parquet"
MAT_FILE = "pytorch_result.mat"
FAISS_FILE = "gallery.faiss"
FASTREID_FOLDER = "fast-reid"
FORMATS = ("npy", "parquet", "mat", "fast-reid", "faiss")
LABEL_PLACES = {"coco": "annotations.json", "cvat": "cvat", "fiftyone": "fiftyone", "mot": "mot"}
"""The file or folder of each format of labels on frames."""
_FILES = (
    *(FEATURES_FILE, ROWS_FILE, PARQUET_FILE, MAT_FILE, FAISS_FILE, FASTREID_FOLDER),
    *LABEL_PLACES.values(),
)
_WITH_FEATURES = {FEATURES_FILE, PARQUET_FILE, MAT_FILE, FAISS_FILE, FASTREID_FOLDER}
_BLOCK_BYTES = 64 << 20
_CSV_ROWS = 100_000


@dataclass(frozen=True)
class ExportedFeatures:
    """The result of an export: its files, the number and dimension of the rows, and the version."""

    files: tuple[str, ...]
    rows: int
    dimension: int
    version: int


def export_gallery(
    gallery: Gallery,
    out: str,
    format: str = "npy",  # noqa: A002 (the flag's name)
    query: Gallery | None = None,
    *,
    safe_csv: bool = False,
) -> ExportedFeatures:
    """Write a version to the folder `out`, rows in row-id order.

    `npy`: `features.npy` (float32 `[N, D]`) and `rows.csv` (all other columns; times in ISO 8601,
    hashes in hexadecimal, unknown values empty). `parquet`: `rows.parquet` with the feature as
    list<float>. `mat`: `pytorch_result.mat` as layumi's evaluation reads it, `query` included.
    `fast-reid`: a folder of one `.npy` file an image. `faiss`: `gallery.faiss`, a flat index of
    inner products, and `rows.csv`. All: `gallery.json`, which names the gallery, version and recipe
    (`origin`), and says whether the export is complete. The files get their names when they are
    whole. With `safe_csv` no cell of `rows.csv` is a formula to a spreadsheet (`safe_cells`). Raise
    `InputError` if the folder holds anything but an earlier export, or if the format cannot hold
    the gallery.
    """
    if format not in FORMATS:
        raise InputError(f"`format` {format!r} is unknown: choose one of {', '.join(FORMATS)}")
    if query is not None and format != "mat":
        raise InputError("`query` goes with `format` mat alone, which holds queries and gallery")
    writers, names = _writers(gallery, format, query)
    if safe_csv:
        if ROWS_FILE not in writers:
            raise InputError(f"`safe_csv` is about {ROWS_FILE}, which `format` {format} has not")
        writers[ROWS_FILE] = partial(_write_csv, safe=True)
    folder = _free_folder(out)
    made = [*([FASTREID_FOLDER] if names else []), *writers, ORIGIN_FILE]
    with listed_in_galleries("export", folder, [gallery, *([query] if query else [])], *made):
        _write(gallery, query, folder, writers, names, safe_csv=safe_csv)
    files = tuple(str(Path(out, name)) for name in made)
    return ExportedFeatures(files, gallery.count, gallery.dimension, gallery.version)


def export_labels(
    gallery: Gallery,
    out: str,
    kind: str,
    write: Callable[[Path], None],
) -> tuple[str, ...]:
    """Have `write` make the file or folder of labels that `LABEL_PLACES` names, in the folder
    `out`, and list it as an export; return the files.

    `gallery.json` goes beside it. Raise `InputError` as `export` does for the folder.
    """
    folder, place = _free_folder(out), LABEL_PLACES[kind]
    with listed_in_galleries("export", folder, [gallery], place, ORIGIN_FILE):
        about = _begin(gallery, folder)
        storage.write_whole(folder / place, write) if "." in place else write(folder / place)
        storage.write_whole(folder / ORIGIN_FILE, partial(_write_about, about, True))
    return tuple(str(Path(out, name)) for name in (place, ORIGIN_FILE))


def _begin(gallery: Gallery, folder: Path, query: Gallery | None = None) -> dict[str, Any]:
    """Delete the files of an earlier export; return the content of the new `gallery.json`."""
    about = about_gallery(gallery) | {"rows": gallery.count}
    if query is not None:
        about["query"] = about_gallery(query)
    storage.write_whole(folder / ORIGIN_FILE, partial(_write_about, about, False))
    for name in _FILES:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    storage.delete_files(folder / name for name in _FILES)
    for name in (*_FILES, ORIGIN_FILE):
        storage.drop_cut_off(folder, name)
    return about


def _write(
    gallery: Gallery,
    query: Gallery | None,
    folder: Path,
    writers: dict[str, Callable[[Gallery, Path], None]],
    names: list[str],
    *,
    safe_csv: bool,
) -> None:
    """Write the files of an export to its folder, in place of those of an earlier export."""
    about = _begin(gallery, folder, query)
    if names:
        storage.make_folder(folder / FASTREID_FOLDER)
        fastreid_files.write_files(gallery, names, folder / FASTREID_FOLDER)
    for name, write in writers.items():
        storage.write_whole(folder / name, partial(write, gallery))
    made = [*([FASTREID_FOLDER] if names else []), *writers]
    if not safe_csv:  # whose names are not those of the rows
        about["features"] = {n: digest(folder / n) for n in made if n in _WITH_FEATURES}
    storage.write_whole(folder / ORIGIN_FILE, partial(_write_about, about, True))


def _writers(
    gallery: Gallery,
    format: str,  # noqa: A002 (the flag's name)
    query: Gallery | None,
) -> tuple[dict[str, Callable[[Gallery, Path], None]], list[str]]:
    """The files of a format and their writers, or the names of fast-reid's files; checked before
    anything is written.
    """
    if format == "npy":
        return {FEATURES_FILE: _write_features, ROWS_FILE: _write_csv}, []
    if format == "parquet":
        return {PARQUET_FILE: _write_parquet}, []
    if format == "fast-reid":
        return {}, fastreid_files.file_names(gallery)
    if format == "faiss":
        faiss_files.load_faiss()
        return {FAISS_FILE: faiss_files.write_index, ROWS_FILE: _write_csv}, []
    if query is None:
        raise InputError("`format` mat holds queries and gallery: give `query` too")
    for side in (query, gallery):
        mat_files.check_fits(side)
    return {MAT_FILE: partial(mat_files.write_mat, query)}, []


def is_export(folder: Path, files: Iterable[Path]) -> bool:
    """Whether an export wrote these files of a folder."""
    own = {folder / name for name in (*_FILES, ORIGIN_FILE)}
    return _is_export(folder / ORIGIN_FILE) and own.issuperset(files)


def _free_folder(out: str) -> Path:
    """The folder, made if necessary; raise `InputError` if it has files that no export wrote."""
    folder = local_root(out)
    check_file_name(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file; `out` needs a folder")
    check_new_folder(folder)
    storage.make_folder(folder)
    names = (*_FILES, ORIGIN_FILE)
    own = {path.name for name in names for path in storage.temporaries(folder, name)}
    if _is_export(folder / ORIGIN_FILE):
        own |= set(names)
    others = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if others:
        raise InputError(
            f"{folder}: the folder holds other files ({others[0]}); give a new or an empty folder"
        )
    return folder


def _is_export(about: Path) -> bool:
    """Whether an export wrote this `gallery.json`."""
    try:
        return "regallery_export" in parse_json(about.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _blocks(gallery: Gallery) -> list[tuple[int, int]]:
    """Runs of positions whose features take a limited number of bytes."""
    size = max(1, _BLOCK_BYTES // (4 * gallery.dimension))
    return [(start, min(start + size, gallery.count)) for start in range(0, gallery.count, size)]


def _write_features(gallery: Gallery, path: Path) -> None:
    # Plain writes: a full disk is an error there, and kills the process in mapped memory.
    shape = (gallery.count, gallery.dimension)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    features = gallery.features()
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start, stop in _blocks(gallery):
            file.write(features.read(start, stop).astype("<f4", copy=False).data)


def _write_csv(gallery: Gallery, path: Path, *, safe: bool = False) -> None:
    rows = gallery.rows()
    with pyarrow.csv.CSVWriter(path, _as_text(rows.schema.empty_table()).schema) as writer:
        for start in range(0, rows.num_rows, _CSV_ROWS):
            part = _as_text(rows.slice(start, _CSV_ROWS))
            writer.write_table(safe_cells(part) if safe else part)


def _as_text(rows: pa.Table) -> pa.Table:
    """The table with times and hashes as text."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(rows[field.name], format="%Y-%m-%dT%H:%M:%SZ")
            rows = rows.set_column(index, field.name, text)
        elif pa.types.is_fixed_size_binary(field.type):
            values = [value and value.hex() for value in rows[field.name].to_pylist()]
            rows = rows.set_column(index, field.name, pa.array(values, pa.string()))
    return rows


def _write_parquet(gallery: Gallery, path: Path) -> None:
    rows, features = gallery.rows(), gallery.features()
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    schema = rows.schema.append(pa.field("feature", kind, nullable=False))
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["camera"]) as writer:
        for start, stop in _blocks(gallery):
            values = pa.array(features.read(start, stop).ravel())
            offsets = np.arange(stop - start + 1, dtype=np.int32) * gallery.dimension
            lists = pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
            part = rows.slice(start, stop - start)
            writer.write_table(part.append_column(schema.field("feature"), lists))


def _write_about(about: dict[str, Any], complete: bool, path: Path) -> None:
    told = {"regallery_export": ORIGIN_FORMAT, "complete": complete, **about}
    path.write_text(json.dumps(told, indent=2) + "\n")
