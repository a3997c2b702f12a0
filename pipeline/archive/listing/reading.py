"""Read the bytes of a source's images: local files directly, tars by offset, others by fsspec."""

import os
import stat

from pipeline.archive.faults import ReadError, check_bytes
from pipeline.archive.limits import MAX_BYTES
from pipeline.archive.listing import tars
from pipeline.archive.locations import join, reach_file
from pipeline.archive.video import names


def read_image(
    root: str,
    path: str,
    place: tuple[int, int] | None = None,
    *,
    size: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """Read the file at `path` of a listing with that `root`; for a box, its whole file.

    `place` is the offset and size of a tar's member; with it, the headers of the tar need not be
    read. `size` is the listed size of a file; with it, a remote file system need not be asked.
    Raise ReadError if the file is missing or cannot be read, and, before reading, if it has more
    than `max_bytes`. Network failures are not caught.
    """
    try:
        in_tar = tars.split_tar_path(path)
        if in_tar is not None:
            tar, name = in_tar
            return tars.read_member(*reach_file(root, tar), name, place, max_bytes)
        if (box := names.box_of_name(path)) is not None:
            path = box.file
        location = join(root, path)
        if "://" not in location:
            mode = os.stat(location).st_mode  # noqa: PTH116 (as below)
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe might never end
                raise ReadError("unreadable", "it is a special file")
            with open(location, "rb") as file:  # noqa: PTH123 (a Path costs as much as the read)
                check_bytes(os.fstat(file.fileno()).st_size, max_bytes)
                return file.read()
        filesystem, there = reach_file(root, path)
        if size is None:
            size = filesystem.size(there)  # some servers do not report it
        check_bytes(size or 0, max_bytes)
        data: bytes = filesystem.cat_file(there)
        return data
    except FileNotFoundError as error:
        raise ReadError("missing", "the file does not exist") from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise ReadError("unreadable", f"it cannot be read: {error.strerror or error}") from error


def is_in_tar(path: str) -> bool:
    """Whether a row's path names a member of a tar.

    >>> is_in_tar("north/monday.tar#0007/15.jpg"), is_in_tar("a.mp4#f=7&b=1,2,3,4")
    (True, False)
    """
    return tars.split_tar_path(path) is not None
