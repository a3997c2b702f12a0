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
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, ask_many, dataset, root_of
from pipeline.gallery.files.rejects import as_rejects, merged_rejects, read_rejects, write_rejects
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget, read_unit
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.rewrite import row_ids_of_paths, without_rows
from pipeline.gallery.log.transactions import Change, Snapshot
from pipeline.large_tables import ByPath, ranges
from pipeline.schemas import REJECT_SCHEMA

_FILES_AT_ONCE = 512


def planned_change(
    target: UnitTarget,
    snapshot: Snapshot,
    units: Sequence[UnitRecord],
    run_id: str,
    removes: np.ndarray,
    rejects: pa.Table | None,
    forget: Iterable[str],
) -> Change | None:
    """The change from a version to the next; None if nothing changes.

    Writes the files that replace those with removed or replaced rows, and the rejects after the
    commit; they do not count until the log names them. Raises what `Gallery.commit` raises.
    """
    root = root_of(target.location)
    keys = ByPath(pa.schema([("path", pa.string())]))
    _check_units(target, snapshot, units, keys)
    new_rejects = _rejects_of(root, units, rejects)
    if isinstance(root, Path):
        _add_paths(keys, root, units)
    keys.add(new_rejects.select(["path"]))
    for (some,) in ranges(keys):
        if pc.count_distinct(some["path"]).as_py() != len(some):
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


def _check_units(
    target: UnitTarget, snapshot: Snapshot, units: Sequence[UnitRecord], keys: ByPath
) -> None:
    """Raises unless the units, sorted by first row id, are whole, of this recipe, and have new row
    ids. Adds the paths of their rows to `keys` where each opening of a file is a request.
    """
    root = root_of(target.location)
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

    def found(unit: UnitRecord) -> tuple[UnitRecord, pa.Table | None]:
        name, with_paths = unit.path or str(unit.rejects_path), isinstance(root, ObjectPlace)
        return read_unit(root, name, target, unit.sha256, with_paths=with_paths)

    waiting: list[pa.Table] = []
    for unit, (record, paths) in zip(units, ask_many(found, units, root), strict=True):
        if paths is not None:
            waiting.append(paths.replace_schema_metadata(None))
        if len(waiting) == _FILES_AT_ONCE or (waiting and unit is units[-1]):
            keys.add(pa.concat_tables(waiting).cast(keys.schema))
            waiting = []
        if record != unit:
            raise GalleryDamagedError(f"unit {unit.unit_id}: its file is not what the record says")


def _add_paths(keys: ByPath, root: Path, units: Sequence[UnitRecord]) -> None:
    """Adds the source paths of the units' rows."""
    files: list[GalleryPlace] = [root / unit.path for unit in units if unit.path]
    for start in range(0, len(files), _FILES_AT_ONCE):
        some = files[start : start + _FILES_AT_ONCE]
        keys.add(dataset(some, keys.schema, ds.ParquetFileFormat()).to_table())


def _rejects_of(
    root: GalleryPlace, units: Sequence[UnitRecord], others: pa.Table | None
) -> pa.Table:
    """The rejects of the units and those that reached no unit."""
    paths = [root / unit.rejects_path for unit in units if unit.rejects_path]
    tables = [
        as_rejects(pq.read_table(pa.BufferReader(data)))
        for data in ask_many(checksums.read_recorded, paths, root)
    ]
    tables.append(REJECT_SCHEMA.empty_table() if others is None else as_rejects(others))
    return pa.concat_tables(tables)
