"""What a file system says of a source: its image files with size and time, and what it hides."""

import errno
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem

from pipeline.archive.reading import join, locate

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for names in ("jpg jpeg jpe jfif", "png", "bmp", "gif", "webp", "tif tiff", "ppm pgm pbm pnm")
    for name in names.split()
)
"""A file with one of these suffixes, in either case, is an image until its bytes say no."""

HIDDEN, NO_SUFFIX, LINK_LOOP, SPECIAL = "(hidden)", "(no suffix)", "(link loop)", "(special)"
THREADS = 16
# From so many files of one remote folder on, listing the folder is cheaper than asking for each.
_WORTH_LISTING = 16


class File(NamedTuple):
    """One file: bytes, and microseconds since 1970; None where the file system does not say."""

    path: str
    size: int | None
    mtime: int | None


class Fault(NamedTuple):
    """A file that the file system does not give, and why."""

    file: File
    reason: str
    detail: str


@dataclass
class Folder:
    """What stands in one folder, its subfolders not entered."""

    files: list[File] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    # Path below the root, and the (device, inode) of the folder and of those that it stands in.
    subfolders: list[tuple[str, tuple[tuple[int, int], ...]]] = field(default_factory=list)


def walk(root: str) -> Iterator[Folder]:
    """Every folder of `root` that is not hidden, level by level, each level on threads.

    A link to a folder is followed unless it leads to a folder that it stands in. Raises OSError
    where the root itself cannot be read; a subfolder that cannot be read is a fault.
    """
    filesystem, base = locate(root)
    local = "file" in _protocols(filesystem)
    filesystem.invalidate_cache()

    def scan(place: tuple[str, tuple[tuple[int, int], ...]]) -> Folder:
        prefix, inside = place
        try:
            if local:
                return _scan_local(base, prefix, inside)
            return _scan_remote(filesystem, base, prefix)
        except OSError as error:
            if not prefix or isinstance(error, ConnectionError | TimeoutError):
                raise
            told = f"the folder cannot be listed: {error.strerror or error}"
            place_only = File(readable(prefix), None, None)
            return Folder(faults=[Fault(place_only, "unreadable-folder", told)])

    level: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    with ThreadPoolExecutor(THREADS) as pool:
        while level:
            following = []
            for folder in pool.map(scan, level):
                following.extend(folder.subfolders)
                yield folder
            level = following


def _protocols(filesystem: AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def readable(path: str) -> str:
    r"""The path as text that can be stored: bytes that are no UTF-8 are written as \xff.

    >>> readable("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_text(path: str) -> bool:
    if path.isascii():
        return True
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _skip_reason(name: str) -> str | None:
    """What a name that is no image is counted as; None for an image's name."""
    if name.startswith("."):
        return HIDDEN
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else NO_SUFFIX
    return None if suffix in IMAGE_SUFFIXES else readable(suffix)


def _scan_local(root: str, prefix: str, inside: tuple[tuple[int, int], ...]) -> Folder:
    folder = Folder()
    place = f"{root}/{prefix}"
    inside = (*inside, _identity(os.stat(place)))  # noqa: PTH116 (a Path costs twice the time)
    with os.scandir(place) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and _is_folder(entry):
                if entry.is_symlink() and _identity(entry.stat()) in inside:
                    folder.skipped[LINK_LOOP] += 1
                else:
                    folder.subfolders.append((f"{prefix}{entry.name}/", inside))
            elif skipped := _skip_reason(entry.name):
                folder.skipped[skipped] += 1
            else:
                _add_local(folder, entry, prefix + entry.name)
    return folder


def _identity(told: os.stat_result) -> tuple[int, int]:
    return told.st_dev, told.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself, which is told as a file
        return False


def _add_local(folder: Folder, entry: os.DirEntry[str], path: str) -> None:
    try:
        told = entry.stat()
    except OSError as error:
        folder.faults.append(_fault(path, error))
        return
    if not stat.S_ISREG(told.st_mode):
        folder.skipped[SPECIAL] += 1
    elif _is_text(path):
        folder.files.append(File(path, told.st_size, told.st_mtime_ns // 1000))
    else:
        file = File(readable(path), told.st_size, told.st_mtime_ns // 1000)
        folder.faults.append(Fault(file, "bad-name", "the path is not UTF-8: rename it"))


def _fault(path: str, error: OSError) -> Fault:
    file = File(readable(path), None, None)
    if isinstance(error, FileNotFoundError):
        return Fault(file, "missing", "there is no such file, or a link leads nowhere")
    if error.errno == errno.ELOOP:
        return Fault(file, "missing", "a link leads to itself")
    return Fault(file, "unreadable", f"the file cannot be reached: {error.strerror or error}")


def _scan_remote(filesystem: AbstractFileSystem, base: str, prefix: str) -> Folder:
    folder = Folder()
    place = f"{base}/{prefix}".rstrip("/")
    for entry in filesystem.ls(place, detail=True):
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if entry["name"].rstrip("/") == place or not name:
            continue  # an object store's marker of the folder itself
        if entry["type"] == "directory" and not name.startswith("."):
            folder.subfolders.append((f"{prefix}{name}/", ()))
        elif skipped := _skip_reason(name):
            folder.skipped[skipped] += 1
        else:
            folder.files.append(_file(f"{prefix}{name}", entry))
    return folder


def _file(path: str, entry: dict[str, Any]) -> File:
    size = entry.get("size")
    return File(path, None if size is None else int(size), _modified(entry))


def _modified(entry: dict[str, Any]) -> int | None:
    """The time of change that a file system tells, under the names that they have for it."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        told = entry.get(key)
        if isinstance(told, str):
            told = datetime.fromisoformat(told)
        if isinstance(told, datetime):
            moment = told if told.tzinfo else told.replace(tzinfo=UTC)
            return round(moment.timestamp() * 1_000_000)
        if isinstance(told, int | float):
            return round(told * 1_000_000)
    return None


def look_up(root: str, paths: Iterable[str]) -> Iterator[File | Fault]:
    """Size and time of each of `paths` (below `root`, absolute, or URLs), folder by folder."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_folder[join(root, path).rpartition("/")[0]].append(path)
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda group: _look_up_group(root, *group), by_folder.items()):
            yield from found


def _look_up_group(root: str, folder: str, paths: list[str]) -> list[File | Fault]:
    if "://" not in folder:
        return [_look_up_local(join(root, path), path) for path in paths]
    filesystem, base = locate(folder)
    if len(paths) < _WORTH_LISTING:
        return [_look_up_remote(filesystem, base, path) for path in paths]
    try:
        entries = {
            entry["name"].rpartition("/")[2]: entry
            for entry in filesystem.ls(base, detail=True)
            if entry["type"] == "file"
        }
    except FileNotFoundError:
        entries = {}
    gone = FileNotFoundError()
    return [
        _file(path, entries[name]) if name in entries else _fault(path, gone)
        for path in paths
        for name in [path.rpartition("/")[2]]
    ]


def _look_up_local(location: str, path: str) -> File | Fault:
    try:
        told = os.stat(location)  # noqa: PTH116 (as above)
    except OSError as error:
        return _fault(path, error)
    if not stat.S_ISREG(told.st_mode):
        return Fault(File(path, None, None), "unreadable", "it is a folder or a special file")
    return File(path, told.st_size, told.st_mtime_ns // 1000)


def _look_up_remote(filesystem: AbstractFileSystem, base: str, path: str) -> File | Fault:
    try:
        entry = filesystem.info(f"{base}/{path.rpartition('/')[2]}")
    except (FileNotFoundError, PermissionError) as error:
        return _fault(path, error)
    if entry["type"] != "file":
        return Fault(File(path, None, None), "unreadable", "it is a folder, not a file")
    return _file(path, entry)
