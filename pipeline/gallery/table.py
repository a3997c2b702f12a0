"""A gallery: one version of a table of features, and the commits that make the next.

`Gallery` is a value: it never changes, and its results stay the same while others commit. A commit
checks, writes the files that it needs beside the log, and becomes visible by one entry of the log.
After a kill at any instant, the last version is still there, plus files that `find_units` finds.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.blocks import blocks
from pipeline.errors import InputError, RunError
from pipeline.gallery.features import GalleryFeatures, Runs, index_positions
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.rejects import read_rejects
from pipeline.gallery.files.schema import SCALAR_COLUMNS, check_form, feature_bytes
from pipeline.gallery.files.stored_rows import FeatureGroup, feature_groups
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget
from pipeline.gallery.found_units import FoundUnits, find_units
from pipeline.gallery.log import history
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.changes import planned_change
from pipeline.gallery.log.history import VersionInfo
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.log.removed import report_removal
from pipeline.gallery.opening import check_location, keep_or_take_lock, read_version, tidy_records
from pipeline.gallery.scalar_columns import FILES_AT_ONCE, find_rows, read_columns, read_rows

if TYPE_CHECKING:
    import pandas

    from pipeline.core.evaluation.labels import Labels
    from pipeline.gallery.log.conditions import Condition

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Gallery:
    """One version of a gallery; `open` or `create` makes it, `commit` returns the next version.

    `location` is the absolute path of its folder, since workers may have another working folder.
    """

    location: str
    snapshot: log.Snapshot
    _groups: dict[int, Sequence[FeatureGroup]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def create(
        cls,
        location: str,
        *,
        recipe_json: str,
        fingerprint: str,
        dimension: int,
        dtype: str = "float32",
        source: str,
        layout: str,
        precision: str = "float32",
        derived: Mapping[str, str | int | float] | None = None,
        lock: Lock | None = None,
    ) -> "Gallery":
        """Make an empty gallery, version 0, in a new or empty folder.

        `precision` is the network's arithmetic; `derived` describes the parent of a derived gallery
        (location, version, parameters). Raise `InputError` if the folder holds anything else.
        """
        root = root_of(location)
        check_form(dimension, dtype)
        if lock is not None:  # else it is checked when the lock is taken
            check_location(location)
        if log.is_log(root):
            raise InputError(f"{root}: there is a gallery already")
        properties = {
            "recipe": recipe_json,
            "fingerprint": fingerprint,
            "dimension": str(dimension),
            "dtype": dtype,
            "source": source,
            "layout": layout,
            "precision": precision,
            "derived": json.dumps(dict(derived or {}), sort_keys=True),
        }
        with keep_or_take_lock(location, lock, "create"):
            if log.is_log(root):
                raise InputError(f"{root}: there is a gallery already")
            log.create_log(root, properties)
        return cls.open(location)

    @classmethod
    def open(
        cls, location: str, version: int | None = None, at: datetime | None = None
    ) -> "Gallery":
        """The gallery at a version, or at a time (with its zone); the latest by default.

        Raise `InputError` for a folder that is not a gallery, a version that does not exist or was
        removed, or another format, and `GalleryDamagedError` naming a log entry or a checkpoint
        that has changed since it was written.
        """
        root = root_of(location)
        if at is not None:
            if version is not None:
                raise InputError("give a version or a time, not both")
            version = history.version_at(root, at)
        snapshot = read_version(root, version)
        return cls(str(root), snapshot)

    @property
    def version(self) -> int:
        """The number of this version; the empty gallery is 0."""
        return self.snapshot.version

    @property
    def properties(self) -> Mapping[str, str]:
        """The arguments of `create`."""
        return self.snapshot.properties

    @property
    def dimension(self) -> int:
        """Numbers in a feature."""
        return int(self.properties["dimension"])

    @property
    def dtype(self) -> str:
        """How features are stored: float32 or float16."""
        return self.properties["dtype"]

    @property
    def recipe_json(self) -> str:
        """The recipe as its JSON text."""
        return self.properties["recipe"]

    @property
    def fingerprint(self) -> str:
        """The recipe's fingerprint."""
        return self.properties["fingerprint"]

    @property
    def count(self) -> int:
        """Rows of this version."""
        return sum(file.rows for file in self.snapshot.files)

    @property
    def next_row_id(self) -> int:
        """The first row id that no unit has had; ids of removed rows are not reused."""
        return self.snapshot.next_row_id

    @property
    def target(self) -> UnitTarget:
        """The place and form in which workers write units of this gallery."""
        return UnitTarget(self.location, self.fingerprint, self.dimension, self.dtype)

    def rows(self, columns: Sequence[str] = SCALAR_COLUMNS) -> pa.Table:
        """The scalar columns `[N]` in row-id order; the table's metadata names the location and
        version.

        Raise `InputError` for a column that is not there (`feature` is read by `features`), and,
        like every method that reads, `RunError` if a purge or a clean has removed this version.
        """
        unknown = [name for name in columns if name not in SCALAR_COLUMNS]
        if unknown:
            raise InputError(
                f"there is no column {unknown[0]!r} to read here: choose of "
                f"{', '.join(SCALAR_COLUMNS)}"
            )
        with self._report_removal():
            table = read_columns(self._root, self.snapshot.files, ["row_id", *columns])
        ids = table["row_id"].to_numpy()
        if (ids[1:] <= ids[:-1]).any():
            table = table.take(pa.array(np.argsort(ids, kind="stable")))
        about = {"location": self.location, "version": str(self.version)}
        return table.select(list(columns)).replace_schema_metadata(about)

    def row_parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the scalar columns, unordered, several files at a time: for more rows than memory
        holds.
        """
        files = self.snapshot.files
        for start in range(0, len(files), FILES_AT_ONCE):
            with self._report_removal():
                table = read_columns(self._root, files[start : start + FILES_AT_ONCE], columns)
            yield table.select(list(columns))

    def row_ids(self) -> np.ndarray:
        """Row ids int64 `[N]`, ascending: the id of each position."""
        return self.rows(["row_id"])["row_id"].to_numpy()

    def features(self) -> GalleryFeatures:
        """The features by position in row-id order."""
        files = self.snapshot.files
        return GalleryFeatures(
            self.location,
            self.version,
            self.dimension,
            self.dtype,
            tuple(file.path for file in files),
            self._runs,
            self._groups,
        )

    def array(self) -> np.ndarray:
        """All features as one array, float32 `[N, D]`, by position in row-id order."""
        return self.features().read(0, self.count)

    def blocks(self, rows: int = 65_536) -> Iterator[np.ndarray]:
        """Yield the features in order, float32 `[n, D]`, at most `rows` at a time."""
        features = self.features()
        for start, stop in blocks(self.count, rows):
            yield features.read(start, stop)

    def labels(self, *others: "Gallery") -> "Labels":
        """Identity and camera of each row, as the metrics take them.

        Cameras are numbered by name over this gallery and the `others`, so the numbers of
        `query.labels(gallery)` and `gallery.labels(query)` agree. Rows of unknown identity are
        distractors.
        """
        from pipeline.gallery.labels import labels_of  # imported here: only labels need the metrics

        return labels_of([each.rows(["identity", "camera"]) for each in (self, *others)])[0]

    def frame(self) -> "pandas.DataFrame":
        """The rows as a pandas data frame, by row id, with a column `feature` of float32 arrays."""
        frame = self.rows().to_pandas()
        frame["feature"] = list(self.array())
        return frame.set_index("row_id")

    def rejects(self) -> pa.Table:
        """The inputs that did not become rows, by path, in `REJECT_SCHEMA`."""
        with self._report_removal():
            return read_rejects(self._root, self.snapshot.rejects)

    def select(self, where: str) -> np.ndarray:
        """Ids int64 `[n]`, ascending, of the rows for which an SQL condition on the columns holds.

        Raise `InputError` for a condition that `conditions.parse` refuses, or that cannot be
        evaluated.
        """
        from pipeline.gallery.log import conditions

        return self._ids_of(conditions.parse(where))

    def _ids_of(self, condition: "Condition") -> np.ndarray:
        with self._report_removal():
            parts = find_rows(self._root, self.snapshot, condition, ["row_id"])
            found = [part.table["row_id"].to_numpy() for part in parts]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))

    def select_positions(self, condition: "Condition") -> np.ndarray:
        """Positions int64 `[n]`, ascending, of the rows for which a condition holds (see `select`).

        Files that cannot hold such a row, by the statistics in the log, are not read; if the row
        ids of files interleave, their row ids are.
        """
        width, found = feature_bytes(self.dimension, self.dtype), [np.zeros(0, np.int64)]
        with self._report_removal():
            for part in find_rows(self._root, self.snapshot, condition):
                for number, footer in part.footers.items():
                    if (groups := feature_groups(footer, width)) is not None:
                        self._groups[number] = groups
                found.append(self._runs.positions_of(part.files, part.rows))
        return np.sort(np.concatenate(found))

    def rows_at(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """The scalar columns of the rows at positions int64 `[n]`, in their order; files without
        any of them are not read.
        """
        places = self._runs.by_file(np.asarray(positions, np.int64))
        with self._report_removal():
            table = read_rows(self._root, self.snapshot.files, places, columns)
        return table.select(list(columns))

    def history(self) -> list[VersionInfo]:
        """The versions up to this one, oldest first."""
        return history.versions(self._root, self.version)

    def find_units(self) -> FoundUnits:
        """Units that earlier runs finished and did not commit; changes nothing."""
        return find_units(self.target, self.next_row_id)

    def clear(self, useless: FoundUnits, lock: Lock | None = None) -> None:
        """Delete the files that `find_units` found, except units that the caller removed from them
        to continue; log each damaged file.

        Call it before workers write, because it would also delete their unfinished files.
        """
        units = [name for unit in useless.units for name in (unit.path, unit.rejects_path) if name]
        with keep_or_take_lock(self.location, lock, "clear"):
            for _, reason in useless.damaged:
                _log.warning("%s: deleted, its images are done again", reason)
            storage.delete_files(path for path, _ in useless.damaged)
            storage.delete_files(useless.orphans)
            storage.delete_files(self._root / name for name in units)
            tidy_records(self._root, self.snapshot)

    def commit(
        self,
        units: Iterable[UnitRecord],
        *,
        run_id: str,
        removes: Iterable[int] | np.ndarray = (),
        rejects: pa.Table | None = None,
        forget: Iterable[str] = (),
        paths: pa.ChunkedArray | None = None,
        lock: Lock | None = None,
    ) -> "Gallery":
        """The next version, in one commit: adds these units, and removes the rows `removes` (ids).

        A path is the key: new rows and new rejects replace older rows and rejects of the same path.
        `rejects` are inputs that reached no unit; `forget` are paths whose rejects are no longer
        wanted. `paths` are those of the units' members, in any order, if the caller knows them: the
        files are then not opened for them. Without a change, or if this run id has a commit
        already, nothing is committed: the result is the latest version.

        Raise `RunError` if another commit came after this version or the lock was lost,
        `InputError` for units of another recipe, row ids given before, a path twice, or rows that
        are not there, `GalleryDamagedError` for a unit's file that is not what its record says.
        """
        units = sorted(units, key=lambda unit: unit.first_row_id)
        with keep_or_take_lock(self.location, lock, run_id) as held:
            done = self._committed_before(run_id, units)
            if done is not None:
                return done
            self.check_latest()
            change = planned_change(
                self.target, self.snapshot, units, run_id, _as_ids(removes), rejects, forget, paths
            )
            if change is None:
                return self
            after = self.apply(change, held)
            storage.delete_files(
                self._root / unit.rejects_path for unit in units if unit.rejects_path
            )
            return after

    def apply(self, change: log.Change, lock: Lock) -> "Gallery":
        """The next version, by a change that is ready: its files are on the disk.

        `commit` makes such a change from units; compaction and restoring make their own. Raise
        `RunError` if another commit came after this version or the lock was lost.
        """
        with keep_or_take_lock(self.location, lock, change.run_id) as held:
            storage.sync_folder(self._root)
            held.check()
            version = log.append(self._root, self.version, change)
            after = Gallery.open(self.location, version)
            tidy_records(after._root, after.snapshot)
            return after

    def check_latest(self) -> None:
        """Raise `RunError` if another commit came after this version."""
        latest = log.read_log(self._root).version
        if latest != self.version:
            raise RunError(
                f"{self._root}: version {latest} came after version {self.version}; "
                "nothing was committed or deleted, run the command again"
            )

    @property
    def _root(self) -> GalleryPlace:
        return root_of(self.location)

    @cached_property
    def _runs(self) -> Runs:
        with self._report_removal():
            return index_positions(self._root, self.snapshot.files)

    def _report_removal(self) -> AbstractContextManager[None]:
        """Report reads of files that were removed since this version was opened as such."""
        return report_removal(self._root, self.version)

    def _committed_before(self, run_id: str, units: Sequence[UnitRecord]) -> "Gallery | None":
        """The latest version if this run has already committed."""
        if log.run_version(self._root, run_id) is None:
            return None
        latest = Gallery.open(self.location)
        if any(unit.end_row_id > latest.next_row_id for unit in units):
            raise InputError(f"run {run_id} was committed already, without some of these units")
        return latest


def _as_ids(row_ids: Iterable[int] | np.ndarray) -> np.ndarray:
    if not isinstance(row_ids, np.ndarray):
        row_ids = np.array(list(row_ids), dtype=np.int64)
    return row_ids.astype(np.int64, casting="safe")
