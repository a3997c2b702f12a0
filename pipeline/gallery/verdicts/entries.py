"""The entries of the verdict table: small files that are only ever added.

Each call of `append_entries` writes one Parquet file in the folder `_verdicts`. Its name is a
number, one more than the highest there, and random digits, so that two people who append at the
same time write two files and no entry is lost. A file is there with all of its entries or not at
all. Entries are in the order of the names; a withdrawal is an entry, too.

Beside the row ids, an entry has the path and the content hash of both rows. So it still counts for
a row that was extracted again from the same bytes, for example with other labels.
"""

import re
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    GalleryPlace,
    ObjectPlace,
    ask_many,
    can_write,
    root_of,
)
from pipeline.gallery.files.schema import CONTENT_HASH_BYTES
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from pipeline.input_files import why
from pipeline.schemas import TIMESTAMP

SAME, DIFFERENT, WITHDRAWN = "same", "different", "withdrawn"

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("a", pa.int64(), nullable=False),
        pa.field("b", pa.int64(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("who", pa.string(), nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("comment", pa.string()),
        pa.field("path_a", pa.string(), nullable=False),
        pa.field("path_b", pa.string(), nullable=False),
        pa.field("hash_a", pa.binary(CONTENT_HASH_BYTES)),
        pa.field("hash_b", pa.binary(CONTENT_HASH_BYTES)),
    ]
)
"""The columns of an entry: two row ids, the verdict, who gave it, when (UTC), the version of the
gallery that the person saw, a comment, and the paths and content hashes of both rows."""

_NAME = re.compile(r"(\d{12,})-[0-9a-f]{32}\.parquet")
_REMEDY = "give the verdicts of that file again"


def append_entries(gallery: Gallery, entries: pa.Table) -> GalleryPlace:
    """Add entries in `VERDICT_SCHEMA` to the table of a gallery, all of them or none.

    Return when they are on the disk. The lock of the gallery is not needed. Raise `InputError` if
    the folder cannot be written to, or if rows that they name left the gallery at the same time;
    `RunError` if the disk is full.
    """
    root = root_of(gallery.location)
    folder = root / storage.VERDICTS_FOLDER
    _check_can_write(root, folder)
    storage.make_folder(folder)
    storage.drop_cut_off(folder)
    number = 1 + max(map(_number, _names(folder)), default=0)
    path = folder / f"{storage.version_name(number)}-{uuid.uuid4().hex}.parquet"
    _write(path, entries)
    # Only now: a purge at the same time either sees the file, or is seen here.
    gone = _gone(gallery, entries)
    if len(gone):
        storage.delete_files([path])
        raise InputError(
            f"{gallery.location}: row {gone[0]} left the gallery at the same time: no verdict was"
            " added"
        )
    return path


def read_entries(root: GalleryPlace) -> pa.Table:
    """All entries in `VERDICT_SCHEMA`, in the order in which they were added.

    Raise `GalleryDamagedError` naming a file that is gone or has changed.
    """
    tables = [table for _, table in entry_files(root)]
    return pa.concat_tables([VERDICT_SCHEMA.empty_table(), *tables]).combine_chunks()


def entries_state(root: GalleryPlace) -> tuple[str, ...]:
    """The names of the files of entries, which change whenever someone gives a verdict."""
    return tuple(sorted(_names(root / storage.VERDICTS_FOLDER)))


def entry_files(root: GalleryPlace) -> list[tuple[GalleryPlace, pa.Table]]:
    """The files of entries, in their order, with what is in them; raise what `read_entries`
    raises.
    """
    folder = root / storage.VERDICTS_FOLDER
    paths = [folder / name for name in sorted(_names(folder), key=lambda n: (_number(n), n))]
    found = ask_many(_read, paths, root)
    return [(path, table) for path, table in zip(paths, found, strict=True) if table is not None]


def rewrite_entries(path: GalleryPlace, entries: pa.Table) -> None:
    """Replace the entries of a file, or delete it if none are left."""
    if len(entries):
        _write(path, entries)
    else:
        storage.delete_files([path])


def _check_can_write(root: GalleryPlace, folder: GalleryPlace) -> None:
    records = root / storage.CHECKSUMS_FOLDER
    for each in (root, folder, records, records / storage.VERDICTS_FOLDER):
        if isinstance(each, Path) and each.exists() and not can_write(each):
            raise InputError(f"{each} cannot be written to: verdicts are stored there")


def _names(folder: GalleryPlace) -> set[str]:
    is_there = isinstance(folder, ObjectPlace) or folder.is_dir()
    names = {path.name for path in folder.iterdir()} if is_there else set()
    names |= checksums.recorded(folder)  # so that a deleted one is noticed
    return {name for name in names if _NAME.fullmatch(name)}


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _write(path: GalleryPlace, entries: pa.Table) -> None:
    table = entries.select(VERDICT_SCHEMA.names).cast(VERDICT_SCHEMA)

    def write(temporary: Path) -> None:
        # Plain, so that a search for the bytes of a path finds them.
        pq.write_table(
            table, temporary, compression="none", use_dictionary=False, write_statistics=False
        )

    checksums.write_recorded(path, write)


def _read(path: GalleryPlace) -> pa.Table | None:
    """The entries of a file; None if it was deleted since it was listed."""
    data = checksums.read_recorded(path, _REMEDY)
    if data is None:
        return None
    try:
        # Without threads: there are many files of a few entries.
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table = table.replace_schema_metadata(None)
        if table.schema != VERDICT_SCHEMA:
            raise ValueError("its columns are those of another format")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise GalleryDamagedError(f"{path}: these are not verdicts ({why(error)})") from error
    return table


def _gone(gallery: Gallery, entries: pa.Table) -> np.ndarray:
    """Ids int64 `[n]` of rows that entries name and that the latest version does not have."""
    latest = Gallery.open(gallery.location)
    if latest.version == gallery.version:
        return np.empty(0, np.int64)
    named = np.unique(np.concatenate([entries["a"].to_numpy(), entries["b"].to_numpy()]))
    return np.setdiff1d(named, latest.row_ids())
