"""The chain of log entries: each has the SHA-256 of the one before it, and a record has that of the
last.

The record also names the oldest entry that is kept, and has the checksums of checkpoints and of
`_last_checkpoint`, which `deltalake` writes. It is written after a commit: after a kill between the
two, the last entry still names its predecessor, and the next commit continues from there. The
record names a checkpoint before it is made, so that a half-written one does not count as damage.

An entry that names no predecessor is a commit of another tool. The next entry of ours covers it.
Until then, a checkpoint of another tool has no checksum either; its own `_last_checkpoint` has its
size. Entries before it may be gone, since such tools delete old log entries.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, Tag, read_each
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.seals import seal, unseal

_VERSION = "version"
_PREVIOUS = "previous"
ABOUT = "regallery"
LAST_CHECKPOINT = "_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.json")
_HALF = re.compile(r"(\d{20}[a-z.]+|_last_checkpoint)#\d+")
_BEFORE_ALL = ""


@dataclass(frozen=True)
class Record:
    """The record beside the log: our last entry and its SHA-256, the oldest entry that is kept, the
    checkpoints by name, and the checkpoint that is being made.
    """

    newest: int = -1
    sha256: str = _BEFORE_ALL
    oldest: int = 0
    checkpoints: dict[str, str] = field(default_factory=dict)
    last_checkpoint: str | None = None
    being_made: int | None = None


def write_first_record(root: GalleryPlace) -> None:
    """Write the record of a log that has no entry yet."""
    path = record_file(root)
    storage.make_folder(path.parent)
    storage.write_whole(path, lambda half: half.write_bytes(seal(asdict(Record()))))


def link_after(root: GalleryPlace, version: int) -> dict[str, Any]:
    """The fields about its predecessor in the entry after a version; the first entry is after
    -1.
    """
    previous = digest_of(entry_file(root, version)) if version >= 0 else _BEFORE_ALL
    return {_VERSION: version + 1, _PREVIOUS: previous}


def note_entry(root: GalleryPlace, version: int) -> None:
    """Record the entry that was committed, and a checkpoint of another tool before it."""

    def noted(record: Record) -> Record:
        if isinstance(root, ObjectPlace) and version < record.newest:
            return record  # the lock was lost, and another writer has gone on
        record = with_others_checkpoint(root, record)
        kept = {
            name: t for name, t in record.checkpoints.items() if (log_folder(root) / name).exists()
        }
        last = record.last_checkpoint if (log_folder(root) / LAST_CHECKPOINT).is_file() else None
        digest = digest_of(entry_file(root, version)) or _BEFORE_ALL
        return replace(
            record, newest=version, sha256=digest, checkpoints=kept, last_checkpoint=last
        )

    _update(root, noted)


def expect_checkpoint(root: GalleryPlace, version: int) -> None:
    """Record which checkpoint is being made."""
    _update(root, lambda each: replace(with_others_checkpoint(root, each), being_made=version))


def note_checkpoint(root: GalleryPlace, version: int) -> None:
    """Record the finished checkpoint, and that no other is being made."""
    name = f"{version:020d}.checkpoint.parquet"

    def noted(record: Record) -> Record:
        made = digest_of(log_folder(root) / name)
        checkpoints = record.checkpoints | ({name: made} if made else {})
        last = digest_of(log_folder(root) / LAST_CHECKPOINT)
        return replace(record, checkpoints=checkpoints, last_checkpoint=last, being_made=None)

    _update(root, noted)


def note_oldest(root: GalleryPlace, version: int) -> None:
    """Record that entries and checkpoints before a version are no longer needed."""

    def noted(record: Record) -> Record:
        kept = {name: t for name, t in record.checkpoints.items() if int(name[:20]) >= version}
        record = replace(record, oldest=version, checkpoints=kept)
        if record.newest < version:  # our last entry is removed: the chain begins with another's
            digest = digest_of(entry_file(root, version)) or _BEFORE_ALL
            record = replace(record, newest=version, sha256=digest)
        return record

    _update(root, noted)


def is_recorded(root: GalleryPlace) -> bool:
    """Whether the log has a record; earlier formats had none."""
    return record_file(root).exists()


def read_log_record(root: GalleryPlace) -> Record:
    """Read the record; raise `GalleryDamagedError` if it is gone or changed."""
    return _read(record_file(root))[0]


def _read(path: GalleryPlace) -> tuple[Record, Tag | None]:
    """The record, and in an object store the tag of its version."""
    try:
        data, tag = path.fetch() if isinstance(path, ObjectPlace) else (path.read_bytes(), None)
        return Record(**unseal(bytes(data))), tag
    except FileNotFoundError as error:
        raise GalleryDamagedError(
            f"{path}: the record of the log's checksums is gone; restore it from a copy"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise GalleryDamagedError(
            f"{path}: the record of the log's checksums is damaged ({error}); restore it from a"
            " copy"
        ) from error


def latest(root: GalleryPlace) -> int:
    """The version of the last entry of the log; -1 if there is none."""
    return max(versions_in(root), default=-1)


def foreign_entries(root: GalleryPlace) -> list[str]:
    """The names of the log entries that another tool committed, oldest first.

    Its checkpoint comes last, if the record does not have it yet.
    """
    entries = [entry_file(root, version) for version in versions_in(root)]
    contents = zip(entries, read_each(entries), strict=True)
    found = [path.name for path, data in contents if link_of(data) is None]
    checkpoint = None
    with suppress(GalleryDamagedError):  # which the findings name
        checkpoint = _others_checkpoint(root, read_log_record(root))
    if checkpoint is not None:
        found.append(f"{checkpoint:020d}.checkpoint.parquet")
    return [name_in_log(name) for name in found]


def with_others_checkpoint(root: GalleryPlace, record: Record) -> Record:
    """The record with the checkpoint that another tool made, and without those that it deleted."""
    checkpoint = _others_checkpoint(root, record)
    if checkpoint is None:
        return record
    name, kept = f"{checkpoint:020d}.checkpoint.parquet", record.checkpoints
    kept = {
        each: digest
        for each, digest in kept.items()
        if (log_folder(root) / each).exists() or int(each[:20]) > checkpoint
    }
    first = min(
        (each for each in versions_in(root) if each >= record.oldest), default=record.oldest
    )
    oldest = max(record.oldest, min(first, checkpoint + 1))
    return replace(
        record,
        oldest=oldest,
        checkpoints={**kept, name: digest_of(log_folder(root) / name) or _BEFORE_ALL},
        last_checkpoint=digest_of(log_folder(root) / LAST_CHECKPOINT),
    )


def _others_checkpoint(root: GalleryPlace, record: Record) -> int | None:
    """The version of a checkpoint that another tool made, or None.

    It counts only if `_last_checkpoint` is not ours either and has its size. A copied checkpoint,
    which is damage, is not named there.
    """
    try:
        data = (log_folder(root) / LAST_CHECKPOINT).read_bytes()
        if hashlib.sha256(data).hexdigest() == record.last_checkpoint:
            return None
        about = json.loads(data)
        version, name = int(about["version"]), f"{int(about['version']):020d}.checkpoint.parquet"
        has_its_size = (log_folder(root) / name).stat().st_size == about["sizeInBytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_ours = name in record.checkpoints or version == record.being_made
    return version if has_its_size and not is_ours else None


def link_of(data: bytes | None) -> tuple[int, str] | None:
    """The version in an entry, and the SHA-256 of the entry before it; None for an entry of another
    tool, or for none.
    """
    try:
        for line in (data or b"").splitlines():
            if b'"commitInfo"' not in line:  # an entry may have a line for each of 100,000 files
                continue
            about = json.loads(line).get("commitInfo", {}).get(ABOUT)
            if isinstance(about, dict) and _PREVIOUS in about:
                return int(about[_VERSION]), str(about[_PREVIOUS])
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return None


def versions_in(root: GalleryPlace) -> list[int]:
    """The versions that have an entry, ascending."""
    return numbered(path.name for path in log_folder(root).iterdir())


def numbered(names: Iterable[str]) -> list[int]:
    """The versions of the entries among some names, ascending."""
    return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)


def digest_of(path: GalleryPlace) -> str | None:
    """The SHA-256 of a file of the log, in hexadecimal; None if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def is_half_written(path: GalleryPlace) -> bool:
    """Whether a file of the log is half-written: `deltalake` writes to the final name plus a
    number.
    """
    return _HALF.fullmatch(path.name) is not None


def _update(root: GalleryPlace, change: Callable[[Record], Record]) -> None:
    """Change the record; in an object store it is changed again if another writer came between."""
    path = record_file(root)
    while True:
        record, tag = _read(path)
        sealed = seal(asdict(change(record)))
        if not isinstance(path, ObjectPlace):
            storage.write_whole(path, lambda half: half.write_bytes(sealed))  # noqa: B023
            return
        if path.put_if_unchanged(sealed, tag) is not None:
            return


def record_file(root: GalleryPlace) -> GalleryPlace:
    """The file with the record."""
    return root / storage.CHECKSUMS_FOLDER / checksums.LOG_RECORD


def log_folder(root: GalleryPlace) -> GalleryPlace:
    """The folder of the log."""
    return root / storage.LOG_FOLDER


def entry_file(root: GalleryPlace, version: int) -> GalleryPlace:
    """The entry of a version."""
    return log_folder(root) / f"{version:020d}.json"


def name_in_log(name: str) -> str:
    """The name of a file of the log as seen from the gallery's folder."""
    return f"{storage.LOG_FOLDER}/{name}"
