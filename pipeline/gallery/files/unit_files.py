"""Unit files: the work of one unit, on the disk before a commit.

A unit is one Parquet file in the gallery's folder. Its rejects, if any, are in the hidden folder
`_units` and are written first, so an existing unit file is complete; a unit with only rejects
consists of that second file alone. Both get their names after they are flushed and read back, and
the metadata of each names its unit.

A file's name begins with the first row id of its unit. Row ids are never reused, so names are never
reused either. Therefore a leftover of an interrupted run can be distinguished, without opening it,
from a file that a later version removed.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, parquet, root_of
from pipeline.gallery.files.rejects import as_rejects
from pipeline.gallery.files.row_files import (
    MOST_UNIT_ROWS,
    checksum,
    delta_statistics,
    write_row_file,
)
from pipeline.gallery.files.schema import is_row_schema, row_schema
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.input_files import parse_json
from pipeline.schemas import REJECT_SCHEMA

UNIT_KEY = b"regallery.unit"
_UNIT_ID = re.compile(r"[A-Za-z0-9_]{1,128}")
UNIT_FILE = re.compile(r"(\d{12,})-[A-Za-z0-9_]+\.parquet")
"""The names of row files."""
REJECTS_FILE = re.compile(r"(\d{12,})-[A-Za-z0-9_]+\.[0-9a-f]{16}\.parquet")
"""The names of files of rejects of units."""


@dataclass(frozen=True)
class UnitTarget:
    """The place and form in which units are written; small and picklable, for the workers."""

    location: str
    fingerprint: str
    dimension: int
    dtype: str

    @property
    def schema(self) -> pa.Schema:
        """The exact schema of a unit's rows."""
        return row_schema(self.dimension, self.dtype)


@dataclass(frozen=True)
class UnitRecord:
    """A finished unit, as a worker reports it to the driver, and the driver to the commit."""

    unit_id: str
    fingerprint: str
    first_row_id: int
    members: int
    rows: int
    rejects: int
    path: str | None
    rejects_path: str | None
    bytes: int
    statistics: str
    sha256: str
    oddities: tuple[tuple[str, int, str], ...] = dataclasses.field(default=(), compare=False)
    """Oddities of its images: the kind, how many, and the path of one. They are not stored in the
    file."""

    @property
    def end_row_id(self) -> int:
        """The first row id after this unit."""
        return self.first_row_id + self.members


def write_unit(
    target: UnitTarget, unit_id: str, row_ids: range, rows: pa.Table, rejects: pa.Table
) -> UnitRecord:
    """Write one unit to the disk and return its record; a second writer of the unit gets the record
    of the first.

    `row_ids` are the ids that the plan gave to the unit's members; `rows` `[n]` carry theirs,
    ascending, in the schema `target.schema`; `rejects` hold the other members. Raise `InputError`
    if rows and rejects are not the members.
    """
    rejects = as_rejects(rejects)
    _check_unit(target, unit_id, row_ids, rows, rejects)
    root = root_of(target.location)
    folder = root / storage.UNITS_FOLDER
    storage.make_folder(folder)
    stem = f"{row_ids.start:012d}-{unit_id}"
    about = {
        "unit_id": unit_id,
        "fingerprint": target.fingerprint,
        "first_row_id": row_ids.start,
        "members": len(row_ids),
        "rows": rows.num_rows,
        "rejects": rejects.num_rows,
        "rejects_path": None,
    }
    if rejects.num_rows:
        name = _write_rejects(folder, stem, about, rejects)
        about["rejects_path"] = f"{storage.UNITS_FOLDER}/{name}"
    final = root / f"{stem}.parquet"
    if rows.num_rows == 0:
        first = final.name if final.is_file() else str(about["rejects_path"])
        return read_unit_record(root, first, target)
    with storage.hidden_file(folder, stem) as temporary:
        _write_rows(temporary, rows, about)
        metadata = read_footer(temporary)
        _check_footer(temporary, metadata, target, rows.num_rows)
        if not checksums.link_recorded(temporary, final):
            return _first_writers_record(root, final, temporary, target)
        if isinstance(final, ObjectPlace):
            # A store that acknowledges a request has checked the bytes: they are not fetched again.
            return UnitRecord(
                **about,
                path=final.name,
                bytes=temporary.stat().st_size,
                statistics=delta_statistics(metadata),
                sha256=checksum(temporary),
            )
    return read_unit_record(root, final.name, target)


def read_unit_record(
    root: GalleryPlace, name: str, target: UnitTarget, sha256: str | None = None
) -> UnitRecord:
    """The record of the unit that a file holds; raise `GalleryDamagedError` naming the file if it
    is not whole.

    Unless the caller gives the checksum, the whole file is read to compute it and compare it with
    its record.
    """
    return read_unit(root, name, target, sha256)[0]


def read_unit(
    root: GalleryPlace,
    name: str,
    target: UnitTarget,
    sha256: str | None = None,
    *,
    with_paths: bool = False,
) -> tuple[UnitRecord, pa.Table | None]:
    """`read_unit_record`, plus the source paths of the unit's rows if `with_paths`, with one
    opening of the file.
    """
    path = root / name
    if sha256 is None:
        checksums.check_unchanged(path)
    source = _opened(path)
    metadata = read_footer(path, source)
    about = unit_metadata(path, metadata)
    if about["fingerprint"] != target.fingerprint:
        raise GalleryDamagedError(
            f"{path}: the unit's recipe {about['fingerprint']} is not the gallery's"
        )
    is_rows = not name.startswith(storage.UNITS_FOLDER)
    if about["rows"] + about["rejects"] != about["members"] or is_rows != (about["rows"] > 0):
        raise GalleryDamagedError(f"{path}: rows and rejects are not the unit's members")
    if is_rows:
        _check_footer(path, metadata, target, about["rows"])
        if about["rejects"]:
            checksums.check_unchanged(root / about["rejects_path"])
            _check_rows(root / about["rejects_path"], about["rejects"])
    else:
        about["rejects_path"] = name
        _check_rows(path, about["rejects"])
    size = path.stat().st_size if isinstance(source, Path) else source.size()
    record = UnitRecord(
        **about,
        path=name if is_rows else None,
        bytes=size if is_rows else 0,
        statistics=delta_statistics(metadata) if is_rows else "",
        sha256=(sha256 or checksum(path)) if is_rows else "",
    )
    if not (with_paths and is_rows):
        return record, None
    return record, pq.ParquetFile(source, metadata=metadata).read(["path"], use_threads=False)


def _check_unit(
    target: UnitTarget, unit_id: str, row_ids: range, rows: pa.Table, rejects: pa.Table
) -> None:
    if not _UNIT_ID.fullmatch(unit_id):
        raise InputError(f"unit id {unit_id!r}: letters, digits and _ only, at most 128")
    if row_ids.step != 1 or row_ids.start < 0 or not 1 <= len(row_ids) <= MOST_UNIT_ROWS:
        raise InputError(f"unit {unit_id}: {row_ids} is not a run of 1 to {MOST_UNIT_ROWS} row ids")
    if rows.num_rows + rejects.num_rows != len(row_ids):
        raise InputError(
            f"unit {unit_id}: {rows.num_rows} rows and {rejects.num_rows} rejects of "
            f"{len(row_ids)} members"
        )
    if not rows.schema.equals(target.schema):
        raise InputError(f"unit {unit_id}: {_difference(rows.schema, target.schema)}")
    for name in ("row_id", "path", "feature"):
        if rows[name].null_count:
            raise InputError(f"unit {unit_id}: a row with a null {name}")
    ids = rows["row_id"].to_numpy()
    if rows.num_rows and (
        ids[0] not in row_ids or ids[-1] not in row_ids or (ids[1:] <= ids[:-1]).any()
    ):
        raise InputError(f"unit {unit_id}: row ids must ascend within {row_ids}")
    paths = pa.chunked_array([*rows["path"].chunks, *rejects["path"].chunks], pa.string())
    if pc.count_distinct(paths).as_py() != len(row_ids):
        raise InputError(f"unit {unit_id}: two members have the same path")


def _difference(found: pa.Schema, wanted: pa.Schema) -> str:
    for field in wanted:
        if field.name not in found.names:
            return f"the column {field.name} is missing"
        if not found.field(field.name).equals(field):
            return f"the column {_kind(found.field(field.name))} should be {_kind(field)}"
    return f"the columns are {', '.join(found.names)}; they should be {', '.join(wanted.names)}"


def _kind(field: pa.Field) -> str:
    return f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"


def _write_rows(path: Path, rows: pa.Table, about: dict[str, Any]) -> None:
    write_row_file(path, rows.replace_schema_metadata({UNIT_KEY: json.dumps(about).encode()}))


def _write_rejects(
    folder: GalleryPlace, stem: str, about: dict[str, Any], rejects: pa.Table
) -> str:
    """Write a unit's rejects under a name made from their content, so that writers do not change
    each other's.
    """
    described = rejects.replace_schema_metadata({UNIT_KEY: json.dumps(about).encode()})
    with storage.hidden_file(folder, stem) as temporary:
        with storage.name_write_errors(temporary):
            pq.write_table(described, temporary, compression="zstd")
            storage.sync_file(temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()[:16]
        name = f"{stem}.{digest}.parquet"
        checksums.link_recorded(temporary, folder / name)
    return name


def _first_writers_record(
    root: GalleryPlace, final: GalleryPlace, temporary: Path, target: UnitTarget
) -> UnitRecord:
    """The record of the file that was there first; our file replaces a damaged one.

    No version can refer to a damaged file of this name: the unit's row ids were never committed.
    """
    try:
        return read_unit_record(root, final.name, target)
    except GalleryDamagedError:
        checksums.replace(temporary, final)
        return read_unit_record(root, final.name, target)


def _opened(path: GalleryPlace) -> Any:
    try:
        return parquet(path)
    except FileNotFoundError as error:
        raise GalleryDamagedError(f"{path}: the file is gone") from error


def read_footer(path: GalleryPlace, source: Any = None) -> pq.FileMetaData:
    """Read the metadata of a Parquet file, from `source` if it is open already.

    Raise `GalleryDamagedError` naming a file that is gone or cut short.
    """
    try:
        return pq.read_metadata(_opened(path) if source is None else source)
    except FileNotFoundError as error:
        raise GalleryDamagedError(f"{path}: the file is gone") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise GalleryDamagedError(f"{path}: no whole Parquet file ({error})") from error


def unit_metadata(path: GalleryPlace, metadata: pq.FileMetaData) -> dict[str, Any]:
    """The metadata of a unit's file."""
    text = (metadata.metadata or {}).get(UNIT_KEY)
    try:
        about = parse_json(text or b"")
    except ValueError as error:
        raise GalleryDamagedError(f"{path}: the file does not name its unit") from error
    found_later = {"path", "bytes", "statistics", "sha256", "oddities"}
    wanted = UnitRecord.__dataclass_fields__.keys() - found_later
    if not isinstance(about, dict) or about.keys() != wanted:
        raise GalleryDamagedError(f"{path}: the file does not name its unit")
    return about


def _check_footer(
    path: GalleryPlace, metadata: pq.FileMetaData, target: UnitTarget, rows: int
) -> None:
    if metadata.num_rows != rows:
        raise GalleryDamagedError(f"{path}: {metadata.num_rows} rows where {rows} were written")
    if not is_row_schema(metadata.schema.to_arrow_schema(), target.schema):
        raise GalleryDamagedError(f"{path}: the columns are not the gallery's")


def _check_rows(path: GalleryPlace, rows: int) -> None:
    found = read_footer(path)
    if found.num_rows != rows or found.schema.names != REJECT_SCHEMA.names:
        raise GalleryDamagedError(f"{path}: {found.num_rows} rejects where {rows} were written")


def is_row_file(path: GalleryPlace) -> bool:
    """Whether a file has a name that this tool gives to row files."""
    return UNIT_FILE.fullmatch(path.name) is not None
