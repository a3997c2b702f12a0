"""Checksums of the files that the log does not name: which files exist, and whether they have
changed.

Every such file has a record in the folder `_checksums`: its name and its SHA-256. A record is
written before its file, under a name that says "next", and renamed after it. Before a file is
deleted, its record is renamed to "going". So after a kill at any instant, the names of the records
say which files may exist: a file that is missing, changed, exchanged or unknown is damage. A
"going" record deletes a file only if the record is valid, the file's only one, and has the checksum
of these bytes. In an object store, which has no renames, a record has both names for a moment: a
"going" record beside an equal one means that nothing was deleted yet.

Each record ends with its own checksum. Row files and rejects of committed versions need no record,
because the log has their checksums.
"""

import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    AnyPlace,
    GalleryPlace,
    ObjectPlace,
    below,
    read_each,
    rename,
    sha256_of,
    state_of,
)
from pipeline.gallery.files.storage import GalleryDamagedError, record_of
from pipeline.gallery.seals import seal, unseal

_log = logging.getLogger(__name__)
LOG_RECORD = f"{storage.LOG_FOLDER}{storage.RECORD_SUFFIX}"
SUFFIXES = (storage.RECORD_SUFFIX, storage.NEXT_SUFFIX, storage.GOING_SUFFIX)
_HALF = f".record{storage.TEMPORARY_SUFFIX}"
_TRIES = 5
_checked: dict[GalleryPlace, tuple[Any, ...]] = {}


def write_recorded(path: GalleryPlace, write: Callable[[Path], object]) -> None:
    """`storage.write_whole`, with a record of the file's checksum.

    Raise `RunError` if the disk is full.
    """
    with storage.name_write_errors(path), storage.hidden_file(path.parent, path.name) as temporary:
        write(temporary)
        storage.sync_file(temporary)
        replace(temporary, path)


def replace(temporary: Path, final: GalleryPlace) -> None:
    """Rename a flushed file to its final name, in place of an older one, and record it."""

    def rename() -> bool:
        storage.move_over(temporary, final)
        storage.sync_folder(final.parent)
        return True

    with _only_writer(final):
        _record(final, temporary, rename)


def link_recorded(temporary: Path, final: GalleryPlace) -> bool:
    """`storage.link_into_place`, with a record: False, and no change, if the name is taken."""
    with _only_writer(final):
        if final.is_file() if isinstance(final, ObjectPlace) else final.exists():
            return False
        return _record(final, temporary, lambda: storage.link_into_place(temporary, final))


def read_recorded(path: GalleryPlace, remedy: str = "") -> bytes | None:
    """The bytes of a file as they were written; None if there is none.

    Raise `GalleryDamagedError` naming the file if it was changed or deleted; `remedy` says what to
    do once it and its record are deleted.
    """
    if isinstance(path, ObjectPlace) and (data := _read_settled(path)) is not None:
        return data
    for attempt in range(_TRIES):
        wanted, may_lack = expected(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be read forever
                raise GalleryDamagedError(f"{path}: this is not a regular file")
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if may_lack:
                return None
            problem = "the file is gone"
        except OSError as error:
            raise GalleryDamagedError(
                f"{path}: the file cannot be read ({error.strerror})"
            ) from error
        else:
            if hashlib.sha256(data).hexdigest() in wanted:
                return data
            problem = why_not(path, wanted)
        if attempt and expected(path) == (wanted, may_lack):  # else a writer was at work
            break
    advice = f"; delete it and its record {record_of(path)}, and {remedy}" if remedy else ""
    raise GalleryDamagedError(f"{path}: {problem}{advice}")


def check_unchanged(path: GalleryPlace, remedy: str = "") -> None:
    """Check a file that must exist and is read in parts.

    It is hashed again only if its size, its place on the disk or a time has changed. The time of a
    change cannot be set back.
    """
    found: tuple[Any, ...] | None = None
    with suppress(OSError):
        found = state_of(path)
    if found is None or _checked.get(path) != found:
        if read_recorded(path, remedy) is None:
            raise GalleryDamagedError(f"{path}: the file is gone")
        if found is not None:
            _checked[path] = found


def forget(paths: Iterable[GalleryPlace]) -> None:
    """Drop the records of files that the log names now, or that left the gallery."""
    storage.unlink_all(record_of(path) for path in paths)


def recorded(folder: GalleryPlace) -> set[str]:
    """The names of the files of a folder that have a record."""
    records = record_of(folder / "_").parent
    if isinstance(records, Path) and not records.is_dir():
        return set()
    names = (path.name for path in records.iterdir() if path.suffix == storage.RECORD_SUFFIX)
    return {name.removesuffix(storage.RECORD_SUFFIX) for name in names}


def sweep_writers(root: GalleryPlace) -> None:
    """Finish or undo what killed writers of a folder's files began."""
    records = root / storage.CHECKSUMS_FOLDER
    found: list[GalleryPlace] = list(records.rglob("*"))
    for record in found:
        if is_half_written(record) or record.suffix in (storage.NEXT_SUFFIX, storage.GOING_SUFFIX):
            path = (root / below(record, records)).with_suffix("")
            with _only_writer(path):
                _settle(path)
                if is_half_written(record):
                    record.unlink(missing_ok=True)


def is_copied(record: GalleryPlace, going: GalleryPlace) -> bool:
    """Whether a record in an object store was being renamed: it has both names."""
    if isinstance(record, Path):
        return False
    one, other = read_each([record, going])
    return one is not None and one == other


def why_not(path: GalleryPlace, wanted: set[str]) -> str:
    """What is wrong with a file that has none of the `expected` checksums."""
    if wanted:
        return "its bytes are not those that were written (SHA-256)"
    return f"no version needs the file, and it has no valid checksum in {record_of(path)}"


def expected(path: GalleryPlace) -> tuple[set[str], bool]:
    """The checksums that a file may have, and whether it may be missing."""
    record = record_of(path)
    wanted = set()
    for suffix in SUFFIXES:
        try:
            about = unseal(record.with_suffix(suffix).read_bytes())
        except (OSError, ValueError):
            continue
        if about.get("file") == _name(path):
            wanted.add(str(about.get("sha256")))
    return wanted, not record.exists()


def _name(path: GalleryPlace) -> str:
    """The name of a file below the folder that has its record's folder."""
    return below(path, _records(path).parent)


def _records(path: AnyPlace) -> AnyPlace:
    """The folder `_checksums` that has a file's record."""
    folder = record_of(path).parent
    while folder.name != storage.CHECKSUMS_FOLDER:
        folder = folder.parent
    return folder


def is_half_written(record: GalleryPlace) -> bool:
    """Whether a record was being written when its writer was killed, or still is."""
    return record.name == _HALF or storage.is_temporary(record)


def _read_settled(path: ObjectPlace) -> bytes | None:
    """The bytes of an object if its record has their checksum.

    This takes half the requests of looking for everything that a killed writer may have left.
    """
    data, record = read_each([path, record_of(path)])
    if data is None or record is None:
        return None
    with suppress(ValueError):
        about = unseal(record)
        if about == {"file": _name(path), "sha256": hashlib.sha256(data).hexdigest()}:
            return data
    return None


def _record(final: GalleryPlace, temporary: Path, name_it: Callable[[], bool]) -> bool:
    """Record the checksum of a finished file around `name_it`, which may give it its name."""
    _settle(final)
    if isinstance(final, ObjectPlace):
        return _record_object(final, temporary, name_it)
    record = record_of(final)
    half = record.with_name(_HALF)
    try:
        with storage.name_write_errors(record):
            half.write_bytes(seal({"file": _name(final), "sha256": sha256_of(temporary)}))
            storage.sync_file(half)
            coming = half.replace(record.with_suffix(storage.NEXT_SUFFIX))
    finally:
        half.unlink(missing_ok=True)
    storage.sync_folder(record.parent)
    try:
        is_named = name_it()
    except OSError:
        _settle(final)
        raise
    if not is_named:
        coming.unlink()
        return False
    coming.replace(record)
    storage.sync_folder(record.parent)
    return True


def _record_object(final: ObjectPlace, temporary: Path, name_it: Callable[[], bool]) -> bool:
    """Like `_record`, for an object: another writer may write it at the same time, with the same
    record.
    """
    record = record_of(final)
    coming = record.with_suffix(storage.NEXT_SUFFIX)
    sealed = seal({"file": _name(final), "sha256": sha256_of(temporary)})
    coming.write_bytes(sealed)
    is_named = name_it()
    if is_named:
        record.write_bytes(sealed)
    coming.unlink(missing_ok=True)
    return is_named


def _settle(path: GalleryPlace) -> None:
    """Finish what a killed writer began: its next record is kept if it fits the file."""
    record = record_of(path)
    if isinstance(record, Path):
        record.with_name(_HALF).unlink(missing_ok=True)
    coming, going = (
        record.with_suffix(storage.NEXT_SUFFIX),
        record.with_suffix(storage.GOING_SUFFIX),
    )
    is_going = going.is_file()
    if is_going and is_copied(record, going):
        going.unlink(missing_ok=True)  # nothing was deleted yet
    elif is_going and path.exists() and not _is_deletion(path):
        _log.warning(
            "%s says that %s was to be deleted, but it is not a valid record of that file; the file"
            " is kept: delete this record",
            going,
            path,
        )
    elif is_going:
        path.unlink(missing_ok=True)
        going.unlink(missing_ok=True)
    # In an object store another writer of the same file may finish at this moment.
    meanwhile = suppress(FileNotFoundError) if isinstance(path, ObjectPlace) else nullcontext()
    if coming.is_file():
        with meanwhile:
            is_there = path.exists() and _recorded_digest(coming) == sha256_of(path)
            rename(coming, record) if is_there else coming.unlink(missing_ok=True)


def _is_deletion(path: GalleryPlace) -> bool:
    """Whether a killed writer was deleting the file: its only record is then a valid "going" one.

    A damaged record, or one that was copied here, must not delete a file.
    """
    if record_of(path).exists():
        return False
    with suppress(OSError):
        return sha256_of(path) in expected(path)[0]
    return False


def _recorded_digest(record: GalleryPlace) -> str | None:
    try:
        return str(unseal(record.read_bytes()).get("sha256"))
    except ValueError:
        return None


@contextmanager
def _only_writer(path: GalleryPlace) -> Iterator[None]:
    """Lock the records of a folder against other processes.

    In an object store nothing is locked: each record is whole at any instant, and two writers of
    one file write the same record.
    """
    if isinstance(path, ObjectPlace):
        yield
        return
    folder = record_of(path).parent
    storage.make_folder(folder)
    lock = _records(path) / storage.LOCK_FILE
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(lock, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP):
            raise
        raise GalleryDamagedError(f"{lock}: this is not a regular file; delete it") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
