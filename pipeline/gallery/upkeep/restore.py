"""Restore: a new version with the contents of an older one."""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.log.entries import LoggedFile, logged_files
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.log.removed import report_removal
from pipeline.gallery.log.transactions import Change, RowFile
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class Swapped:
    """Rows that would leave the latest version, and rows that would come back to it."""

    leaving: int
    returning: int


def swapped_by(gallery: Gallery, version: int) -> Swapped:
    """Find the rows that `restore` would remove from a gallery's latest version, and those that it
    would bring back.

    Nothing changes. Raise the errors of `restore`.
    """
    old = _older(gallery, version)
    present = {file.path for file in gallery.snapshot.files}
    _returning_files(
        gallery, version, [file for file in old.snapshot.files if file.path not in present]
    )
    now, then = gallery.row_ids(), old.row_ids()
    return Swapped(len(np.setdiff1d(now, then)), len(np.setdiff1d(then, now)))


def restore(gallery: Gallery, version: int, lock: Lock | None = None) -> Gallery:
    """The next version, equal to an older one in rows and rejects; row ids assigned since then are
    not reused.

    The same version if both are already equal. Raise `InputError` for a version that no longer
    exists, `GalleryDamagedError` naming a file of it that is gone or cut short, and what
    `Gallery.commit` raises.
    """
    if lock is None:
        with lock_gallery(gallery.location, f"restore version {version}") as lock:
            return restore(gallery, version, lock)
    old = _older(gallery, version)
    present = {file.path for file in gallery.snapshot.files}
    wanted = {file.path for file in old.snapshot.files}
    back = [file for file in old.snapshot.files if file.path not in present]
    removed = [file for file in gallery.snapshot.files if file.path not in wanted]
    if not back and not removed and old.snapshot.rejects == gallery.snapshot.rejects:
        return gallery
    added = _returning_files(gallery, version, back)
    before, after = gallery.row_ids(), old.row_ids()
    change = Change(
        run_id=f"restore-{version}-after-{gallery.version}",
        added=added,
        removed=removed,
        next_row_id=gallery.next_row_id,
        rejects=old.snapshot.rejects,
        summary={
            "rows_added": len(np.setdiff1d(after, before)),
            "rows_removed": len(np.setdiff1d(before, after)),
            "rejects": old.rejects().num_rows,
        },
    )
    return gallery.apply(change, lock)


def _older(gallery: Gallery, version: int) -> Gallery:
    old = Gallery.open(gallery.location, version)
    if old.version > gallery.version:
        raise InputError(f"version {version} is newer than version {gallery.version}")
    return old


def _returning_files(gallery: Gallery, version: int, files: list[RowFile]) -> list[LoggedFile]:
    """The files of an older version that come back, which must exist."""
    root = root_of(gallery.location)
    with report_removal(root, version):
        return _logged(root, files)


def _logged(root: GalleryPlace, files: list[RowFile]) -> list[LoggedFile]:
    """The files with their checksums from the log; each must exist with its full size."""
    logged = logged_files(root)
    for file in files:
        path = root / file.path
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            told = f"{path}: the file is gone; nothing was restored"
            raise storage.GalleryDamagedError(told) from error
        if size != file.bytes:
            raise storage.GalleryDamagedError(
                f"{path}: {size} bytes where the log says {file.bytes}; nothing was restored"
            )
    return [logged[file.path] for file in files]
