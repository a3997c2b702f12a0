"""Checksums of the files that the log does not name: which exist, and whether they have changed.

Every such file has a record of its own in the folder `_checksums`: its name and its SHA-256. A
record is written before its file, under a name that says "next", and renamed after it; before a
file is deleted, its record is renamed to "going". So after a kill at any instant, the names of the
records say which files may exist: a file that is missing, changed, exchanged or unknown is damage.
A "going" record deletes a file only if the record is valid, the file's only one, and has the
checksum of these bytes.

Records end with a checksum of their own. Row files and rejects of committed versions need no
record, since the log has their checksums.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError, record_of

_log = logging.getLogger(__name__)
LOG_RECORD = f"{storage.LOG_FOLDER}{storage.RECORD_SUFFIX}"
_SUFFIXES = (storage.RECORD_SUFFIX, storage.NEXT_SUFFIX, storage.GOING_SUFFIX)
_SEAL = "checksum"
_HALF = f".record{storage.TEMPORARY_SUFFIX}"
_TRIES = 5
_checked: dict[Path, tuple[int, ...]] = {}


def seal(about: Mapping[str, Any]) -> bytes:
    """JSON that ends with the SHA-256 of its content.

    >>> unseal(seal({"version": 3}))
    {'version': 3}
    """
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return json.dumps({**about, _SEAL: digest}, indent=1).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """The argument of `seal`; raises `ValueError` unless every byte is as `seal` wrote it."""
    about = json.loads(data)
    if isinstance(about, dict):
        told = {name: value for name, value in about.items() if name != _SEAL}
        if seal(told) == data:
            return told
    raise ValueError("its checksum is not that of its content")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`storage.write_whole`, with a record of the file's checksum.

    Raises `RunError` if the disk is full.
    """
    with storage.told_by_name(path), storage.hidden_file(path.parent, path.name) as temporary:
        write(temporary)
        storage.sync_file(temporary)
        replace(temporary, path)


def replace(temporary: Path, final: Path) -> None:
    """Renames a flushed file to its final name, in place of an older one, and records it."""

    def rename() -> bool:
        temporary.replace(final)
        storage.sync_folder(final.parent)
        return True

    with _only_writer(final):
        _record(final, temporary, rename)


def link_into_place(temporary: Path, final: Path) -> bool:
    """`storage.link_into_place`, with a record: False, and no change, if the name is taken."""
    with _only_writer(final):
        if final.exists():
            return False
        return _record(final, temporary, lambda: storage.link_into_place(temporary, final))


def read(path: Path, remedy: str = "") -> bytes | None:
    """The bytes of a file as they were written; None if there is none.

    Raises `GalleryDamagedError` naming the file if it was changed or deleted; `remedy` says what to
    do once it and its record are deleted.
    """
    for attempt in range(_TRIES):
        wanted, may_lack = _wanted(path)
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
            problem = _why_not(path, wanted)
        if attempt and _wanted(path) == (wanted, may_lack):  # else a writer was at work
            break
    advice = f"; delete it and its record {record_of(path)}, and {remedy}" if remedy else ""
    raise GalleryDamagedError(f"{path}: {problem}{advice}")


def check(path: Path, remedy: str = "") -> None:
    """Checks a file that must exist and is read in parts. It is hashed again only if its size, its
    place on the disk or a time has changed. The time of a change cannot be set back.
    """
    try:
        about = path.stat()
    except OSError:
        found = None
    else:
        found = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if found is None or _checked.get(path) != found:
        if read(path, remedy) is None:
            raise GalleryDamagedError(f"{path}: the file is gone")
        if found is not None:
            _checked[path] = found


def forget(paths: Iterable[Path]) -> None:
    """Drops the records of files that the log names now, or that left the gallery."""
    for path in paths:
        record_of(path).unlink(missing_ok=True)


def recorded(folder: Path) -> set[str]:
    """The names of the files of a folder that have a record."""
    records = record_of(folder / "_").parent
    if not records.is_dir():
        return set()
    names = (path.name for path in records.iterdir() if path.suffix == storage.RECORD_SUFFIX)
    return {name.removesuffix(storage.RECORD_SUFFIX) for name in names}


def sweep(root: Path) -> None:
    """Finishes or undoes what killed writers of a folder's files began."""
    records = root / storage.CHECKSUMS_FOLDER
    for record in list(records.rglob("*")):
        if _is_half_written(record) or record.suffix in (storage.NEXT_SUFFIX, storage.GOING_SUFFIX):
            path = root / record.relative_to(records).with_suffix("")
            with _only_writer(path):
                _settle(path)
                if _is_half_written(record):
                    record.unlink(missing_ok=True)


def findings(root: Path, known: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """The name of each file of a folder that differs from its record, and what is wrong.

    `known` says which files have no record because the log names them.
    """
    records = root / storage.CHECKSUMS_FOLDER
    for record in sorted(path for path in records.rglob("*") if path.is_file()):
        name = str(record.relative_to(records))
        if name == LOG_RECORD or _is_half_written(record):
            continue
        if name == storage.LOCK_FILE:
            if record.stat().st_size:
                yield str(record.relative_to(root)), "the file should be empty; delete it"
            continue
        try:
            if not record.exists():  # a writer renamed it
                continue
            if record.suffix not in _SUFFIXES:
                raise ValueError("this is not a record of a checksum")
            if unseal(record.read_bytes())["file"] != name.removesuffix(record.suffix):
                raise ValueError("this is the record of another file")
            if record.suffix == storage.GOING_SUFFIX and record.with_suffix(_SUFFIXES[0]).exists():
                raise ValueError("the file has another record, which says that it stays")
        except (OSError, ValueError, KeyError) as error:
            yield str(record.relative_to(root)), f"a record of a checksum is damaged ({error})"
        path = root / name.removesuffix(record.suffix)
        is_missed = record.suffix == storage.RECORD_SUFFIX and not path.exists()
        if is_missed and record.exists():
            yield str(path.relative_to(root)), "the file is gone"
    for path in _own_files(root):
        if not known(str(path.relative_to(root))) and not storage.is_temporary(path):
            yield from _of_file(root, path)


def _own_files(root: Path) -> list[Path]:
    """The files that need a record or must be known: all but those of the log and the records."""
    apart = {storage.CHECKSUMS_FOLDER, storage.LOG_FOLDER, storage.GRAPH_FOLDER}
    apart.add(storage.PURGED_FOLDER)
    found: list[Path] = []
    for path in root.iterdir():
        if path.is_dir() and path.name not in apart:
            found += path.rglob("*")
        elif path.name != storage.LOCK_FILE:
            found.append(path)
    # `irregular_files` reports links, pipes and the like; reading a pipe would never end.
    return sorted(each for each in found if stat.S_ISREG(each.lstat().st_mode))


def _of_file(root: Path, path: Path) -> Iterator[tuple[str, str]]:
    name = str(path.relative_to(root))
    for _ in range(2):  # a writer may be at work
        wanted, may_lack = _wanted(path)
        try:
            if _digest(path) in wanted:
                return
            problem = _why_not(path, wanted)
        except FileNotFoundError:
            if may_lack:
                return
            problem = "the file is gone"
        except OSError as error:
            problem = f"the file cannot be read ({error.strerror})"
    yield name, problem


def _why_not(path: Path, wanted: set[str]) -> str:
    if wanted:
        return "its bytes are not those that were written (SHA-256)"
    return f"no version needs the file, and it has no valid checksum in {record_of(path)}"


def _wanted(path: Path) -> tuple[set[str], bool]:
    """The checksums that a file may have, and whether it may be missing."""
    record = record_of(path)
    wanted = set()
    for suffix in _SUFFIXES:
        try:
            about = unseal(record.with_suffix(suffix).read_bytes())
        except (OSError, ValueError):
            continue
        if about.get("file") == _name(path):
            wanted.add(str(about.get("sha256")))
    return wanted, not record.exists()


def _name(path: Path) -> str:
    """The name of a file below the folder that has its record's folder."""
    return str(path.relative_to(_records(path).parent))


def _records(path: Path) -> Path:
    """The folder `_checksums` that has a file's record."""
    parents = record_of(path).parents
    return next(each for each in parents if each.name == storage.CHECKSUMS_FOLDER)


def _is_half_written(record: Path) -> bool:
    return record.name == _HALF or storage.is_temporary(record)


def _record(final: Path, temporary: Path, name_it: Callable[[], bool]) -> bool:
    """Records the checksum of a finished file around `name_it`, which may give it its name."""
    _settle(final)
    record = record_of(final)
    half = record.with_name(_HALF)
    try:
        with storage.told_by_name(record):
            half.write_bytes(seal({"file": _name(final), "sha256": _digest(temporary)}))
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


def _settle(path: Path) -> None:
    """Finishes what a killed writer began: its next record is kept if it fits the file."""
    record = record_of(path)
    record.with_name(_HALF).unlink(missing_ok=True)
    coming, going = (
        record.with_suffix(storage.NEXT_SUFFIX),
        record.with_suffix(storage.GOING_SUFFIX),
    )
    if going.exists() and path.exists() and not _is_deletion(path):
        _log.warning(
            "%s says that %s was to be deleted, but it is not a valid record of that file; the file"
            " is kept: delete this record",
            going,
            path,
        )
    elif going.exists():
        path.unlink(missing_ok=True)
        going.unlink()
    if coming.exists():
        is_there = path.exists() and _digest_told(coming) == _digest(path)
        coming.replace(record) if is_there else coming.unlink()


def _is_deletion(path: Path) -> bool:
    """Whether a killed writer was deleting the file: its only record is then a valid "going" one.

    A damaged record, or one that was copied here, must not delete a file.
    """
    if record_of(path).exists():
        return False
    with suppress(OSError):
        return _digest(path) in _wanted(path)[0]
    return False


def _digest_told(record: Path) -> str | None:
    try:
        return str(unseal(record.read_bytes()).get("sha256"))
    except ValueError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Locks the records of a folder against other processes."""
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
