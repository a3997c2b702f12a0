"""Scratch: the folder outside of the galleries in which a long run stores features and graphs.

Its name depends on the inputs, so that the same command finds it after a kill and resumes. Each
gallery whose features are in it lists it in a small file of its folder `_scratch`, so that the next
run, or a purge, can remove the remains of a killed run. A run holds a lock (`flock`) in its folder
while it lives. The folder names the machine that made it, because the same path may be another
folder on another machine. An entry has the path of its gallery: entries in a copied gallery belong
to the original.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.contents import contents_hash
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, can_write, in_order, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json

_log = logging.getLogger(__name__)
_FORMAT = 1
_NAME = re.compile(r"regallery-[a-z]+-[0-9a-f]{32}(-\d+)?")
_ABOUT = "scratch.json"
_TRIES = 20
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class ScratchEntry:
    """A scratch folder that a gallery lists in `file`; `gallery` was the path of that gallery.

    It names the verb and the machine that made the folder, and the version of the gallery.
    """

    file: GalleryPlace
    gallery: str
    folder: Path
    host: str
    verb: str
    version: int

    def __str__(self) -> str:
        source = f"version {self.version}"
        if self.gallery != _place(self.file.parents[1]):
            source += f" of {self.gallery}"
        return f"{self.folder} on {self.host} ({self.verb} of {source})"


@contextmanager
def scratch_folder(
    base: Path | None, verb: str, galleries: Sequence[Gallery], settings: Any
) -> Iterator[Path]:
    """A folder below `base` (default: the folder for temporary files) for a run of `verb` on
    `galleries`.

    It holds copied features, and the files that a killed run with the same `settings` left. The
    files in it depend only on the galleries and on `settings`. Folders of killed runs with other
    settings are deleted first. The folder is deleted at the end, and if the input is refused; after
    any other error it stays, so that the same command can resume. Raise `InputError` if it cannot
    be made, and for a version that was removed meanwhile.
    """
    base = Path(tempfile.gettempdir()) if base is None else base
    sources = list({each.location: each for each in galleries}.values())
    folder, lock = _claim(base, f"regallery-{verb}-{_digest(sources, settings)}")
    try:
        entries = [_register(each, folder, verb) for each in sources]
        try:
            _check_still_there(sources)
            for each in sources:
                drop_abandoned(each.location)
            yield folder
        except InputError:
            _remove(folder, lock, entries)
            raise
        _remove(folder, lock, entries)
    finally:
        os.close(lock)


def drop_abandoned(location: str) -> None:
    """Delete the scratch folders of killed runs that a gallery lists.

    Those that cannot be reached from here stay listed.
    """
    root = root_of(location)
    for entry in _entries(root) if can_write(root) else ():
        if _is_gone(entry):
            storage.delete_files([entry.file])
        elif _is_reached(entry) and _remove_unused(entry):
            _log.info("deleted what a killed run left: %s", entry)


def abandoned(location: str) -> list[ScratchEntry]:
    """The scratch folders, listed by a gallery, that `drop_abandoned` would delete."""
    root = root_of(location)
    return [entry for entry in _entries(root) if _is_reached(entry) and _is_unused(entry)]


def check_unused(root: GalleryPlace, version: int) -> None:
    """Raise `RunError` if a run is working in a scratch folder made from a version before this
    one.
    """
    for entry in _entries(root):
        if entry.version < version and _is_reached(entry) and not _is_unused(entry):
            raise _at_work(entry)


def drop_before(root: GalleryPlace, version: int) -> tuple[int, tuple[str, ...]]:
    """Delete the listed scratch folders of versions before this one, after these have left the log.

    Return their number, and the folders that cannot be reached from here. Raise the errors of
    `check_unused`.
    """
    dropped, left = 0, []
    for entry in _entries(root):
        if entry.version >= version:
            continue
        if _is_gone(entry):
            storage.delete_files([entry.file])
        elif not _is_reached(entry):
            left.append(f"{entry}, listed in {entry.file}")
        elif _remove_unused(entry):
            dropped += 1
        else:
            raise _at_work(entry)
    return dropped, tuple(left)


def is_scratch(folder: Path) -> bool:
    """Whether a folder has the name of a scratch folder, and the file that marks one."""
    return _NAME.fullmatch(folder.name) is not None and storage.is_own_file(folder / _ABOUT)


def _digest(galleries: Sequence[Gallery], settings: Any) -> str:
    """A hash of everything that determines the files of a folder, including this program's
    version.
    """
    made_from = [
        [each.location, each.version, each.fingerprint, contents_hash(each)] for each in galleries
    ]
    program = metadata.version("regallery")
    told = json.dumps([_FORMAT, program, made_from, settings], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _claim(base: Path, name: str) -> tuple[Path, int]:
    """Make or find a folder of this name (with a number if another run has it), and lock its file.

    First delete the remains of a run that was killed while it deleted the folder.
    """
    number = 0
    while True:
        folder = base / (f"{name}-{number}" if number else name)
        number += 1
        if not _make(folder):
            continue
        lock = _locked(folder)
        if lock is None:
            continue
        if _made_on(folder) is None:
            _empty(folder)
            text = json.dumps({"regallery_scratch": _FORMAT, "host": socket.gethostname()})
            with storage.name_write_errors(folder / _ABOUT):
                os.pwrite(lock, text.encode(), 0)
        return folder, lock


def _make(folder: Path) -> bool:
    """Make the folder; return whether it exists and belongs to this user."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return _is_own_folder(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder for features and graphs cannot be made ({error.strerror}); give"
            " another place for it with `scratch`"
        ) from error
    return True


def _is_own_folder(folder: Path) -> bool:
    """Whether it is a folder of this user, not a link."""
    try:
        about = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()


def _has_no_lock(folder: Path) -> bool:
    """Whether there is a link, a folder or a pipe in place of the locked file."""
    with suppress(FileNotFoundError):
        return not stat.S_ISREG((folder / _ABOUT).lstat().st_mode)
    return False


def _locked(folder: Path) -> int | None:
    """The locked file of a scratch folder, or None.

    It is None if another run holds it, if the folder has just been deleted, or if something else is
    in the place of the file.
    """
    if _has_no_lock(folder):
        return None
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(folder / _ABOUT, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return lock
    except BlockingIOError:
        pass
    except OSError as error:
        os.close(lock)
        raise InputError(
            f"{folder.parent}: this file system has no locks ({error.strerror}); choose another"
            " folder for features and graphs with `scratch`"
        ) from error
    os.close(lock)
    return None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _ABOUT:
            path.unlink()


def _register(gallery: Gallery, folder: Path, verb: str) -> ScratchEntry:
    """Write the entry into the gallery's folder; warn if that cannot be written to."""
    root = root_of(gallery.location)
    host = _made_on(folder) or socket.gethostname()
    name = hashlib.blake2b(f"{host}:{folder}".encode(), digest_size=16).hexdigest()
    file = root / storage.SCRATCH_FOLDER / f"{name}.json"
    if not can_write(root):
        _log.warning(
            "%s cannot be written to: a purge of it would not find %s, if this run is killed",
            root,
            folder,
        )
        return ScratchEntry(file, _place(root), folder, host, verb, gallery.version)
    about = {
        "gallery": _place(root),
        "folder": str(folder),
        "host": host,
        "verb": verb,
        "version": gallery.version,
    }
    text = json.dumps(about, indent=2) + "\n"
    storage.make_folder(file.parent)
    storage.drop_cut_off(file.parent)
    checksums.write_recorded(file, lambda temporary: temporary.write_text(text))
    return ScratchEntry(file, _place(root), folder, host, verb, gallery.version)


def _check_still_there(galleries: Sequence[Gallery]) -> None:
    """Raise `InputError` for a version that a purge removed, perhaps before it saw our entry."""
    for each in galleries:
        if each.version < oldest_version(root_of(each.location)):
            raise InputError(f"{each.location}: version {each.version} was removed meanwhile")


def _entries(root: GalleryPlace) -> list[ScratchEntry]:
    """The entries of a gallery; raise `GalleryDamagedError` for a file that no run wrote."""
    found = []
    for file in in_order((root / storage.SCRATCH_FOLDER).glob("*.json")):
        data = checksums.read_recorded(file, "delete the scratch folder that it named")
        if data is None:  # its run has finished
            continue
        try:
            about = parse_json(data)
            folder, version = Path(about["folder"]), int(about["version"])
            lay, host, verb = (str(about[name]) for name in ("gallery", "host", "verb"))
            entry = ScratchEntry(file, lay, folder, host, verb, version)
        except (ValueError, KeyError, TypeError) as error:
            raise GalleryDamagedError(
                f"{file}: this does not name a scratch folder ({error}); delete it"
            ) from error
        if not _NAME.fullmatch(entry.folder.name) or not entry.folder.is_absolute():
            raise GalleryDamagedError(f"{file}: {entry.folder} is not a scratch folder; delete it")
        found.append(entry)
    return found


def _place(root: GalleryPlace) -> str:
    return str(root.resolve())


def _made_on(folder: Path) -> str | None:
    """The machine that made a scratch folder; None if the folder does not name it (yet)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if not _has_no_lock(folder):  # a pipe would be read forever
            return str(parse_json((folder / _ABOUT).read_text())["host"])
    return None


def _is_gone(entry: ScratchEntry) -> bool:
    """Whether this machine made the folder, and it no longer exists."""
    is_here = entry.host == socket.gethostname()
    return is_here and entry.folder.parent.is_dir() and not os.path.lexists(entry.folder)


def _is_reached(entry: ScratchEntry) -> bool:
    """Whether the folder at this path on this machine is the listed one, and may be deleted."""
    if entry.gallery != _place(entry.file.parents[1]):
        return False
    if not _is_own_folder(entry.folder) or not can_write(entry.folder):
        return False
    if _has_no_lock(entry.folder):
        return False
    made_on = _made_on(entry.folder)
    return entry.host == (socket.gethostname() if made_on is None else made_on)


def _is_unused(entry: ScratchEntry) -> bool:
    """Whether no run is working in the folder."""
    lock = _locked(entry.folder)
    if lock is None:
        return False
    os.close(lock)
    return True


def _remove_unused(entry: ScratchEntry) -> bool:
    """Delete the folder, unless a run is working there."""
    lock = _locked(entry.folder)
    if lock is None:
        return False
    try:
        _remove(entry.folder, lock, [entry])
    finally:
        os.close(lock)
    return True


def _remove(folder: Path, lock: int, entries: Sequence[ScratchEntry]) -> None:
    """Delete a folder whose lock we hold, then its entry."""
    os.ftruncate(lock, 0)  # after a kill from here on, no run resumes from the rest
    _delete(folder)
    storage.delete_files(entry.file for entry in entries)


def _delete(folder: Path) -> None:
    """Delete a folder in which a worker of a killed run may still write for some seconds."""
    for attempt in range(1, _TRIES + 1):
        try:
            shutil.rmtree(folder)
            break
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or attempt == _TRIES:
                raise
            if not folder.exists():
                break
            time.sleep(_WAIT_SECONDS)


def _at_work(entry: ScratchEntry) -> RunError:
    return RunError(
        f"{entry}: a run is at work there on a version that is to be purged; the rows are gone from"
        " the latest version, and older ones still hold them: run the command again when it has"
        " finished"
    )
