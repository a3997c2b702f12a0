"""Rejects: the inputs that did not become rows, each with its reason.

The rejects of a version are one Parquet file in the folder `_rejects`, named by the hash of its
bytes. The transaction that commits the rows names it, so rows and rejects change together or not at
all. A path is a row or a reject, never both: the newer one replaces the older.
"""

import hashlib
import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, in_order
from pipeline.gallery.files.storage import GalleryDamagedError, is_own_file
from pipeline.large_tables import ByPath, ranges
from pipeline.schemas import REJECT_SCHEMA

NO_REJECTS = 0
_NAME = re.compile(r"[0-9a-f]{16}\.parquet")


def as_rejects(table: pa.Table) -> pa.Table:
    """The table with the columns of `REJECT_SCHEMA`; raise `InputError` if one is missing, wrong or
    null.
    """
    missing = [name for name in REJECT_SCHEMA.names if name not in table.column_names]
    if missing:
        raise InputError(f"rejects without the column {missing[0]}")
    for field in REJECT_SCHEMA:
        if not field.nullable and table[field.name].null_count:
            raise InputError(f"rejects with a null {field.name}")
    try:
        rejects = table.select(REJECT_SCHEMA.names).cast(REJECT_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"rejects with a wrong column: {error}") from error
    return rejects.replace_schema_metadata(None)


def merged_rejects(
    present: pa.Table, new: pa.Table, keys: ByPath, forget: Iterable[str] = ()
) -> pa.Table:
    """The rejects after a commit, sorted by path.

    A `present` reject stays unless its path is in `keys`, which are the paths of the new rejects
    and rows, or in `forget`.
    """
    if new.num_rows != pc.count_distinct(new["path"]).as_py():
        raise InputError("two rejects have the same path")
    forgotten = pa.array(list(forget), pa.string())
    present = present.filter(pc.invert(pc.is_in(present["path"], value_set=forgotten)))
    kept = [
        before.filter(pc.invert(pc.is_in(before["path"], value_set=some["path"])))
        for before, some in (ranges(ByPath.of(present), keys) if len(present) else ())
    ]
    return pa.concat_tables([*kept, new]).sort_by("path").combine_chunks()


def write_rejects(root: GalleryPlace, rejects: pa.Table) -> int:
    """Store the rejects of a version; return the number by which `read_rejects` finds them.

    The number is 63 bits of the file's SHA-256, or `NO_REJECTS`.
    """
    if rejects.num_rows == 0:
        return NO_REJECTS
    folder = root / storage.REJECTS_FOLDER
    storage.make_folder(folder)
    with storage.hidden_file(folder, "rejects") as temporary:
        with storage.name_write_errors(temporary):
            pq.write_table(rejects, temporary, compression="zstd")
            storage.sync_file(temporary)
        number = _number(temporary.read_bytes())
        storage.link_into_place(temporary, rejects_file(root, number))
    return number


def read_rejects(root: GalleryPlace, number: int) -> pa.Table:
    """The rejects that `write_rejects` stored; raise `GalleryDamagedError` if its file is gone or
    changed.
    """
    if number == NO_REJECTS:
        return REJECT_SCHEMA.empty_table()
    path = rejects_file(root, number)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise GalleryDamagedError(f"{path}: the rejects of this version are gone") from error
    if _number(data) != number:
        raise GalleryDamagedError(f"{path}: the file is not what was written; restore it")
    return pq.read_table(pa.BufferReader(data), schema=REJECT_SCHEMA)


def is_as_named(path: GalleryPlace) -> bool:
    """Whether a file of rejects matches its name, so that it is neither a copy nor changed."""
    try:
        return path.name == rejects_file(path, _number(path.read_bytes())).name
    except OSError:
        return False


def rejects_files(root: GalleryPlace) -> list[GalleryPlace]:
    """All files of rejects of a gallery, without files of other tools beside them."""
    files = (root / storage.REJECTS_FOLDER).glob("*.parquet")
    return in_order(each for each in files if _NAME.fullmatch(each.name) and is_own_file(each))


def rejects_file(root: GalleryPlace, number: int) -> GalleryPlace:
    """The path of the rejects with this number."""
    return root / storage.REJECTS_FOLDER / f"{number:016x}.parquet"


def _number(data: bytes) -> int:
    return max(1, int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1)
