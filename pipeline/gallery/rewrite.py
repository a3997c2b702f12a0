"""Copy-on-write: rows leave a gallery by new files without them in the place of those that hold
them.

`deltalake`'s own delete would turn the features into variable-length binary, take gigabytes, and
not see what another commit adds meanwhile.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import storage
from pipeline.gallery.log import NewFile, RowFile
from pipeline.gallery.row_files import delta_statistics, write_row_file
from pipeline.gallery.storage import GalleryDamagedError

_BATCH_ROWS = 1_000_000


def without_rows(
    root: Path, files: Sequence[RowFile], row_ids: np.ndarray, schema: pa.Schema
) -> tuple[list[RowFile], list[NewFile]]:
    """The files that hold any of `row_ids` int64 `[n]`, and the new files, on the disk, that take
    their place.

    Raises `InputError` if one of the row ids is not in the files.
    """
    wanted = np.unique(row_ids)
    touched, written, found = [], [], 0
    for file in files:
        low, high = np.searchsorted(wanted, (file.min_row_id, file.max_row_id + 1))
        if low == high:
            continue
        rows = _read(root / file.path)
        kept = rows.filter(pc.invert(pc.is_in(rows["row_id"], pa.array(wanted[low:high]))))
        if kept.num_rows == rows.num_rows:
            continue
        found += rows.num_rows - kept.num_rows
        touched.append(file)
        if kept.num_rows:
            written.append(_write(root, file, kept.cast(schema), gone=wanted[low:high]))
    if found != len(wanted):
        raise InputError(
            f"{root}: {len(wanted) - found} of {len(wanted)} rows to be removed are not in this "
            "version"
        )
    return touched, written


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path).replace_schema_metadata(None)
    except (OSError, pa.ArrowInvalid) as error:
        raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error


def _write(root: Path, file: RowFile, rows: pa.Table, gone: np.ndarray) -> NewFile:
    """Keeps the rows that stay, in row-id order, under a name that tells which rows left which
    file.
    """
    rows = rows.sort_by("row_id")
    first = rows["row_id"][0].as_py()
    digest = hashlib.sha256(file.path.encode() + gone.tobytes()).hexdigest()[:32]
    name = f"{first:012d}-{digest}.parquet"
    folder = root / storage.UNITS_FOLDER
    storage.make_folder(folder)
    temporary = storage.temporary_name(folder, name)
    try:
        write_row_file(temporary, rows)
        temporary.replace(root / name)
    finally:
        temporary.unlink(missing_ok=True)
    storage.sync_folder(root)
    path = root / name
    return NewFile(name, path.stat().st_size, delta_statistics(pq.read_metadata(path)))


def row_ids_of_paths(root: Path, files: Sequence[RowFile], paths: pa.ChunkedArray) -> np.ndarray:
    """The ids int64 `[n]` of the rows whose source path is one of `paths`, which must be
    distinct.
    """
    if not files or len(paths) == 0:
        return np.zeros(0, dtype=np.int64)
    new = pa.table({"path": paths})
    found = [
        part.join(new, "path", join_type="inner")["row_id"].to_numpy()
        for part in _key_batches(root, files)
    ]
    return np.sort(np.concatenate(found))


def _key_batches(root: Path, files: Sequence[RowFile]) -> Iterator[pa.Table]:
    """The columns row_id and path, about a million rows at a time."""
    batch: list[pa.Table] = []
    for number, file in enumerate(files):
        try:
            batch.append(pq.read_table(root / file.path, columns=["row_id", "path"]))
        except (OSError, pa.ArrowInvalid) as error:
            raise GalleryDamagedError(
                f"{root / file.path}: the file cannot be read ({error})"
            ) from error
        if number == len(files) - 1 or sum(table.num_rows for table in batch) > _BATCH_ROWS:
            tables = [table.replace_schema_metadata(None) for table in batch]
            yield pa.concat_tables(tables)
            batch = []
