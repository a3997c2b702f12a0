"""The few file operations of a gallery that must be atomic or survive a power cut.

Everything else in this package changes folders through this module. On a disk, a file is written
beside its final name, flushed, and linked or renamed. In an object store, it is written on this
machine and then put in one request, whose acknowledgment replaces the flush. So a name exists with
all of its bytes, or not at all.
"""

import errno
import fcntl
import glob
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.object_requests import delete_all
from pipeline.gallery.files.objects import ObjectPlace
from pipeline.gallery.files.places import (
    REQUESTS,
    AnyPlace,
    GalleryPlace,
    ask_many,
    is_nameless,
    nameless_file,
)

LOG_FOLDER = "_delta_log"
UNITS_FOLDER = "_units"
REJECTS_FOLDER = "_rejects"
CALIBRATIONS_FOLDER = "_calibrations"
CAMERAS_FOLDER = "_cameras"
MAPS_FOLDER = "_maps"
GRAPH_FOLDER = "_graph"
PURGED_FOLDER = "_purged"
SCRATCH_FOLDER = "_scratch"
OUTPUTS_FOLDER = "_outputs"
VERDICTS_FOLDER = "_verdicts"
CHECKSUMS_FOLDER = "_checksums"
LOCK_FILE = "_lock"
PLAN_FILE = "_plan.parquet"
SEEN_FILE = "_seen.parquet"
PROGRESS_FILE = "_progress.json"
OWN_FILES = frozenset({LOCK_FILE, PLAN_FILE, SEEN_FILE, PROGRESS_FILE})
OWN_NAMES = OWN_FILES | frozenset(
    {
        LOG_FOLDER,
        UNITS_FOLDER,
        REJECTS_FOLDER,
        CALIBRATIONS_FOLDER,
        CAMERAS_FOLDER,
        MAPS_FOLDER,
        GRAPH_FOLDER,
        PURGED_FOLDER,
        SCRATCH_FOLDER,
        OUTPUTS_FOLDER,
        VERDICTS_FOLDER,
        CHECKSUMS_FOLDER,
    }
)
TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}" + re.escape(TEMPORARY_SUFFIX), re.DOTALL)
WRITTEN_FOLDERS = (
    UNITS_FOLDER,
    REJECTS_FOLDER,
    CALIBRATIONS_FOLDER,
    CAMERAS_FOLDER,
    MAPS_FOLDER,
    SCRATCH_FOLDER,
    OUTPUTS_FOLDER,
    VERDICTS_FOLDER,
)
"""The folders, besides the gallery's own, in which files are written under hidden names."""
RECORD_SUFFIX = ".json"
NEXT_SUFFIX = ".next"
GOING_SUFFIX = ".going"


class GalleryDamagedError(RunError):
    """A file of the gallery does not have the contents that were written to it; the message names
    the file.
    """


def sync_file(path: GalleryPlace) -> None:
    """Return when the bytes of a file are on the disk; an object in a store is already safe."""
    if isinstance(path, ObjectPlace) or is_nameless(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: GalleryPlace) -> None:
    """Return when the names in a folder are on the disk."""
    sync_file(path)


def make_folder(path: GalleryPlace) -> None:
    """Make a folder and its parents, and wait until their names are on the disk.

    In an object store nothing is made: a folder there is the common beginning of its objects'
    names. Raise `InputError` if that fails: no permission, a read-only disk, a file in the way.
    """
    if isinstance(path, ObjectPlace):
        return
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror})") from error
    for folder in missing:
        sync_folder(folder.parent)


def begin_folder(path: GalleryPlace) -> None:
    """Make a folder whose presence has a meaning, even while it is empty."""
    if isinstance(path, ObjectPlace):
        path.mark()
    else:
        make_folder(path)


def delete_folder(path: GalleryPlace) -> None:
    """Delete a folder with all that is in it; one that is not there is not an error."""
    if isinstance(path, ObjectPlace):
        delete_all(path.rglob("*"))
        path.rmdir()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def name_write_errors(path: GalleryPlace) -> Iterator[None]:
    """Turn a failure to write, usually a full disk, into a `RunError` that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: the file cannot be written ({error.strerror or error}); nothing was "
            "committed, and what was finished is kept: make room and run the command again"
        ) from error


def version_name(version: int) -> str:
    """The name of a file that belongs to a version; names sort like versions."""
    return f"{version:012d}"


def temporary_name(folder: Path, name: str) -> Path:
    """A name in `folder` that no other writer uses and that no reader of Parquet folders lists."""
    return folder / f".{name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"


@contextmanager
def hidden_file(folder: GalleryPlace, name: str) -> Iterator[Path]:
    """An empty file under a name of `temporary_name`, to be written, then renamed or linked.

    While it is written it is locked (`flock`, which ends with the process), so that nobody mistakes
    it for a leftover of a killed writer. If it still has the hidden name in the end, it is deleted.
    For an object it is a file without a name on this machine.
    """
    if isinstance(folder, ObjectPlace):
        with nameless_file() as nameless:
            yield nameless
        return
    temporary, descriptor = _locked_file(folder, name)
    try:
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _locked_file(folder: Path, name: str) -> tuple[Path, int]:
    while True:
        temporary = temporary_name(folder, name)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # An export may lie on a file system without locks: then leftovers of a killed writer stay
        # there.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:  # else it was deleted as a leftover before it was locked
            return temporary, descriptor
        os.close(descriptor)


def temporaries(folder: GalleryPlace, name: str | None = None) -> list[Path]:
    """The hidden files of writers of a file, or of all files of the folder, alive or killed.

    An object store has none.
    """
    if isinstance(folder, ObjectPlace):
        return []
    pattern = "*" if name is None else f"{glob.escape(name)}.*"
    found = folder.glob(f".{pattern}{TEMPORARY_SUFFIX}")
    return sorted(path for path in found if is_temporary(path) and is_own_file(path))


def is_temporary(path: GalleryPlace) -> bool:
    """Whether a name is one of `temporary_name`.

    >>> is_temporary(Path(".a.0123456789abcdef0123456789abcdef.tmp")), is_temporary(Path(".a.tmp"))
    (True, False)
    """
    return _TEMPORARY.fullmatch(path.name) is not None


def is_own_file(path: GalleryPlace) -> bool:
    """Whether the path is a regular file: not a link, a folder or a pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def cut_off(folder: GalleryPlace, name: str | None = None) -> list[Path]:
    """The `temporaries` of writers that were killed."""
    return [path for path in temporaries(folder, name) if not _is_being_written(path)]


def drop_cut_off(folder: GalleryPlace, name: str | None = None) -> None:
    """Delete the `temporaries` of writers that were killed."""
    drop_dead(temporaries(folder, name))


def drop_dead(hidden: Iterable[Path]) -> None:
    """Delete those `temporaries` whose writers were killed; the others stay."""
    for path in hidden:
        with _locked_alone(path) as alone:
            if alone:
                path.unlink(missing_ok=True)


def _is_being_written(path: Path) -> bool:
    """Whether the writer of a `hidden_file` is alive; True if that is unknown."""
    with _locked_alone(path) as alone:
        return not alone


@contextmanager
def _locked_alone(path: Path) -> Iterator[bool]:
    """Lock a `hidden_file` for the length of a block; False if its writer is alive, or may be.

    A writer that has made its file and not locked it yet waits for the end of the block. If the
    file is deleted in the block, it sees that, and makes another one.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            alone = False
        else:
            alone = True
        yield alone
    finally:
        os.close(descriptor)


def write_whole(path: GalleryPlace, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a hidden name beside `path`, flush it, and rename it to `path`.

    A reader finds the complete new file, the older one, or none. If several write at once, the last
    one wins. Raise `RunError` if the disk is full.
    """
    with name_write_errors(path), hidden_file(path.parent, path.name) as temporary:
        write(temporary)
        sync_file(temporary)
        move_over(temporary, path)
    sync_folder(path.parent)


def move_over(temporary: Path, final: GalleryPlace) -> None:
    """Give a finished, flushed file its final name, in place of an older one."""
    if isinstance(final, ObjectPlace):
        final.write_bytes(temporary)
    else:
        temporary.replace(final)


def link_into_place(temporary: Path, final: GalleryPlace) -> bool:
    """Give a finished, flushed file its final name, at once or not at all.

    False if another writer was first; that writer's file stays. In an object store, a writer of the
    same bytes counts as this one. The caller deletes the temporary name.
    """
    if isinstance(final, ObjectPlace):
        return final.put_new(temporary)
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise InputError(
                f"{final.parent}: this file system has no hard links, which a gallery needs to "
                "write safely"
            ) from error
        raise
    sync_folder(final.parent)
    return True


def record_of(path: AnyPlace) -> AnyPlace:
    """The path of the checksum of a gallery's file, if `pipeline.gallery.checksums` wrote the file.

    >>> record_of(Path("g/_cameras/7.parquet")).as_posix()
    'g/_checksums/_cameras/7.parquet.json'
    """
    folder, name = path.parent, path.name + RECORD_SUFFIX
    if folder.name in WRITTEN_FOLDERS:
        return folder.parent / CHECKSUMS_FOLDER / folder.name / name
    return folder / CHECKSUMS_FOLDER / name


def unlink_all(paths: Iterable[GalleryPlace]) -> None:
    """Delete files that have no record; one that is already gone is not an error."""
    objects = []
    for path in paths:
        if isinstance(path, ObjectPlace):
            objects.append(path)
        else:
            path.unlink(missing_ok=True)
    delete_all(objects)


def delete_files(paths: Iterable[GalleryPlace]) -> None:
    """Delete files and the records of their checksums; one that is already gone is not an error.

    A record is first renamed, to state that its file may be gone: after a kill before the end, the
    file does not count as missing. Raise `GalleryDamagedError` for a folder in the place of a file.
    """
    objects = []
    for path in paths:
        if isinstance(path, ObjectPlace):
            objects.append(path)
        else:
            _delete_file(path)
    if objects:
        _delete_objects(objects)


def _delete_file(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise GalleryDamagedError(f"{path}: this is a folder, where a file belongs; move it")
    record = record_of(path)
    going = record.with_suffix(GOING_SUFFIX)
    if record.exists():
        record.replace(going)
    path.unlink(missing_ok=True)
    record.with_suffix(NEXT_SUFFIX).unlink(missing_ok=True)  # of a writer that was killed
    going.unlink(missing_ok=True)


def _delete_objects(paths: Sequence[ObjectPlace]) -> None:
    """Delete objects in the way that `_delete_file` deletes a file, all of them step by step."""
    records = [record_of(path) for path in paths]
    going = {each: each.with_suffix(GOING_SUFFIX) for each in _existing(records)}
    list(ask_many(lambda each: each.copy(going[each]), going, paths[0]))
    delete_all(going)
    delete_all(paths)
    delete_all(each.with_suffix(NEXT_SUFFIX) for each in records)
    delete_all(each.with_suffix(GOING_SUFFIX) for each in records)


def _existing(places: Sequence[ObjectPlace]) -> list[ObjectPlace]:
    """The objects that exist; if there are many, a listing of their folders finds them."""
    if len(places) <= REQUESTS:
        there = ask_many(ObjectPlace.is_file, places, places[0])
        return [each for each, is_there in zip(places, there, strict=True) if is_there]
    found = {each for folder in {place.parent for place in places} for each in folder.iterdir()}
    return [each for each in places if each in found]
