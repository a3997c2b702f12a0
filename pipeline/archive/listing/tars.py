"""Read tars: the offset of each member, from the headers alone, and the bytes of one member.

A member's path is the tar's path, `#`, and its name: `north/monday.tar#0007/15.jpg`.
"""

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import IO, cast

from fsspec import AbstractFileSystem

from pipeline.archive.decoding.signatures import HEAD, is_surely_image
from pipeline.archive.faults import ReadError, check_bytes
from pipeline.archive.listing.files import (
    HIDDEN,
    OUTDATED,
    SPECIAL,
    Fault,
    File,
    Folder,
    is_worth_a_look,
    readable,
    skip_reason,
    sort_file,
)
from pipeline.archive.locations import is_local

SUFFIX = ".tar"
COMPRESSED_SUFFIXES = tuple(
    f".{name}"
    for names in ("tar.gz tgz", "tar.bz2 tbz tbz2", "tar.xz txz", "tar.lzma", "tar.zst tzst")
    for name in names.split()
)
WHY_NOT_COMPRESSED = "members of a compressed tar cannot be reached one by one: store it as .tar"
_MEMBER = re.compile(r"(.*?\.tar)#(.+)", re.IGNORECASE | re.DOTALL)
_BLOCK = tarfile.BLOCKSIZE
_TOO_LARGE = 2**63
_TAIL = 1 << 16
_MOST_HEADERS = 1 << 20
"""The most bytes of all the headers of one member; a path and the attributes of a file take far
fewer.
"""


def split_tar_path(path: str) -> tuple[str, str] | None:
    """The tar's path and the member's name in it; None for the path of a separate file.

    >>> split_tar_path("north/monday.tar#0007/15.jpg"), split_tar_path("a#1.jpg")
    (('north/monday.tar', '0007/15.jpg'), None)
    """
    found = _MEMBER.fullmatch(path)
    return (found[1], found[2]) if found else None


def as_folder(path: str) -> str:
    """The path that a member would have if the tar were a folder of its name without the suffix.

    Layouts read labels from this path.

    >>> as_folder("north/monday.tar#0007/15.jpg")
    'north/monday/0007/15.jpg'
    """
    parts = split_tar_path(path)
    return path if parts is None else f"{parts[0][: -len(SUFFIX)]}/{parts[1]}"


def scan(filesystem: AbstractFileSystem, location: str, path: str) -> Folder:
    """List the images of the tar at `location`, whose path below the source's root is `path`.

    Only headers are read. Of several members with one name the last counts, as in unpacking. A
    damaged tar yields the members before the damage, and one fault for itself.
    """
    folder = Folder()
    images: dict[str, File | Fault] = {}
    itself = File(readable(path), None, None)
    try:
        if filesystem.info(location)["type"] != "file":  # such as a pipe, which would never end
            raise OSError("it is not a regular file")
        with filesystem.open(location, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            for member in _members(file):
                _sort_member(folder, images, member, path, length, file)
    except (tarfile.TarError, ValueError, OverflowError) as error:  # of impossible numbers
        detail = f"what comes after {len(images)} images cannot be read: {error}"
        folder.faults.append(Fault(itself, "damaged-tar", detail))
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        detail = f"the tar cannot be read: {error.strerror or error}"
        folder.faults.append(Fault(itself, "unreadable-tar", detail))
    for image in images.values():
        if isinstance(image, Fault):
            folder.faults.append(image)
        else:
            sort_file(folder, image)
    return folder


def read_member(
    filesystem: AbstractFileSystem,
    location: str,
    name: str,
    place: tuple[int, int] | None,
    max_bytes: int,
) -> bytes:
    """Read a member of the tar at `location`.

    `place` is its offset and size from the listing; without it, the tar's headers are read once and
    cached. Raise ReadError if the tar has no such member (any more), or if the member is larger
    than `max_bytes`.
    """
    offset, size = place or _find(filesystem, location, name)
    check_bytes(size, max_bytes)
    if is_local(filesystem):
        with open(location, "rb") as file:  # noqa: PTH123 (a Path costs as much as the read)
            file.seek(offset - _BLOCK)
            data = file.read(_BLOCK + size)
    else:
        data = filesystem.cat_file(location, start=offset - _BLOCK, end=offset + size)
    _check_header(data[:_BLOCK], size)
    if len(data) < _BLOCK + size:
        raise ReadError("truncated", "the tar ends before the member does")
    return data[_BLOCK:]


def tar_index(filesystem: AbstractFileSystem, location: str) -> dict[str, File]:
    """The images of a tar by name; cached, and read again when the tar has changed.

    Raise ReadError if the tar cannot be read.
    """
    about = filesystem.info(location)
    keys = ("size", "mtime", "LastModified", "last_modified", "updated", "ETag")
    return _index(filesystem, location, tuple(str(about.get(key)) for key in keys))


def _check_header(block: bytes, size: int) -> None:
    """Raise ReadError unless the block before a member's bytes is the header of such a member."""
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").size
    except tarfile.TarError:
        found = None
    if found != size:
        raise ReadError("missing", "the tar has changed since it was listed")


class _Headers:
    """The file of a tar as `tarfile` reads it, which reads only headers, of any size that they
    claim.

    Raise ReadError instead of reading more than `_MOST_HEADERS` since the last `begin`.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.begin(0)

    def begin(self, start: int) -> None:
        """Reset the count: the headers of another member follow, from byte `start` on."""
        self.start, self._read = start, 0

    def read(self, size: int) -> bytes:
        self._read += size
        if self._read > _MOST_HEADERS:
            raise tarfile.ReadError(
                f"the headers of the member at byte {self.start:,} have more than"
                f" {_MOST_HEADERS:,} bytes"
            )
        return self._file.read(size)


@contextmanager
def _report_damage(headers: _Headers) -> Iterator[None]:
    """Convert the errors of `tarfile` about unexpected headers to ReadError."""
    try:
        yield
    except RecursionError as error:
        detail = f"the member at byte {headers.start:,} has too many headers"
        raise tarfile.ReadError(detail) from error
    except ValueError as error:
        detail = f"the headers of the member at byte {headers.start:,} make no sense: {error}"
        raise tarfile.ReadError(detail) from error


def _members(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members in order; raise TarError unless the tar ends correctly.

    `tarfile` itself takes a damaged header after the first member for the end, and goes back if a
    size is negative.
    """
    file.seek(0)
    headers = _Headers(file)
    with _report_damage(headers):
        tar = tarfile.open(  # noqa: SIM115 (closed below)
            fileobj=cast(IO[bytes], headers), mode="r:", errors="surrogateescape"
        )
    with tar:
        while True:
            headers.begin(tar.offset)
            with _report_damage(headers):
                member = tar.next()
            if member is None:
                break
            # tarfile keeps all members, for methods that are not used here.
            tar.members.clear()  # type: ignore[attr-defined]
            if not 0 <= member.size < _TOO_LARGE:
                raise tarfile.ReadError(f"a member of {member.size} bytes")
            yield member
        end = tar.offset
    file.seek(end)
    rest = file.read(_BLOCK)
    if not rest:
        raise tarfile.ReadError(f"the file ends at byte {end:,} without a tar's end mark")
    while rest:
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"no header where one should be, from byte {end:,} on")
        rest = file.read(_TAIL)


def _sort_member(
    folder: Folder,
    images: dict[str, File | Fault],
    member: tarfile.TarInfo,
    path: str,
    length: int,
    file: IO[bytes],
) -> None:
    """Add a member to `images` by its name, or count it as skipped."""
    if member.isdir():
        return
    name = _normal(member.name)
    skipped = skip_reason(name.rpartition("/")[2])
    if any(part.startswith(".") and part != ".." for part in name.split("/")):
        skipped = HIDDEN
    elif not (member.isreg() or member.islnk() or member.issym()):
        skipped = SPECIAL
    if skipped and not (is_worth_a_look(skipped) and _begins_as_image(member, file)):
        folder.skipped[skipped] += 1
        return
    if name in images:
        folder.skipped[OUTDATED] += 1
    image = _image(images, member, name, f"{path}#{name}", length)
    images.pop(name, None)
    images[name] = image


def _begins_as_image(member: tarfile.TarInfo, file: IO[bytes]) -> bool:
    """Whether the first bytes of a member are an image's; the tar's reader finds its position
    again.
    """
    if not member.isreg():
        return False
    file.seek(member.offset_data)
    return is_surely_image(file.read(min(member.size, HEAD)))


def _image(
    images: dict[str, File | Fault], member: tarfile.TarInfo, name: str, path: str, length: int
) -> File | Fault:
    """The file of a member, or the fault that it has; a link becomes the image that it points
    to.
    """
    here = File(path, member.size, _microseconds(member.mtime), member.offset_data)
    told = here._replace(path=readable(path))
    if member.islnk() or member.issym():
        folder = posixpath.dirname(name) if member.issym() else ""
        target = images.get(_normal(posixpath.join(folder, member.linkname)))
        if isinstance(target, File):
            return here._replace(size=target.size, offset=target.offset)
        detail = f"it is a link to {readable(member.linkname)}, no image before it in the tar"
        return Fault(told, "missing", detail)
    if member.issparse():
        return Fault(told, "unsupported", "it is stored in pieces: make the tar without --sparse")
    if member.offset_data + member.size > length:
        return Fault(told, "truncated", "the tar ends before the member does")
    return here


def _microseconds(mtime: float) -> int | None:
    """Convert a time in seconds since 1970 to microseconds; None if it is not a date's.

    >>> _microseconds(1.5), _microseconds(float("nan"))
    (1500000, None)
    """
    try:
        taken = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=mtime)
    except (OverflowError, ValueError):
        return None
    return (taken - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _normal(name: str) -> str:
    """A member's name without `./`, doubled slashes, and slashes at the ends."""
    return posixpath.normpath(name.lstrip("/"))


def _find(filesystem: AbstractFileSystem, location: str, name: str) -> tuple[int, int]:
    found = tar_index(filesystem, location).get(name)
    if found is None or found.offset is None or found.size is None:
        raise ReadError("missing", "the tar has no such image")
    return found.offset, found.size


@lru_cache(maxsize=16)
def _index(
    filesystem: AbstractFileSystem, location: str, _version: tuple[str, ...]
) -> dict[str, File]:
    folder = scan(filesystem, location, "")
    unseen = [fault for fault in folder.faults if fault.reason == "unreadable-tar"]
    if unseen:
        raise ReadError("unreadable", unseen[0].detail)
    return {file.path[1:]: file for file in folder.files}
