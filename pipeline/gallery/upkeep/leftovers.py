"""Files in a gallery's folder that no version needs: abandoned work, and old versions."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, below, in_order, root_of
from pipeline.gallery.files.rejects import rejects_file, rejects_files
from pipeline.gallery.files.unit_files import is_row_file
from pipeline.gallery.found_units import unfinished_units
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import (
    drop_cut_off_entries,
    forget_before,
    half_written,
    logged_files,
    oldest_version,
)
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.scratch import abandoned, drop_abandoned
from pipeline.gallery.table import Gallery

# Each name has the oldest version that the file was made from.
_DERIVED = {
    storage.CAMERAS_FOLDER: re.compile(r"\.?(\d{12})\.parquet"),
    storage.MAPS_FOLDER: re.compile(r"\.?\d{12}-(\d{12})\.parquet"),
}


@dataclass(frozen=True)
class Leftovers:
    """Files that no version needs: of abandoned runs, and of versions to remove.

    `versions` is the number of versions to remove. `unfinished` files belong to runs without a
    commit; only those versions need the `old` ones. `scratch` are the folders elsewhere of killed
    runs.
    """

    versions: int
    unfinished: tuple[str, ...]
    old: tuple[str, ...]
    scratch: tuple[str, ...]
    bytes: int


def find_leftovers(gallery: Gallery, keep: int | None = None) -> Leftovers:
    """Find the files that `clean` would delete; `gallery` is the latest version. Nothing changes.

    `keep` is the number of the newest versions that stay readable (all of them by default).
    """
    if keep is not None and keep < 1:
        raise InputError(f"`keep` must be at least 1, not {keep}")
    root = root_of(gallery.location)
    oldest = oldest_version(root)
    first = oldest if keep is None else max(oldest, gallery.version - keep + 1)
    logged = logged_files(root)
    rows, rejects = set[GalleryPlace](), set[GalleryPlace]()
    for version in range(first, gallery.version + 1):
        snapshot = log.read_log(root, version)
        rows |= {root / file.path for file in snapshot.files}
        rejects.add(rejects_file(root, snapshot.rejects))
    unused = [path for path in row_files(root, logged) if path not in rows]
    stray = [path for path in unused if path.name not in logged]
    old = [path for path in unused if path.name in logged]
    old += [path for path in rejects_files(root) if path not in rejects]
    old += derived_before(root, first)
    unfinished = [*stray, *unfinished_files(root)]
    scratch = [entry.folder for entry in abandoned(gallery.location)]
    inside = [path for folder in scratch for path in folder.rglob("*") if path.is_file()]
    return Leftovers(
        versions=first - oldest,
        unfinished=tuple(below(path, root) for path in unfinished),
        old=tuple(below(path, root) for path in old),
        scratch=tuple(map(str, scratch)),
        bytes=sum(map(_size, (*unfinished, *old, *inside))),
    )


def clean(gallery: Gallery, lock: Lock, keep: int | None = None) -> Leftovers:
    """Delete all files that no version needs, and remove all but the newest `keep` versions.

    A version leaves the log before its files are deleted, so that every listed version can be read.
    Raise `RunError`, and delete nothing, if this is not the latest version.
    """
    lock.check()
    gallery.check_latest()
    root = root_of(gallery.location)
    found = find_leftovers(gallery, keep)
    if found.versions:
        forget_before(root, oldest_version(root) + found.versions)
    delete_unfinished(root / name for name in found.unfinished)
    storage.delete_files(root / name for name in found.old)
    drop_abandoned(gallery.location)
    drop_cut_off_entries(root)
    checksums.sweep_writers(root)
    return found


def _size(path: GalleryPlace) -> int:
    """The bytes of a file; 0 if a writer has deleted it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def unfinished_files(root: GalleryPlace) -> list[GalleryPlace]:
    """Half-written and uncommitted files beside the rows.

    These are the files of `_units`, the plan and the progress of a run, and files without their
    final name. Except in `_units`, files that are being written are left out, since not all writers
    hold the lock.
    """
    folders = (root, *(root / name for name in storage.WRITTEN_FOLDERS))
    cut_off: list[GalleryPlace] = [path for folder in folders for path in storage.cut_off(folder)]
    cut_off += half_written(root)
    of_run = [root / name for name in (storage.PLAN_FILE, storage.PROGRESS_FILE)]
    of_run = [path for path in of_run if path.exists()]
    return in_order({*cut_off, *unfinished_units(root), *of_run})


def delete_unfinished(paths: Iterable[GalleryPlace]) -> None:
    """Delete `unfinished_files`; one stays if its writer had only just made it when it was listed.

    The caller holds the lock, which writers of `_units` need: what one of them still writes there
    is of a run that was killed.
    """
    others: list[GalleryPlace] = []
    for path in paths:
        of_units = path.parent.name == storage.UNITS_FOLDER
        if isinstance(path, Path) and storage.is_temporary(path) and not of_units:
            storage.drop_dead([path])
        else:
            others.append(path)
    storage.delete_files(others)  # objects of a store in few requests


def derived_before(root: GalleryPlace, version: int) -> list[GalleryPlace]:
    """The camera statistics and maps made from versions before this one, half-written ones
    included.
    """
    found = []
    for folder, name in _DERIVED.items():
        for path in filter(storage.is_own_file, (root / folder).glob("*")):
            match = name.match(path.name)
            if (
                match
                and int(match[1]) < version
                and (match.end() == len(path.name) or storage.is_temporary(path))
            ):
                found.append(path)
    return in_order(found)


def row_files(root: GalleryPlace, logged: Container[str]) -> list[GalleryPlace]:
    """Every row file in the folder, of any version or of none; not files of other tools that no
    version has.
    """
    files = filter(storage.is_own_file, root.glob("*.parquet"))
    return in_order(path for path in files if is_row_file(path) or path.name in logged)
