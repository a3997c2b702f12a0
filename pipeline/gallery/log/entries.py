"""Read the files of the Delta log directly: things that `deltalake` hides, and entries that leave
the log.

An entry has a JSON line per action; a checkpoint is a Parquet file of the actions that still count.
Both store the text of a file's statistics unchanged, so the file's checksum is stored among them.
"""

import fnmatch
import json
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline.errors import RunError
from pipeline.gallery import chain
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    GalleryPlace,
    ask_many,
    in_order,
    known_size,
    last_bytes,
    parquet,
)
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.input_files import parse_json, why

_CHECKSUM = "regallery.sha256"
_PARQUET_END = b"PAR1"
_NUMBER = re.compile(r"\d{20}")


@dataclass(frozen=True)
class LoggedFile:
    """A Parquet file as described in the log: its name in the gallery's folder, its bytes,
    statistics (JSON), and SHA-256 (None if another tool wrote it).
    """

    path: str
    bytes: int
    statistics: str
    sha256: str | None

    @property
    def logged_statistics(self) -> str:
        """The statistics with the checksum among them, as an entry holds them."""
        return json.dumps({**parse_json(self.statistics), _CHECKSUM: self.sha256})


def logged_files(root: GalleryPlace, without: Container[str] = ()) -> dict[str, LoggedFile]:
    """Every file that any version still in the log names, by path.

    Entries and checkpoints with the names `without` are skipped. Raise `GalleryDamagedError` naming
    an entry or a checkpoint that cannot be read.
    """
    found = {}
    for action in _additions(root / storage.LOG_FOLDER, without):
        about = parse_json(action["stats"] or "{}")
        sha256 = about.pop(_CHECKSUM, None)
        path = action["path"]
        found[path] = LoggedFile(path, action["size"], json.dumps(about), sha256)
    return found


@dataclass(frozen=True)
class LogFiles:
    """The entries and the checkpoints of a log, each by version, from one listing."""

    entries: tuple[GalleryPlace, ...]
    checkpoints: tuple[GalleryPlace, ...]

    @classmethod
    def of(cls, root: GalleryPlace) -> "LogFiles":
        """Those of the log of a gallery's folder."""
        return cls.among((root / storage.LOG_FOLDER).glob("*"))

    @classmethod
    def among(cls, paths: Iterable[GalleryPlace]) -> "LogFiles":
        """Those among the files of a log's folder."""
        found = [path for path in in_order(paths) if _is_numbered(path)]
        return cls(
            tuple(path for path in found if _is_entry_name(path)),
            tuple(path for path in found if _is_checkpoint_name(path)),
        )

    @property
    def oldest_version(self) -> int:
        """As the function of this name says."""
        if any(_version_of(path) == 0 for path in self.entries):
            return 0
        return min((_version_of(path) for path in self.checkpoints), default=0)


def check_whole(root: GalleryPlace, files: LogFiles) -> None:
    """Raise `GalleryDamagedError` if an entry or a checkpoint of the log is empty, or the last
    entry or a checkpoint is not whole.

    `deltalake` reads an empty entry as a version without changes: rows would disappear silently.
    """
    folder = root / storage.LOG_FOLDER
    entries, checkpoints = files.entries, files.checkpoints
    for path in entries:
        if _size(path) == 0:
            raise _cut_short(path)
    covered = {_version_of(path) for path in checkpoints}
    if (
        entries
        and _version_of(entries[-1]) not in covered
        and not _is_entry(entries[-1].read_bytes())
    ):
        raise _cut_short(entries[-1])
    for path in checkpoints:
        if not _has_footer(path):
            is_needed = path == checkpoints[0] and entries[:1] != (folder / f"{0:020d}.json",)
            raise _checkpoint_cut_short(path, is_needed=is_needed)


def oldest_version(root: GalleryPlace) -> int:
    """The first version that can still be read from the log: 0, or that of its first checkpoint."""
    folder = root / storage.LOG_FOLDER
    if (folder / f"{0:020d}.json").is_file():
        return 0
    return LogFiles.of(root).oldest_version


def write_checkpoint(root: GalleryPlace, version: int) -> None:
    """Write a summary of the log up to a version, so that opening a gallery need not read every
    entry.

    Also make one that an earlier run left unfinished. Raise `RunError` if it cannot be written.
    """
    unfinished = chain.read_log_record(root).being_made
    for each in sorted({version} | ({unfinished} if unfinished is not None else set())):
        chain.expect_checkpoint(root, each)
        _make_checkpoint(root, each)
        chain.note_checkpoint(root, each)


def _make_checkpoint(root: GalleryPlace, version: int) -> None:
    folder = root / storage.LOG_FOLDER
    try:
        DeltaTable(str(root), version=version).create_checkpoint()
        parts = folder.glob(f"{version:020d}.checkpoint*.parquet")
        for path in (*parts, folder / "_last_checkpoint"):
            storage.sync_file(path)
        storage.sync_folder(folder)
    except (DeltaError, OSError) as error:
        raise RunError(
            f"{folder}: the checkpoint of version {version} cannot be written ({why(error)}): make"
            " room, and run the same command again"
        ) from error


def forget_before(root: GalleryPlace, version: int) -> None:
    """Remove the versions before this one from the log.

    The version itself becomes a checkpoint first. After a kill before the end, the next call
    removes the rest.
    """
    folder, files = root / storage.LOG_FOLDER, LogFiles.of(root)
    old = [path for path in (*files.entries, *files.checkpoints) if _version_of(path) < version]
    if not old:
        return
    write_checkpoint(root, version)
    chain.note_oldest(root, version)
    storage.delete_files(in_order(old))
    storage.sync_folder(folder)


def drop_cut_off_entries(root: GalleryPlace) -> None:
    """Delete the remains of killed writers in the log's folder. The caller holds the lock.

    These are half-written entries and checkpoints, and entries of versions that were given up.
    """
    there: list[GalleryPlace] = [*(root / storage.LOG_FOLDER).glob("*")]
    files = LogFiles.among(there)
    oldest = files.oldest_version
    storage.delete_files(filter(chain.is_half_written, there))
    storage.delete_files(
        path for path in (*files.entries, *files.checkpoints) if _version_of(path) < oldest
    )


def half_written(root: GalleryPlace) -> list[GalleryPlace]:
    """Parts of the log that were left half-written."""
    return in_order(filter(chain.is_half_written, (root / storage.LOG_FOLDER).glob("*#*")))


def _size(path: GalleryPlace) -> int | None:
    """The size of a file in bytes; None if it was deleted after the listing, together with its
    version.
    """
    try:
        return known_size(path)
    except FileNotFoundError:
        return None


def _is_entry(data: bytes) -> bool:
    try:
        lines = data.splitlines()
        told = [line for line in lines if b'"commitInfo"' in line] + lines[-1:]
        return any("commitInfo" in each for each in [parse_json(line) for line in told])
    except ValueError:
        return False


def _has_footer(path: GalleryPlace) -> bool:
    """Whether a Parquet file has its footer, or was deleted after the listing."""
    try:
        return last_bytes(path, len(_PARQUET_END)) == _PARQUET_END
    except FileNotFoundError:
        return True


def _cut_short(path: GalleryPlace) -> GalleryDamagedError:
    return GalleryDamagedError(
        f"{path}: this log entry is empty or cut short, as after a power cut before it was on "
        "the disk; "
        "delete it if it is the last one (its version was never acknowledged) and run the "
        "command again"
    )


def _checkpoint_cut_short(path: GalleryPlace, *, is_needed: bool) -> GalleryDamagedError:
    told = f"{path}: this checkpoint of the log is empty or cut short"
    if is_needed:
        return GalleryDamagedError(f"{told}, and no entry holds the same; restore it from a copy")
    return GalleryDamagedError(
        f"{told}, as after a power cut before it was on the disk; delete it and _last_checkpoint"
        " beside it: the log's entries hold the same"
    )


def _additions(folder: GalleryPlace, without: Container[str]) -> Iterator[dict[str, Any]]:
    """Yield the actions that add a file, of all checkpoints and entries, the oldest first."""
    found = LogFiles.of(folder.parent)
    files = [path for path in (*found.checkpoints, *found.entries) if path.name not in without]
    files.sort(key=lambda path: (_version_of(path), path.suffix == ".json"))
    for actions in ask_many(_actions, files, folder):
        yield from actions


def _actions(path: GalleryPlace) -> list[dict[str, Any]]:
    """The actions of a part of the log that add a file."""
    try:
        return _of_entry(path) if path.suffix == ".json" else _of_checkpoint(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise GalleryDamagedError(
            f"{path}: this part of the log cannot be read ({error})"
        ) from error


def _of_entry(path: GalleryPlace) -> list[dict[str, Any]]:
    lines = [parse_json(line) for line in path.read_bytes().splitlines()]
    return [_known(line["add"]) for line in lines if "add" in line]


def _of_checkpoint(path: GalleryPlace) -> list[dict[str, Any]]:
    column = pq.read_table(parquet(path), columns=["add"])["add"]
    return [_known(action) for action in column.to_pylist() if action is not None]


def _known(action: dict[str, Any]) -> dict[str, Any]:
    return {"path": action["path"], "size": action["size"], "stats": action.get("stats")}


def _is_entry_name(path: GalleryPlace) -> bool:
    """Whether a name is that of an entry; `verify` reports other names."""
    return fnmatch.fnmatchcase(path.name, "*.json")


def _is_checkpoint_name(path: GalleryPlace) -> bool:
    return fnmatch.fnmatchcase(path.name, "*.checkpoint*.parquet")


def _is_numbered(path: GalleryPlace) -> bool:
    return _NUMBER.fullmatch(path.name.partition(".")[0]) is not None


def _version_of(path: GalleryPlace) -> int:
    return int(path.name.partition(".")[0])
