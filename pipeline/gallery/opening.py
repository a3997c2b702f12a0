"""Open a gallery's folder: a version of it to read, and its lock to write.

Also check whether a folder is a gallery or may become one, without reading a version.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gallery import chain, chain_checks, checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, check_store, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import entries as log_files
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.lock import Lock, hold
from pipeline.output_files import check_file_name, check_new_folder


def read_version(root: GalleryPlace, version: int | None = None) -> log.Snapshot:
    """A version of the gallery in a folder, the latest by default, with its log checked.

    Raise what `Gallery.open` raises.
    """
    is_checked = chain.is_recorded(root) and log.is_log(root)
    if is_checked:
        chain_checks.check_chain(root, version)
    snapshot = log.read_log(root, version)
    if not is_checked:
        chain.read_log_record(root)  # missing, although the format has one
    missing = {"recipe", "fingerprint", "dimension", "dtype"} - snapshot.properties.keys()
    if missing:
        raise GalleryDamagedError(f"{root}: the gallery's log does not have its {min(missing)}")
    return snapshot


def exists(location: str) -> bool:
    """Whether the location holds a Delta table; `Gallery.open` checks that it is a gallery."""
    return log.is_log(root_of(location))


def check_location(location: str) -> None:
    """Raise `InputError` unless the location is free for a gallery or holds a Delta table."""
    root = root_of(location)
    if isinstance(root, Path):
        check_file_name(root)
    log.check_folder_name(root)
    if log.is_log(root) or not root.exists():
        return
    if root.is_file() if isinstance(root, ObjectPlace) else not root.is_dir():
        raise InputError(f"{root}: this is a file; a gallery needs a folder")
    others = sorted(path.name for path in root.iterdir() if path.name not in storage.OWN_NAMES)
    if others:
        raise InputError(
            f"{root}: the folder holds other files ({others[0]}); give a new or an empty folder"
        )


def check_writable(location: str) -> None:
    """Raise the errors of `check_location`, and `InputError` or `RunError` if no file can be
    written.

    In an object store, this tries to write.
    """
    check_location(location)
    root = root_of(location)
    if isinstance(root, ObjectPlace):
        check_store(root)
    else:
        check_new_folder(root)


def lock_gallery(location: str, purpose: str) -> AbstractContextManager[Lock]:
    """Hold the lock of a gallery from plan to commit; see `pipeline.gallery.log.lock.hold`.

    Half-written files of killed writers are deleted first; finished files stay.
    """
    check_location(location)
    return _tidied(location, purpose)


@contextmanager
def _tidied(location: str, purpose: str) -> Iterator[Lock]:
    root = root_of(location)
    with hold(location, purpose) as lock:
        for name in ("", *storage.WRITTEN_FOLDERS, storage.CHECKSUMS_FOLDER):
            storage.drop_cut_off(root / name)
        log_files.drop_cut_off_entries(root)
        if log.is_log(root) and any(name[:1].isdigit() for name in checksums.recorded(root)):
            # Row files that were finished, and perhaps committed by a run that was killed
            # afterwards.
            tidy_records(root, read_version(root))
        else:
            checksums.sweep_writers(root)
        yield lock


def keep_or_take_lock(
    location: str, lock: Lock | None, purpose: str
) -> AbstractContextManager[Lock]:
    """The lock that the caller holds, or a new one."""
    if lock is None:
        return lock_gallery(location, purpose)
    if root_of(lock.location) != root_of(location):
        raise InputError(f"{location}: the lock is that of {lock.location}")
    lock.check()
    return nullcontext(lock)


def tidy_records(root: GalleryPlace, snapshot: log.Snapshot) -> None:
    """Drop the records of files that the log now names, and finish or undo the work of killed
    runs.
    """
    committed = {file.path for file in snapshot.files}
    checksums.forget(root / name for name in checksums.recorded(root) & committed)
    checksums.sweep_writers(root)
