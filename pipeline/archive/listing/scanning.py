"""Scan a file system for a source's image files with size and time, and for what it hides."""

import errno
import math
import os
import stat
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from pipeline.archive.decoding.signatures import HEAD, is_surely_image
from pipeline.archive.faults import ReadError
from pipeline.archive.listing import tars
from pipeline.archive.listing.allowed import AllowedPlaces
from pipeline.archive.listing.files import (
    HIDDEN,
    LINK_LOOP,
    NO_SUFFIX,
    SPECIAL,
    Fault,
    File,
    Folder,
    Place,
    is_worth_a_look,
    readable,
    skip_reason,
    sort_file,
)
from pipeline.archive.locations import is_local, join, locate, reach_file

THREADS = 16
# Folders and tars that are read ahead of the consumer; this bounds the memory of a listing.
_AHEAD = 4 * THREADS
# From this number of files in one remote folder on, listing the folder is cheaper than asking for
# each.
_WORTH_LISTING = 16


def walk(root: str, waiting: list[Place], most: float = math.inf) -> Iterator[Folder]:
    """Yield the places `waiting` below `root`, and every folder and tar in them, read on threads.

    Hidden folders are skipped. A link to a folder is followed unless it leads to one of its own
    parents. Once `most` images are found, no more places are begun, and the remaining ones stay in
    `waiting`. Raise OSError if the root itself cannot be read; a subfolder that cannot be read is a
    fault.
    """
    filesystem, base = locate(root)
    local = is_local(filesystem)

    def look_into(place: Place) -> Folder:
        if place.path.lower().endswith(tars.SUFFIX):
            return tars.scan(filesystem, f"{base}/{place.path}", place.path)
        try:
            if local:
                return _scan_local(base, place)
            return _scan_remote(filesystem, base, place.path)
        except OSError as error:
            if not place.path or isinstance(error, ConnectionError | TimeoutError):
                raise
            reason = f"the folder cannot be listed: {error.strerror or error}"
            place_only = File(readable(place.path), None, None)
            return Folder(faults=[Fault(place_only, "unreadable-folder", reason)])

    found = 0
    running: deque[Future[Folder]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        while running or (waiting and found < most):
            # The last place found is read first, so the waiting list does not grow with the source.
            while waiting and found < most and len(running) < _AHEAD:
                running.append(pool.submit(look_into, waiting.pop()))
            folder = running.popleft().result()
            waiting.extend(reversed(folder.places))
            found += len(folder.files)
            yield folder


def _scan_local(root: str, place: Place) -> Folder:
    folder = Folder()
    prefix, location = place.path, f"{root}/{place.path}"
    inside = (*place.inside, _identity(os.stat(location)))  # noqa: PTH116 (a Path takes twice)
    with os.scandir(location) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and _is_folder(entry):
                if entry.is_symlink() and _identity(entry.stat()) in inside:
                    folder.skipped[LINK_LOOP] += 1
                else:
                    folder.places.append(Place(f"{prefix}{entry.name}/", inside))
            elif not _sort_tar(folder, entry.name, prefix + entry.name):
                skipped = skip_reason(entry.name)
                if not skipped or (is_worth_a_look(skipped) and _begins_as_image(entry)):
                    _add_local(folder, entry, prefix + entry.name)
                elif why := _why_unseen(entry, skipped):
                    place_only = File(readable(f"{prefix}{entry.name}/"), None, None)
                    folder.faults.append(Fault(place_only, "unreadable-folder", why))
                else:
                    folder.skipped[skipped] += 1
    return folder


def _begins_as_image(entry: os.DirEntry[str]) -> bool:
    """Whether the first bytes of a local file are an image's; False if they cannot be read."""
    try:
        if not stat.S_ISREG(entry.stat().st_mode):  # such as a pipe, which would never end
            return False
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 (as above)
            return is_surely_image(file.read(HEAD))
    except OSError:
        return False


def _begins_as_image_there(filesystem: AbstractFileSystem, path: str) -> bool:
    try:
        return is_surely_image(filesystem.cat_file(path, start=0, end=HEAD))
    except (OSError, ValueError):  # an empty file has no such range
        return False


def _why_unseen(entry: os.DirEntry[str], skipped: str) -> str | None:
    """Reason to suspect that this entry is a directory that is not mounted, or None.

    A link to nothing counts as one if it has no suffix: its target may be unmounted.
    """
    if skipped == HIDDEN:
        return None
    try:
        if entry.is_symlink():
            entry.stat()
    except FileNotFoundError:
        nowhere = "a link leads nowhere: to a folder that is not mounted, perhaps"
        return nowhere if skipped == NO_SUFFIX else None
    except OSError as error:
        return None if error.errno == errno.ELOOP else f"it cannot be reached: {error.strerror}"
    return None


def _sort_tar(folder: Folder, name: str, path: str) -> bool:
    """Add a tar as a place to read, or a compressed one as a fault; return False for other
    names.
    """
    suffix = name.lower()
    if name.startswith(".") or ".t" not in suffix:
        return False
    if suffix.endswith(tars.SUFFIX):
        folder.places.append(Place(path))
    elif suffix.endswith(tars.COMPRESSED_SUFFIXES):
        file = File(readable(path), None, None)
        folder.faults.append(Fault(file, "compressed-tar", tars.WHY_NOT_COMPRESSED))
    else:
        return False
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself, which is reported as a file
        return False


def _add_local(folder: Folder, entry: os.DirEntry[str], path: str) -> None:
    try:
        status = entry.stat()
    except OSError as error:
        folder.faults.append(_fault(path, error))
        return
    if stat.S_ISREG(status.st_mode):
        _add(folder, File(path, status.st_size, status.st_mtime_ns // 1000))
    else:
        folder.skipped[SPECIAL] += 1


def _add(folder: Folder, file: File) -> None:
    if "#" in file.path and tars.split_tar_path(file.path):
        detail = "the path reads as that of a tar's member: rename it"
        folder.faults.append(Fault(file._replace(path=readable(file.path)), "bad-name", detail))
    else:
        sort_file(folder, file)


def _fault(path: str, error: OSError) -> Fault:
    file = File(readable(path), None, None)
    if isinstance(error, FileNotFoundError):
        return Fault(file, "missing", "the file does not exist, or a link leads nowhere")
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
            folder.places.append(Place(f"{prefix}{name}/"))
        elif not _sort_tar(folder, name, prefix + name):
            skipped = skip_reason(name)
            if skipped and not (
                is_worth_a_look(skipped) and _begins_as_image_there(filesystem, entry["name"])
            ):
                folder.skipped[skipped] += 1
            else:
                _add(folder, _file(f"{prefix}{name}", entry))
    return folder


def _file(path: str, entry: dict[str, Any]) -> File:
    size = entry.get("size")
    return File(path, None if size is None else int(size), _modified(entry))


def _modified(entry: dict[str, Any]) -> int | None:
    """The modification time that a file system reports, under any of the usual names."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(key)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return round(moment.timestamp() * 1_000_000)
        if isinstance(value, int | float):
            return round(value * 1_000_000)
    return None


def look_up(root: str, paths: Iterable[str], allowed: AllowedPlaces) -> Iterator[File | Fault]:
    """Yield size and time of each of `paths` (below `root`, absolute, or URLs), folder by folder.

    Members of a tar are looked up in its headers, which are read once. Raise InputError for a path
    outside the `allowed` places.
    """
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for path in paths:
        in_tar = tars.split_tar_path(path)
        place = in_tar[0] if in_tar else join(root, path).rpartition("/")[0]
        groups[place, in_tar is not None].append(path)
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda group: _look_up_group(root, allowed, *group), groups.items()):
            yield from found


def _look_up_group(
    root: str, allowed: AllowedPlaces, place: tuple[str, bool], paths: list[str]
) -> list[File | Fault]:
    folder, is_tar = place
    if is_tar:
        tar = join(root, folder)
        allowed.check_folder(tar.rpartition("/")[0], paths[0])
        if "://" not in tar:
            allowed.check_link(tar, paths[0])
        return _look_up_members(root, folder, paths)
    allowed.check_folder(folder, paths[0])
    if "://" not in folder:
        return [_look_up_local(join(root, path), path, allowed) for path in paths]
    filesystem, base = locate(folder)
    if is_local(filesystem):  # file://
        for path in paths:
            allowed.check_link(f"{base}/{path.rpartition('/')[2]}", path)
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


def _look_up_members(root: str, tar: str, paths: list[str]) -> list[File | Fault]:
    try:
        members = tars.tar_index(*reach_file(root, tar))
    except OSError as error:
        return [_fault(path, error) for path in paths]
    except ReadError as error:
        return [Fault(File(path, None, None), "unreadable", error.detail) for path in paths]
    found: list[File | Fault] = []
    for path in paths:
        member = members.get(path.removeprefix(f"{tar}#"))
        if member is None:
            gone = File(path, None, None)
            found.append(Fault(gone, "missing", "the tar has no such image"))
        else:
            found.append(member._replace(path=path))
    return found


def _look_up_local(location: str, path: str, allowed: AllowedPlaces) -> File | Fault:
    try:
        status = os.lstat(location)
        if stat.S_ISLNK(status.st_mode):
            allowed.check_link(location, path)
            status = os.stat(location)  # noqa: PTH116 (as above)
    except OSError as error:
        return _fault(path, error)
    if not stat.S_ISREG(status.st_mode):
        return Fault(File(path, None, None), "unreadable", "it is a folder or a special file")
    return File(path, status.st_size, status.st_mtime_ns // 1000)


def _look_up_remote(filesystem: AbstractFileSystem, base: str, path: str) -> File | Fault:
    try:
        entry = filesystem.info(f"{base}/{path.rpartition('/')[2]}")
    except (FileNotFoundError, PermissionError) as error:
        return _fault(path, error)
    if entry["type"] != "file":
        return Fault(File(path, None, None), "unreadable", "it is a folder, not a file")
    return _file(path, entry)
