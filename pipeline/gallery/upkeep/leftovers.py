"""What is in a gallery's folder and in none of its versions: abandoned work, and old versions."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.rejects import rejects_file
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import (
    drop_cut_off,
    forget_before,
    half_written,
    logged_files,
    oldest_version,
)
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class Leftovers:
    """Files that no version needs: of abandoned runs, and of versions that are given up.

    `versions` are given up: no longer readable. `unfinished` files are of runs that did not come
    to a commit; `old` ones only those versions need.
    """

    versions: int
    unfinished: tuple[str, ...]
    old: tuple[str, ...]
    bytes: int


def find_leftovers(gallery: Gallery, keep: int | None = None) -> Leftovers:
    """What `clean` would delete, of a gallery's latest version; changes nothing.

    `keep` is how many of the newest versions stay readable (all of them by default).
    """
    if keep is not None and keep < 1:
        raise InputError(f"`keep` must be at least 1, not {keep}")
    root = storage.local_root(gallery.location)
    oldest = oldest_version(root)
    first = oldest if keep is None else max(oldest, gallery.version - keep + 1)
    logged = {root / path for path in logged_files(root)}
    rows, rejects = set[Path](), set[Path]()
    for version in range(first, gallery.version + 1):
        snapshot = log.read(root, version)
        rows |= {root / file.path for file in snapshot.files}
        rejects.add(rejects_file(root, snapshot.rejects))
    stray = [path for path in row_files(root) if path not in rows and path not in logged]
    old = [path for path in row_files(root) if path not in rows and path in logged]
    old += [
        path for path in (root / storage.REJECTS_FOLDER).glob("*.parquet") if path not in rejects
    ]
    old += statistics_before(root, first)
    unfinished = [*stray, *unfinished_files(root)]
    return Leftovers(
        versions=first - oldest,
        unfinished=tuple(str(path.relative_to(root)) for path in unfinished),
        old=tuple(str(path.relative_to(root)) for path in old),
        bytes=sum(map(_size, (*unfinished, *old))),
    )


def clean(gallery: Gallery, lock: Lock, keep: int | None = None) -> Leftovers:
    """Deletes what no version needs, and gives up all but the newest `keep` versions.

    The log forgets a version before its files go, so that none is listed that cannot be read.
    Raises `RunError`, and deletes nothing, where this is not the latest version.
    """
    lock.check()
    gallery.check_latest()
    root = storage.local_root(gallery.location)
    found = find_leftovers(gallery, keep)
    if found.versions:
        forget_before(root, oldest_version(root) + found.versions)
    storage.delete_files(root / name for name in (*found.unfinished, *found.old))
    drop_cut_off(root)
    checksums.sweep(root)
    return found


def _size(path: Path) -> int:
    """The bytes of a file; 0 if a writer has deleted it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def unfinished_files(root: Path) -> list[Path]:
    """Half-written and not yet committed files beside the rows: those of `_units`, the plan of a
    run, and what was cut off before it got its name.
    """
    names = (
        storage.REJECTS_FOLDER,
        storage.CALIBRATIONS_FOLDER,
        storage.SCRATCH_FOLDER,
        storage.OUTPUTS_FOLDER,
    )
    folders = (root, *(root / name for name in names))
    cut_off = [path for folder in folders for path in storage.temporaries(folder)]
    cut_off += half_written(root)
    units, plan = (root / storage.UNITS_FOLDER).glob("*"), root / storage.PLAN_FILE
    return sorted({*cut_off, *units, *([plan] if plan.exists() else [])})


def statistics_before(root: Path, version: int) -> list[Path]:
    """The statistics of cameras of versions before this one, half-written ones included."""
    files = (root / storage.CAMERAS_FOLDER).glob("*")
    return sorted(path for path in files if path.name < storage.version_name(version))


def row_files(root: Path) -> list[Path]:
    """Every Parquet file of rows in the folder, of whichever version or of none."""
    return sorted(path for path in root.glob("*.parquet") if path.name[0] not in "._")
