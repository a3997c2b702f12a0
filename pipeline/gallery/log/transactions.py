"""The Delta transaction log of a gallery: versions are read and committed by `deltalake`.

Three numbers are stored in the log as application transactions, which are part of a version's state
and outlive checkpoints and log cleanup: the next row id, the number of the rejects, and one mark
per run. Since every commit writes the first, two concurrent commits always conflict.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, PostCommitHookProperties, RemoveAction

from pipeline.errors import InputError, RunError
from pipeline.gallery import chain
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    GalleryPlace,
    ObjectPlace,
    known_size,
    parquet,
    read_each,
    reason_of,
)
from pipeline.gallery.files.schema import SCALAR_FIELDS, STATISTICS_COLUMNS
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.entries import (
    LogFiles,
    LoggedFile,
    check_whole,
    write_checkpoint,
)
from pipeline.gallery.log.ranges import Ranges
from pipeline.gallery.log.removed import read_steadily
from pipeline.gallery.log.table_form import FORMAT, PREFIX, properties_of

_log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL = 100
_NEXT_ROW_ID = "regallery.next_row_id"
_REJECTS = "regallery.rejects"
_RUN = "regallery.run."
_OF_FILE = ["path", "size_bytes", "num_records", "min.row_id", "max.row_id"]
_LARGE_ENTRY = 4 * 2**20
"""An entry of more bytes is followed by a checkpoint, which is opened in a tenth of the time."""
_IN_LOG = re.compile(r".*\.json|.*\.checkpoint.*\.parquet")
_TOKEN = "commit"
"""Mark an entry in an object store as that of one call of `append`."""
_BY_HAND = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class RowFile:
    """A live Parquet file: its name in the gallery's folder, its bytes, its rows, and the range of
    its row ids.
    """

    path: str
    bytes: int
    rows: int
    min_row_id: int
    max_row_id: int


@dataclass(frozen=True)
class Snapshot:
    """One version of the log."""

    version: int
    properties: Mapping[str, str]
    files: tuple[RowFile, ...]
    next_row_id: int
    rejects: int
    ranges: Ranges = field(compare=False, repr=False)
    """What the log tells of the rows of each file."""


@dataclass(frozen=True)
class Change:
    """The contents of one commit, and the numbers that hold after it."""

    run_id: str
    added: Sequence[LoggedFile]
    removed: Sequence[RowFile]
    next_row_id: int
    rejects: int
    summary: Mapping[str, int]


def is_log(root: GalleryPlace) -> bool:
    """Whether a folder holds a Delta table."""
    folder = root / storage.LOG_FOLDER
    if isinstance(folder, ObjectPlace):
        return any(_IN_LOG.fullmatch(each.name) for each in folder.iterdir())
    return any(folder.glob("*.json")) or any(folder.glob("*.checkpoint*.parquet"))


def check_folder_name(root: GalleryPlace) -> None:
    """Raise `InputError` for a folder whose name `deltalake` would change, or cannot handle."""
    if isinstance(root, ObjectPlace):  # whose URL was checked
        return
    if re.search("%[0-9A-Fa-f]{2}", str(root)):
        raise InputError(f"{root}: a gallery's folder has no % with two digits in its name")
    if re.search("[\x00-\x1f\x7f\\\\\ud800-\udfff]", str(root)):
        raise InputError(
            f"{root}: the path of a gallery's folder holds a control character, a backslash, or"
            " bytes that are no UTF-8: rename the folder, or give another one"
        )


def create_log(root: GalleryPlace, properties: Mapping[str, str]) -> None:
    """Make version 0: no rows; the properties are stored under `PREFIX`."""
    configuration = {f"{PREFIX}{name}": value for name, value in properties.items()}
    configuration[f"{PREFIX}format"] = str(FORMAT)
    chain.write_first_record(root)
    about: dict[str, Any] = chain.link_after(root, -1)
    if isinstance(root, ObjectPlace):
        about[_TOKEN] = uuid.uuid4().hex
    configuration["delta.dataSkippingStatsColumns"] = ",".join(STATISTICS_COLUMNS)
    try:
        DeltaTable.create(
            str(root),
            _delta_schema(),
            mode="error",
            configuration=configuration,
            raise_if_key_not_exists=False,
            commit_properties=CommitProperties(
                custom_metadata={chain.ABOUT: about},
                app_transactions=[Transaction(_NEXT_ROW_ID, 0), Transaction(_REJECTS, 0)],
            ),
            post_commithook_properties=_BY_HAND,
        )
    except (DeltaError, OSError) as error:
        if not _is_committed(root, 0, about):
            raise RunError(
                f"{root / storage.LOG_FOLDER}: the log cannot be written ({_first_line(error)});"
                " run the command again"
            ) from error
    _sync_log(root, 0)
    chain.note_entry(root, 0)


def read_log(root: GalleryPlace, version: int | None = None) -> Snapshot:
    """A version of the log, the latest by default; raise what `Gallery.open` raises."""
    return read_steadily(lambda: _read(root, version))


def _read(root: GalleryPlace, version: int | None) -> Snapshot:
    table = _open(root, version)
    properties = properties_of(root, table)
    next_row_id, rejects = (
        table.transaction_version(_NEXT_ROW_ID),
        table.transaction_version(_REJECTS),
    )
    if next_row_id is None or rejects is None:
        raise GalleryDamagedError(f"{root}: the log has lost the gallery's next row id")
    files, ranges = _files(root, table)
    beyond = max((file.max_row_id + 1 for file in files), default=0)  # given by another tool
    next_row_id = max(next_row_id, beyond)
    return Snapshot(table.version(), properties, files, next_row_id, rejects, ranges)


def append(root: GalleryPlace, version: int, change: Change) -> int:
    """Commit a change on top of `version`, wait until it is on the disk, and return the new
    version.

    Raise `RunError` if another commit came first: the change was planned for a version that is no
    longer the latest.
    """
    table = _open(root, version)
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(file.path, file.bytes, {}, now, True, file.logged_statistics)
        for file in change.added
    ]
    actions += [RemoveAction(file.path, True, now, file.bytes, {}) for file in change.removed]
    marks = {
        _NEXT_ROW_ID: change.next_row_id,
        _REJECTS: change.rejects,
        f"{_RUN}{change.run_id}": version + 1,
    }
    about = {"run_id": change.run_id, **change.summary, **chain.link_after(root, version)}
    if isinstance(root, ObjectPlace):
        about[_TOKEN] = uuid.uuid4().hex
    try:
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            commit_properties=CommitProperties(
                custom_metadata={chain.ABOUT: about},
                max_commit_retries=0,
                app_transactions=[Transaction(name, value) for name, value in marks.items()],
            ),
            post_commithook_properties=_BY_HAND,
        )
    except (DeltaError, OSError) as error:
        if not _is_committed(root, version + 1, about):
            raise RunError(f"{root}: {_why_not(root, version, error)}") from error
    _sync_log(root, version + 1)
    _tend(root, version + 1)
    return version + 1


def _is_committed(root: GalleryPlace, version: int, about: Mapping[str, Any]) -> bool:
    """Whether an entry in an object store is ours although its commit failed.

    This happens if the answer to the request that wrote it was lost.
    """
    if not isinstance(root, ObjectPlace):
        return False
    (data,) = read_each([root / storage.LOG_FOLDER / f"{version:020d}.json"])
    return data is not None and f'"{_TOKEN}":"{about[_TOKEN]}"'.encode() in data


def _tend(root: GalleryPlace, version: int) -> None:
    """Record a committed entry and make a checkpoint if one is due.

    If that fails, the next commit does it.
    """
    try:
        chain.note_entry(root, version)
    except RunError as error:
        _log.warning("%s: the last entry of the log has no checksum yet (%s)", root, error)
        return
    is_due = (
        version % CHECKPOINT_INTERVAL == 0 or chain.read_log_record(root).being_made is not None
    )
    if is_due or known_size(root / storage.LOG_FOLDER / f"{version:020d}.json") >= _LARGE_ENTRY:
        try:
            write_checkpoint(root, version)
        except (DeltaError, OSError, RunError) as error:
            _log.warning("%s: the log has no new checkpoint (%s)", root, _first_line(error))


def first_unassigned_row_id(root: GalleryPlace, version: int) -> int:
    """The first row id that no commit of ours has assigned; another tool's row may have a higher
    one.
    """
    given = read_steadily(lambda: _open(root, version).transaction_version(_NEXT_ROW_ID))
    return int(given or 0)


def run_version(root: GalleryPlace, run_id: str) -> int | None:
    """The version that a run committed, or None."""
    return read_steadily(lambda: _open(root, None).transaction_version(f"{_RUN}{run_id}"))


def history(root: GalleryPlace, version: int) -> list[dict[str, Any]]:
    """What the log says about each version up to this one, oldest first."""
    # The history of an old version has wrong numbers for all commits: use that of the latest.
    entries = read_steadily(lambda: _open(root, None).history())
    return [entry for entry in entries[::-1] if entry["version"] <= version]


def _delta_schema() -> Schema:
    """Delta has no fixed-size binary: the log says `binary`, the files have the fixed size."""
    fields = [
        pa.field(field.name, pa.binary(), nullable=field.nullable)
        if pa.types.is_fixed_size_binary(field.type)
        else field
        for field in SCALAR_FIELDS
    ]
    return Schema.from_arrow(pa.schema([*fields, pa.field("feature", pa.binary(), nullable=False)]))


def _open(root: GalleryPlace, version: int | None) -> DeltaTable:
    check_folder_name(root)
    if isinstance(root, Path) and not root.exists():
        raise InputError(f"{root}: the folder does not exist; `regallery extract` makes a gallery")
    files = LogFiles.of(root)
    if not (files.entries or files.checkpoints or is_log(root)):
        raise InputError(f"{root}: this folder is not a gallery (it has no {storage.LOG_FOLDER})")
    check_whole(root, files)
    if version is not None and version < 0:
        raise InputError(f"{root}: version {version} does not exist: versions count from 0")
    oldest = files.oldest_version
    if version is not None and version < oldest:
        raise InputError(f"{root}: version {version} was removed; the oldest left is {oldest}")
    try:
        return DeltaTable(str(root), version=version)
    except TableNotFoundError as error:
        raise GalleryDamagedError(f"{root / storage.LOG_FOLDER}: {_first_line(error)}") from error
    except DeltaError as error:
        latest = DeltaTable(str(root)).version() if version is not None else None
        if latest is not None and version is not None and version > latest:
            raise InputError(
                f"{root}: version {version} does not exist: the latest is {latest}"
            ) from error
        raise GalleryDamagedError(f"{root / storage.LOG_FOLDER}: {_first_line(error)}") from error


def _why_not(root: GalleryPlace, version: int, error: DeltaError | OSError) -> str:
    """Why a commit on top of `version` failed, and how to go on."""
    if isinstance(error, CommitFailedError) and DeltaTable(str(root)).version() > version:
        reason = f"another commit came after version {version}"
    else:
        reason = f"the commit failed ({_first_line(error)})"
    return f"{reason}; nothing was committed and finished units are kept: run the command again"


def _files(root: GalleryPlace, table: DeltaTable) -> tuple[tuple[RowFile, ...], Ranges]:
    """The live files, by their smallest row id, and what the log tells of their rows."""
    actions = pa.table(table.get_add_actions(flatten=True))
    about = actions.select(_OF_FILE).to_pydict()
    files = []
    for index, path in enumerate(about["path"]):
        low, high = about["min.row_id"][index], about["max.row_id"][index]
        rows = about["num_records"][index]
        if rows is None or low is None or high is None:
            rows, low, high = _count(root / path)
        if rows:
            files.append((RowFile(path, about["size_bytes"][index], rows, low, high), index))
    files.sort(key=lambda each: (each[0].min_row_id, each[0].path))
    return tuple(file for file, _ in files), Ranges.of(actions, [index for _, index in files])


def _count(path: GalleryPlace) -> tuple[int, int, int]:
    """Rows and row ids of a file that another tool wrote without statistics."""
    try:
        ids = pq.read_table(parquet(path), columns=["row_id"])["row_id"].to_numpy()
    except (OSError, pa.ArrowInvalid) as error:
        raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error
    return (len(ids), int(ids.min()), int(ids.max())) if len(ids) else (0, 0, 0)


def _sync_log(root: GalleryPlace, version: int) -> None:
    folder = root / storage.LOG_FOLDER
    storage.sync_file(folder / f"{version:020d}.json")
    storage.sync_folder(folder)
    storage.sync_folder(root)


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return reason_of(error) if "://" in text else text
