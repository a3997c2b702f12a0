"""The versions of a gallery: when and by which run each was committed, and what it changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery.files.places import GalleryPlace, parquet
from pipeline.gallery.files.rejects import read_rejects
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.log.transactions import RowFile


@dataclass(frozen=True)
class VersionInfo:
    """One version: its time, its run (None: another tool), and what it changed."""

    version: int
    timestamp: datetime
    operation: str
    run_id: str | None
    rows_added: int
    rows_removed: int
    reject_count: int


def versions(root: GalleryPlace, version: int) -> list[VersionInfo]:
    """The versions that can still be read, up to this one, oldest first."""
    return [_version_info(root, entry) for entry in log.history(root, version)]


def version_at(root: GalleryPlace, at: datetime) -> int:
    """The version that was the latest at a time; raise `InputError` if none is that old."""
    known = versions(root, log.read_log(root).version)
    then = [each.version for each in known if each.timestamp <= at]
    if not then:
        raise InputError(
            f"{root}: no version is as old as {at.isoformat()}; the oldest left is version "
            f"{known[0].version} of {known[0].timestamp.isoformat(timespec='seconds')}"
        )
    return then[-1]


def _version_info(root: GalleryPlace, entry: Mapping[str, object]) -> VersionInfo:
    version, about = int(str(entry["version"])), entry.get("regallery")
    if not isinstance(about, dict):
        about = _of_another_tool(root, version)
    return VersionInfo(
        version=version,
        timestamp=datetime.fromtimestamp(int(str(entry["timestamp"])) / 1000, UTC),
        operation=str(entry.get("operation", "")),
        run_id=about.get("run_id"),
        rows_added=about.get("rows_added", 0),
        rows_removed=about.get("rows_removed", 0),
        reject_count=about.get("rejects", 0),
    )


def _of_another_tool(root: GalleryPlace, version: int) -> dict[str, Any]:
    """The changes of a commit of another tool, whose entry does not have our counts.

    These are the numbers of row ids that it added and removed, and of rejects.
    """
    if version <= oldest_version(root):
        return {}
    try:
        before, after = log.read_log(root, version - 1), log.read_log(root, version)
    except InputError:  # of a version that cannot be read here, only its entry is known
        return {}
    there, here = set(before.files), set(after.files)
    try:
        left, came = _row_ids(root, there - here), _row_ids(root, here - there)
        added, removed = len(np.setdiff1d(came, left)), len(np.setdiff1d(left, came))
    except (OSError, pa.ArrowException):  # perhaps a deleted file of an older version
        change = sum(file.rows for file in here) - sum(file.rows for file in there)
        added, removed = max(change, 0), max(-change, 0)
    try:
        rejects = read_rejects(root, after.rejects).num_rows
    except GalleryDamagedError:  # reading that version reports it
        rejects = 0
    return {"rows_added": added, "rows_removed": removed, "rejects": rejects}


def _row_ids(root: GalleryPlace, files: Iterable[RowFile]) -> np.ndarray:
    ids = [pq.read_table(parquet(root / each.path), columns=["row_id"])["row_id"] for each in files]
    return np.concatenate([np.empty(0, np.int64), *(column.to_numpy() for column in ids)])
