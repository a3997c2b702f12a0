"""Versions that a purge or a clean removes while they are read.

A reader holds no lock. So if it does not find a file, the file was either removed with its version,
or is missing. A part of the log may also be removed after its listing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from deltalake.exceptions import DeltaError

from pipeline.errors import RunError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.entries import oldest_version

Read = TypeVar("Read")

_TRIES = 3
_PAUSE_SECONDS = 0.05


@contextmanager
def report_removal(root: GalleryPlace, version: int) -> Iterator[None]:
    """Report an error inside as the version's removal, by `RunError`, if that is the cause."""
    try:
        yield
    except Exception as error:
        removal = removed(root, version)
        if removal is not None:
            raise removal from error
        raise


def removed(root: GalleryPlace, version: int) -> RunError | None:
    """The error for a reader whose version was removed; None if the version still exists."""
    # In this order: a purge sets files aside before its versions leave the log, and ends after.
    is_purged = (root / storage.PURGED_FOLDER).exists()
    oldest, latest = oldest_version(root), latest_version(root)
    if version < oldest:
        how = f"was removed while it was read; the oldest left is {oldest}"
    elif is_purged and version < latest:
        how = "is being removed by a purge"
    else:
        return None
    return RunError(f"{root}: version {version} {how}: read the latest, {latest}")


def read_steadily(read: Callable[[], Read]) -> Read:
    """The result of `read`; tries again if it fails, because a part of the log may just have been
    removed.
    """
    for _ in range(_TRIES - 1):
        try:
            return read()
        except (DeltaError, OSError, GalleryDamagedError):
            time.sleep(_PAUSE_SECONDS)
    return read()


def latest_version(root: GalleryPlace) -> int:
    """The number of the latest version, by the names of the log's entries; 0 if there are none."""
    numbers = [path.name.partition(".")[0] for path in (root / storage.LOG_FOLDER).glob("*")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
