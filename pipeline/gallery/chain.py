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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, Tag, below, in_order, read_each
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.seals import seal, unseal

_VERSION = "version"
_PREVIOUS = "previous"
ABOUT = "regallery"
LAST_CHECKPOINT = "_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_HALF = re.compile(r"(\d{20}[a-z.]+|_last_checkpoint)#\d+")
_TRIES = 5
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
    path = _record_file(root)
    storage.make_folder(path.parent)
    storage.write_whole(path, lambda half: half.write_bytes(seal(asdict(Record()))))


def link_after(root: GalleryPlace, version: int) -> dict[str, Any]:
    """The fields about its predecessor in the entry after a version; the first entry is after
    -1.
    """
    previous = _digest(_entry(root, version)) if version >= 0 else _BEFORE_ALL
    return {_VERSION: version + 1, _PREVIOUS: previous}


def note_entry(root: GalleryPlace, version: int) -> None:
    """Record the entry that was committed, and a checkpoint of another tool before it."""

    def noted(record: Record) -> Record:
        if isinstance(root, ObjectPlace) and version < record.newest:
            return record  # the lock was lost, and another writer has gone on
        record = _with_others_checkpoint(root, record)
        kept = {name: t for name, t in record.checkpoints.items() if (_log(root) / name).exists()}
        last = record.last_checkpoint if (_log(root) / LAST_CHECKPOINT).is_file() else None
        digest = _digest(_entry(root, version)) or _BEFORE_ALL
        return replace(
            record, newest=version, sha256=digest, checkpoints=kept, last_checkpoint=last
        )

    _update(root, noted)


def expect_checkpoint(root: GalleryPlace, version: int) -> None:
    """Record which checkpoint is being made."""
    _update(root, lambda each: replace(_with_others_checkpoint(root, each), being_made=version))


def note_checkpoint(root: GalleryPlace, version: int) -> None:
    """Record the finished checkpoint, and that no other is being made."""
    name = f"{version:020d}.checkpoint.parquet"

    def noted(record: Record) -> Record:
        made = _digest(_log(root) / name)
        checkpoints = record.checkpoints | ({name: made} if made else {})
        last = _digest(_log(root) / LAST_CHECKPOINT)
        return replace(record, checkpoints=checkpoints, last_checkpoint=last, being_made=None)

    _update(root, noted)


def note_oldest(root: GalleryPlace, version: int) -> None:
    """Record that entries and checkpoints before a version are no longer needed."""

    def noted(record: Record) -> Record:
        kept = {name: t for name, t in record.checkpoints.items() if int(name[:20]) >= version}
        record = replace(record, oldest=version, checkpoints=kept)
        if record.newest < version:  # our last entry is removed: the chain begins with another's
            digest = _digest(_entry(root, version)) or _BEFORE_ALL
            record = replace(record, newest=version, sha256=digest)
        return record

    _update(root, noted)


def is_recorded(root: GalleryPlace) -> bool:
    """Whether the log has a record; earlier formats had none."""
    return _record_file(root).exists()


def read_log_record(root: GalleryPlace) -> Record:
    """Read the record; raise `GalleryDamagedError` if it is gone or changed."""
    return _read(_record_file(root))[0]


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


def check_chain(root: GalleryPlace, version: int | None = None) -> None:
    """Raise `GalleryDamagedError` naming an entry or a checkpoint that is needed to read a version
    (the latest by default) and has changed since it was written.
    """
    found: tuple[str, str] | None = None
    for _ in range(_TRIES):
        record = read_log_record(root)
        found = next(_of_version(root, record, version), None)
        if found is None:
            return
        if read_log_record(root) == record:  # else a writer was at work meanwhile
            break
    if found is not None:
        raise GalleryDamagedError(f"{root / found[0]}: {found[1]}")


def changed_entries(root: GalleryPlace) -> list[tuple[str, str]]:
    """The name of each file of the log that has changed since it was written, and what is wrong."""
    found: list[tuple[str, str]] = []
    for _ in range(_TRIES):
        before = _bytes(root)
        found = list(_findings(root))
        if not found or _bytes(root) == before:  # else a writer was at work meanwhile
            break
    return found


def _bytes(root: GalleryPlace) -> bytes | None:
    """The bytes of the record on the disk."""
    path = _record_file(root)
    return path.read_bytes() if path.is_file() else None


def _findings(root: GalleryPlace) -> Iterator[tuple[str, str]]:
    try:
        record = read_log_record(root)
    except GalleryDamagedError as error:
        path = _record_file(root)
        yield below(path, root), str(error).removeprefix(f"{path}: ")
        return
    record = _with_others_checkpoint(root, record)
    versions = _versions(root)
    yield from _walk(root, record, record.oldest, versions)
    for name, digest in record.checkpoints.items():
        yield from _of_checkpoint(root, record, name, digest)
    if record.being_made is None and record.last_checkpoint is not None:
        yield from _of_checkpoint(root, record, LAST_CHECKPOINT, record.last_checkpoint)
    known = {_entry(root, each).name for each in versions if each >= record.oldest}
    known |= record.checkpoints.keys()
    if record.last_checkpoint is not None:
        known.add(LAST_CHECKPOINT)
    if record.being_made is not None:
        known |= {f"{record.being_made:020d}.checkpoint.parquet", LAST_CHECKPOINT}
    for path in in_order(_log(root).iterdir()):
        if path.name not in known and not is_half_written(path):
            yield (
                _name(path.name),
                "this tool did not leave the file there, or a clean or a purge was cut off: run"
                " that again",
            )


def latest(root: GalleryPlace) -> int:
    """The version of the last entry of the log; -1 if there is none."""
    return max(_versions(root), default=-1)


def foreign_entries(root: GalleryPlace) -> list[str]:
    """The names of the log entries that another tool committed, oldest first.

    Its checkpoint comes last, if the record does not have it yet.
    """
    entries = [_entry(root, version) for version in _versions(root)]
    contents = zip(entries, read_each(entries), strict=True)
    found = [_name(path.name) for path, data in contents if _link(data) is None]
    checkpoint = None
    with suppress(GalleryDamagedError):  # which the findings name
        checkpoint = _others_checkpoint(root, read_log_record(root))
    return found if checkpoint is None else [*found, _name(f"{checkpoint:020d}.checkpoint.parquet")]


def _with_others_checkpoint(root: GalleryPlace, record: Record) -> Record:
    """The record with the checkpoint that another tool made, and without those that it deleted."""
    checkpoint = _others_checkpoint(root, record)
    if checkpoint is None:
        return record
    name, kept = f"{checkpoint:020d}.checkpoint.parquet", record.checkpoints
    kept = {
        each: digest
        for each, digest in kept.items()
        if (_log(root) / each).exists() or int(each[:20]) > checkpoint
    }
    first = min((each for each in _versions(root) if each >= record.oldest), default=record.oldest)
    oldest = max(record.oldest, min(first, checkpoint + 1))
    return replace(
        record,
        oldest=oldest,
        checkpoints={**kept, name: _digest(_log(root) / name) or _BEFORE_ALL},
        last_checkpoint=_digest(_log(root) / LAST_CHECKPOINT),
    )


def _others_checkpoint(root: GalleryPlace, record: Record) -> int | None:
    """The version of a checkpoint that another tool made, or None.

    It counts only if `_last_checkpoint` is not ours either and has its size. A copied checkpoint,
    which is damage, is not named there.
    """
    try:
        data = (_log(root) / LAST_CHECKPOINT).read_bytes()
        if hashlib.sha256(data).hexdigest() == record.last_checkpoint:
            return None
        about = json.loads(data)
        version, name = int(about["version"]), f"{int(about['version']):020d}.checkpoint.parquet"
        has_its_size = (_log(root) / name).stat().st_size == about["sizeInBytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_ours = name in record.checkpoints or version == record.being_made
    return version if has_its_size and not is_ours else None


def _of_version(
    root: GalleryPlace, record: Record, version: int | None
) -> Iterator[tuple[str, str]]:
    """Yield the faults of the checkpoint of a version, and of the entries after it."""
    there = {path.name for path in _log(root).iterdir()}
    if LAST_CHECKPOINT in there:
        record = _with_others_checkpoint(root, record)
    made = [int(match[1]) for match in map(_CHECKPOINT.fullmatch, there) if match]
    usable = [each for each in made if version is None or each <= version]
    checkpoint = max(usable, default=-1)
    yield from _walk(root, record, max(record.oldest, checkpoint + 1), _numbered(there))
    names = {f"{checkpoint:020d}.checkpoint.parquet"}
    if LAST_CHECKPOINT in there:  # which may name one that is gone
        names |= set(sorted(record.checkpoints)[-1:])
    for name in sorted(names & record.checkpoints.keys()):
        yield from _of_checkpoint(root, record, name, record.checkpoints[name])


def _walk(
    root: GalleryPlace, record: Record, first: int, versions: Sequence[int]
) -> Iterator[tuple[str, str]]:
    """Yield the faults of the entries down to the version `first`, newest first.

    `versions` are the versions that have an entry, ascending.
    """
    newest = _last_of_chain(record, first, versions)
    for version in versions:
        if version > newest:
            yield _name(_entry(root, version).name), "this entry of the log follows no other"
    named: str | None = None
    numbers = range(newest, first - 1, -1)
    entries = [_entry(root, version) for version in numbers]
    for version, path, data in zip(numbers, entries, read_each(entries), strict=True):
        found = None if data is None else hashlib.sha256(data).hexdigest()
        if data is None:
            yield _name(path.name), "this entry of the log is gone; restore it from a copy"
            named = None
            continue
        is_last_recorded = version == record.newest and found == record.sha256
        wanted = record.sha256 if version == record.newest else named
        link = _link(data)
        if (wanted is not None and found != wanted) or (link and link[0] != version):
            yield (
                _name(path.name),
                "this entry of the log is not as it was written (SHA-256); restore it from a copy",
            )
            named = None
            continue
        if is_last_recorded and named is not None and named != found:
            after = _entry(root, version + 1).name
            yield _name(after), f"this entry of the log does not follow {path.name}"
        named = link[1] if link else None


def _last_of_chain(record: Record, first: int, versions: Sequence[int]) -> int:
    """The version of the last entry that follows the recorded one without a gap.

    If another tool deleted the recorded one, it is the version before `first`.
    """
    newest, there = max(record.newest, first - 1), set(versions)
    while newest + 1 in there:
        newest += 1
    return newest


def _of_checkpoint(
    root: GalleryPlace, record: Record, name: str, expected: str
) -> Iterator[tuple[str, str]]:
    """Yield the fault of a checkpoint, or of the file that names the last one."""
    found = _digest(_log(root) / name)
    if found == expected:
        return
    if found is None:
        problem = "the file is gone"
    else:
        problem = "its bytes are not those that were written (SHA-256)"
    if record.oldest and (name == LAST_CHECKPOINT or int(name[:20]) == record.oldest):
        yield _name(name), f"{problem}; restore it from a copy"
    else:
        yield (
            _name(name),
            f"{problem}; delete it and {LAST_CHECKPOINT} beside it: the log's entries hold the"
            " same, and the next commit goes on without it",
        )


def _link(data: bytes | None) -> tuple[int, str] | None:
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


def _versions(root: GalleryPlace) -> list[int]:
    """The versions that have an entry, ascending."""
    return _numbered(path.name for path in _log(root).iterdir())


def _numbered(names: Iterable[str]) -> list[int]:
    """The versions of the entries among some names, ascending."""
    return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)


def _digest(path: GalleryPlace) -> str | None:
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
    path = _record_file(root)
    while True:
        record, tag = _read(path)
        sealed = seal(asdict(change(record)))
        if not isinstance(path, ObjectPlace):
            storage.write_whole(path, lambda half: half.write_bytes(sealed))  # noqa: B023
            return
        if path.put_if_unchanged(sealed, tag) is not None:
            return


def _record_file(root: GalleryPlace) -> GalleryPlace:
    return root / storage.CHECKSUMS_FOLDER / checksums.LOG_RECORD


def _log(root: GalleryPlace) -> GalleryPlace:
    return root / storage.LOG_FOLDER


def _entry(root: GalleryPlace, version: int) -> GalleryPlace:
    return _log(root) / f"{version:020d}.json"


def _name(name: str) -> str:
    return f"{storage.LOG_FOLDER}/{name}"
