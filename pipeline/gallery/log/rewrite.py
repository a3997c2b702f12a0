"""Copy-on-write: to remove rows from a gallery, new files without them replace the files that hold
them.

`deltalake`'s own delete would convert the features to variable-length binary, need gigabytes of
memory, and miss rows that another commit adds at the same time.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ask_many, parquet
from pipeline.gallery.files.row_files import checksum, delta_statistics, write_row_file
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.transactions import RowFile
from pipeline.large_tables import ROWS_HELD, ByPath, ranges

_BATCH_ROWS = 1_000_000
_KEYS = pa.schema([("row_id", pa.int64()), ("path", pa.string())])  # other tools keep views


def without_rows(
    root: GalleryPlace, files: Sequence[RowFile], row_ids: np.ndarray, schema: pa.Schema
) -> tuple[list[RowFile], list[LoggedFile]]:
    """The files that hold any of `row_ids` int64 `[n]`, and the new files on disk that replace
    them.

    Raise `InputError` if one of the row ids is not in the files.
    """
    wanted = np.unique(row_ids)
    touched = [(file, gone) for file in files if len(gone := _ids_in_file(root, file, wanted))]
    found = np.concatenate([wanted[:0], *(gone for _, gone in touched)])
    missing = len(wanted) - len(np.unique(found))  # another tool may have added a row twice
    if missing:
        raise InputError(
            f"{root}: {missing} of {len(wanted)} rows to be removed are not in this version"
        )
    written = [_write(root, file, gone, schema) for file, gone in touched if len(gone) < file.rows]
    return [file for file, _ in touched], written


def _ids_in_file(root: GalleryPlace, file: RowFile, wanted: np.ndarray) -> np.ndarray:
    """The row ids among `wanted` int64 `[n]`, ascending, that a file holds."""
    low, high = np.searchsorted(wanted, (file.min_row_id, file.max_row_id + 1))
    if low == high:
        return wanted[:0]
    ids = _read(root / file.path, ["row_id"])["row_id"].to_numpy()
    return wanted[low:high][np.isin(wanted[low:high], ids)]


def _write(root: GalleryPlace, file: RowFile, gone: np.ndarray, schema: pa.Schema) -> LoggedFile:
    """Write a file's rows without those with the ids `gone`, in row-id order.

    The name depends on the file and the removed rows. The schema is ours, even if another tool
    wrote the file in another form.
    """
    rows = _of_schema(root / file.path, schema)
    rows = rows.filter(pc.invert(pc.is_in(rows["row_id"], pa.array(gone)))).sort_by("row_id")
    first = rows["row_id"][0].as_py()
    digest = hashlib.sha256(file.path.encode() + gone.tobytes()).hexdigest()[:32]
    return keep_rows(root, f"{first:012d}-{digest}.parquet", rows)


def keep_rows(root: GalleryPlace, name: str, rows: pa.Table) -> LoggedFile:
    """Write rows as a file of the gallery's folder, flushed and with a record of its checksum.

    The name must depend on the content: a file that a killed run left is replaced.
    """
    path = root / name
    folder = root / storage.UNITS_FOLDER
    storage.make_folder(folder)
    with storage.hidden_file(folder, name) as temporary:
        write_row_file(temporary, rows)
        size, sha256 = temporary.stat().st_size, checksum(temporary)
        statistics = delta_statistics(pq.read_metadata(temporary))
        checksums.replace(temporary, path)
    return LoggedFile(name, size, statistics, sha256)


def row_ids_of_paths(root: GalleryPlace, files: Sequence[RowFile], paths: ByPath) -> np.ndarray:
    """The ids int64 `[n]` of the rows whose source path is one of `paths`, which are distinct."""
    if not files or len(paths) == 0:
        return np.zeros(0, dtype=np.int64)
    found = [part["row_id"].to_numpy() for part in _rows_of_paths(root, files, paths)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def _rows_of_paths(
    root: GalleryPlace, files: Sequence[RowFile], paths: ByPath
) -> Iterator[pa.Table]:
    """Yield rows of `_KEYS`; few paths are searched file by file, many in the order of all
    paths.
    """
    if len(paths) <= ROWS_HELD:
        wanted = paths.table()["path"]
        for part in _key_batches(root, files):
            yield part.filter(pc.is_in(part["path"], value_set=wanted))
        return
    held = ByPath(_KEYS)
    for part in _key_batches(root, files):
        held.add(part)
    for new, old in ranges(paths, held):
        yield old.filter(pc.is_in(old["path"], value_set=new["path"]))


def _key_batches(root: GalleryPlace, files: Sequence[RowFile]) -> Iterator[pa.Table]:
    """The columns row_id and path, about a million rows at a time."""
    batch: list[pa.Table] = []
    keys = ask_many(lambda file: _read(root / file.path, _KEYS.names).cast(_KEYS), files, root)
    for number, table in enumerate(keys):
        batch.append(table)
        if number == len(files) - 1 or sum(each.num_rows for each in batch) > _BATCH_ROWS:
            yield pa.concat_tables(batch)
            batch = []


def _of_schema(path: GalleryPlace, schema: pa.Schema) -> pa.Table:
    """A file's rows in our columns; a column that another tool omitted is null, as in Delta."""
    found = set(_footer_names(path))
    rows = _read(path, [name for name in schema.names if name in found])
    for field in schema:
        if field.name not in found and field.nullable:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    try:
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise GalleryDamagedError(f"{path}: the columns are not the gallery's ({error})") from error


def _footer_names(path: GalleryPlace) -> list[str]:
    try:
        return list(pq.read_schema(parquet(path)).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error


def _read(path: GalleryPlace, columns: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(parquet(path), columns=list(columns)).replace_schema_metadata(None)
    except (OSError, pa.ArrowInvalid) as error:
        raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error
