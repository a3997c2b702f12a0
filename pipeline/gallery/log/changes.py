"""The change that a commit makes: checked, and on the disk before the log changes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files.places import (
    GalleryPlace,
    ObjectPlace,
    ask_many,
    dataset,
    known_size,
    root_of,
)
from pipeline.gallery.files.rejects import as_rejects, merged_rejects, read_rejects, write_rejects
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget, read_unit
from pipeline.gallery.found_units import row_files_from
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.rewrite import row_ids_of_paths, without_rows
from pipeline.gallery.log.transactions import Change, Snapshot
from pipeline.large_tables import ByPath, ranges
from pipeline.schemas import REJECT_SCHEMA

_FILES_AT_ONCE = 512
_KEYS = pa.schema([("path", pa.string())])


def planned_change(
    target: UnitTarget,
    snapshot: Snapshot,
    units: Sequence[UnitRecord],
    run_id: str,
    removes: np.ndarray,
    rejects: pa.Table | None,
    forget: Iterable[str],
    paths: pa.ChunkedArray | None = None,
) -> Change | None:
    """The change from a version to the next; None if nothing changes.

    `paths` are those of the units' members, if the caller knows them; otherwise they are read.
    Files that replace those with removed or replaced rows, and the rejects after the commit, are
    written; they do not count until the log names them. Raise the errors of `Gallery.commit`.
    """
    root = root_of(target.location)
    _check_order(target, snapshot, units)
    new_rejects = _rejects_of(root, units, rejects)
    if paths is not None:
        keys = _keys_of(paths, units, run_id)
        # The members' paths have those of their rejects among them.
        keys.add(_rejects_of(root, [], rejects).select(["path"]))
        _check_sizes(target, units)
    else:
        keys = ByPath(_KEYS)
        _check_files(target, units, keys)
        if isinstance(root, Path):
            _add_paths(keys, root, units)
        keys.add(new_rejects.select(["path"]))
    for (some,) in ranges(keys):
        in_order = some["path"]
        if pc.any(pc.equal(in_order[:-1], in_order[1:])).as_py():
            raise InputError(f"run {run_id}: two of its members have the same path")
    gone = np.union1d(removes, row_ids_of_paths(root, snapshot.files, keys))
    touched, written = without_rows(root, snapshot.files, gone, target.schema)
    before = read_rejects(root, snapshot.rejects)
    after = merged_rejects(before, new_rejects, keys, forget)
    added = [
        LoggedFile(unit.path, unit.bytes, unit.statistics, unit.sha256)
        for unit in units
        if unit.path
    ]
    if not units and not touched and after.equals(before):
        return None
    return Change(
        run_id=run_id,
        added=[*added, *written],
        removed=touched,
        next_row_id=max([snapshot.next_row_id, *(unit.end_row_id for unit in units)]),
        rejects=write_rejects(root, after),
        summary={
            "rows_added": sum(unit.rows for unit in units),
            "rows_removed": len(gone),
            "rejects": after.num_rows,
            "units": len(units),
        },
    )


def _check_order(target: UnitTarget, snapshot: Snapshot, units: Sequence[UnitRecord]) -> None:
    """Raise unless the units, sorted by first row id, are of this recipe and have new row ids."""
    end = snapshot.next_row_id
    for unit in units:
        if unit.fingerprint != target.fingerprint:
            raise InputError(
                f"unit {unit.unit_id}: its recipe {unit.fingerprint} "
                f"is not the gallery's {target.fingerprint}"
            )
        if unit.first_row_id < end:
            raise InputError(
                f"unit {unit.unit_id}: row id {unit.first_row_id} was given before "
                f"(the next is {end})"
            )
        end = unit.end_row_id


def _keys_of(paths: pa.ChunkedArray, units: Sequence[UnitRecord], run_id: str) -> ByPath:
    """The paths of all members of the units, as the caller knows them."""
    members = sum(unit.members for unit in units)
    if len(paths) != members:
        raise InputError(f"run {run_id}: {len(paths)} paths for the {members} members of its units")
    return ByPath.of(pa.table([paths], schema=_KEYS))


def _check_sizes(target: UnitTarget, units: Sequence[UnitRecord]) -> None:
    """Raise unless the sizes of the units' files are those of their records.

    For an object that a store acknowledged, the size is enough, and one listing has the sizes of
    all.
    """
    root = root_of(target.location)
    left = list(units)
    if units and isinstance(root, ObjectPlace):
        sizes = {place.name: known_size(place) for place in row_files_from(root, units[0])}
        left = [unit for unit in units if unit.path is None or sizes.get(unit.path) != unit.bytes]
    _check_files(target, left, None)


def _check_files(target: UnitTarget, units: Sequence[UnitRecord], keys: ByPath | None) -> None:
    """Raise unless the units' files are complete and match their records.

    If `keys` is given and opening a file takes a request, the paths of its rows are added to
    `keys`.
    """
    root = root_of(target.location)

    def found(unit: UnitRecord) -> tuple[UnitRecord, pa.Table | None]:
        name = unit.path or str(unit.rejects_path)
        with_paths = keys is not None and isinstance(root, ObjectPlace)
        return read_unit(root, name, target, unit.sha256, with_paths=with_paths)

    waiting: list[pa.Table] = []
    for unit, (record, paths) in zip(units, ask_many(found, units, root), strict=True):
        if paths is not None:
            waiting.append(paths.replace_schema_metadata(None))
        if keys is not None and (len(waiting) == _FILES_AT_ONCE or (waiting and unit is units[-1])):
            keys.add(pa.concat_tables(waiting).cast(keys.schema))
            waiting = []
        if record != unit:
            raise GalleryDamagedError(f"unit {unit.unit_id}: its file is not what the record says")


def _add_paths(keys: ByPath, root: Path, units: Sequence[UnitRecord]) -> None:
    """Add the source paths of the units' rows."""
    files: list[GalleryPlace] = [root / unit.path for unit in units if unit.path]
    for start in range(0, len(files), _FILES_AT_ONCE):
        some = files[start : start + _FILES_AT_ONCE]
        keys.add(dataset(some, keys.schema, ds.ParquetFileFormat()).to_table())


def _rejects_of(
    root: GalleryPlace, units: Sequence[UnitRecord], others: pa.Table | None
) -> pa.Table:
    """The rejects of the units, and those that reached no unit."""
    paths = [root / unit.rejects_path for unit in units if unit.rejects_path]
    tables = [
        as_rejects(pq.read_table(pa.BufferReader(data)))
        for data in ask_many(checksums.read_recorded, paths, root)
    ]
    tables.append(REJECT_SCHEMA.empty_table() if others is None else as_rejects(others))
    return pa.concat_tables(tables)
