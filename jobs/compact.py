"""compact: put a gallery's rows into few files, by camera."""

import re
import sys
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.runs.locations import Location

_SIZE = re.compile(r"(\d+)(MB|GB|MiB|GiB)")
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Compacted:
    """The new version, and the numbers of files before and after."""

    gallery: str
    version: int
    rows: int
    files_before: int
    files: int
    bytes: int


def compact(gallery: Location, *, target_size: str | None = None) -> Compacted:
    """Put a gallery's rows into few files, by camera.

    A query for a camera then opens only that camera's files. The new
    version has the same rows, with the same ids and in the same order;
    older versions stay readable.

    For example:

        regallery compact --gallery galleries/test

    Args:
        gallery: Folder of the gallery.
        target_size: Size of a file, such as 256MiB or 1GB (default: 192MiB).
    """
    stated = None if target_size is None else _bytes(target_size)
    from pipeline.gallery.opening import lock_gallery
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep import compact as compaction

    Gallery.open(gallery)  # checked first: a lock would create the folder
    with working("compacting"), lock_gallery(gallery, "compact") as lock:
        before = Gallery.open(gallery)
        after = compaction.compact(
            before, compaction.TARGET_BYTES if stated is None else stated, lock
        )
    files = after.snapshot.files
    return Compacted(
        gallery=gallery,
        version=after.version,
        rows=after.count,
        files_before=len(before.snapshot.files),
        files=len(files),
        bytes=sum(file.bytes for file in files),
    )


def _bytes(size: str) -> int:
    found = _SIZE.fullmatch(size)
    if not found:
        raise InputError(f"--target-size {size!r} is not a size: give one such as 192MiB or 1GB")
    return int(found[1]) * _UNITS[found[2]]


def describe(result: Compacted) -> RenderableType:
    """One line."""
    from pipeline.report.figures import count

    return Text(
        f"{result.gallery}: version {result.version} has {result.rows:,} rows in"
        f" {count(result.files, 'file')} of {result.bytes:,} bytes"
        f" (before: {count(result.files_before, 'file')})"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["compact", *sys.argv[1:]]))
