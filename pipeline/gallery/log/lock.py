"""One writer at a time: a lock file with an owner and an expiry.

The lock is the file `_lock` in the folder of a gallery, or of a training. It says who writes, since
when and until when; a thread of the owner renews the expiry. The lock of a dead process of this
machine is free at once. Any other lock, including that of a process that is hidden from us, is free
once it has expired. The file is read and changed only under `flock`, so that two processes never
both take a stale lock; in an object store it is a lease (`lease`). There the lock only saves work:
of two commits on one version the store accepts one, whoever believes to hold the lock.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import InputError, RunError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, root_of
from pipeline.gallery.lock_waiting import EXPIRY_SECONDS, waiting_seconds
from pipeline.gallery.log.lease import Lease, OvertakenError
from pipeline.input_files import parse_json

_RENEWALS_PER_EXPIRY = 10
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_FAR_SECONDS = 86_400.0
"""An expiry later than this was set by a wrong clock, or not by this tool."""

_ASKING_SECONDS = 1.0

_log = logging.getLogger(__name__)


class LockHeldError(InputError):
    """Another process writes to the folder."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock: `token` is unique to this holding; times are seconds since 1970."""

    token: str
    purpose: str
    host: str
    machine: str
    process: int
    process_started: str
    since: float
    expires: float

    def __post_init__(self) -> None:
        """Raise `ValueError` or `TypeError` for values that no writer sets."""
        for name in ("token", "purpose", "host", "machine", "process_started"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is not text")
        if not (isinstance(self.process, int) and 0 < self.process < 1 << 31):
            raise ValueError(f"{self.process} is not a process")
        if not (0 <= self.since < _LATEST and 0 <= self.expires < _LATEST):
            raise ValueError(f"{self.since} or {self.expires} is not a time")

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return f"{self.purpose!r} (process {self.process} on {self.host}, since {since})"


@dataclass(frozen=True)
class Lock:
    """A held lock; pass it to what changes the folder."""

    location: str
    token: str

    def check(self) -> None:
        """Raise `RunError` if we have lost the lock, for instance after this machine slept."""
        owner = _owner(_path(self.location))
        if owner is None or owner.token != self.token:
            now = "nobody" if owner is None else str(owner)
            raise RunError(
                f"{self.location}: the lock was lost to {now}; nothing was committed, run the "
                "command again"
            )


@contextmanager
def hold(location: str, purpose: str, *, expiry: float = EXPIRY_SECONDS) -> Iterator[Lock]:
    """Hold the lock of a folder, which is made if necessary.

    `purpose` says what the owner does. Raise `LockHeldError` naming the owner if another one still
    holds the lock after the time of `waited_for`.
    """
    storage.make_folder(root_of(location))
    path = _path(location)
    token = uuid.uuid4().hex
    _take_in_time(path, token, purpose, expiry)
    stop = threading.Event()
    renewal = threading.Thread(
        target=_renew_until, args=(stop, path, token, expiry), name="gallery-lock", daemon=True
    )
    renewal.start()
    try:
        yield Lock(str(location), token)
    finally:
        stop.set()
        renewal.join()
        _release(path, token)


def holder(location: str) -> Owner | None:
    """The current writer of a folder, or None. Nothing is opened for writing."""
    try:
        owner = _owner(_path(location), only_read=True)
    except FileNotFoundError:
        return None
    return owner if owner is not None and _is_alive(owner) else None


def _owner(path: GalleryPlace, *, only_read: bool = False) -> Owner | None:
    with _opened(path, only_read=only_read) as file:
        return _read(file)


def _path(location: str) -> GalleryPlace:
    return root_of(location) / storage.LOCK_FILE


def _new_owner(token: str, purpose: str, expiry: float) -> Owner:
    now = time.time()
    process = os.getpid()
    return Owner(
        token=token,
        purpose=purpose,
        host=socket.gethostname(),
        machine=_machine(),
        process=process,
        process_started=_process_started(process) or "",
        since=now,
        expires=now + expiry,
    )


def _take_in_time(path: GalleryPlace, token: str, purpose: str, expiry: float) -> None:
    """Take the lock, or wait for it for the requested time."""
    deadline = time.monotonic() + waiting_seconds()
    told = False
    while True:
        try:
            _take(path, _new_owner(token, purpose, expiry))
            return
        except OvertakenError:
            continue
        except LockHeldError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if not told:
                _log.info("%s; waiting for up to %g seconds", error, waiting_seconds())
            told = True
        time.sleep(min(left, _ASKING_SECONDS))


def _take(path: GalleryPlace, owner: Owner) -> None:
    with _opened(path) as file:
        other = _read(file)
        if other is not None:
            if _is_alive(other):
                raise LockHeldError(
                    f"{path.parent}: this folder is being changed by {other}; try again when it "
                    f"has finished{_doubt(path, other)}"
                )
            _log.warning("%s: the lock of %s was left behind and is taken over", path.parent, other)
        _write(path, file, owner)


def _doubt(path: GalleryPlace, owner: Owner) -> str:
    """Advice for a lock that would block everybody for more than a day."""
    if owner.expires < time.time() + _FAR_SECONDS:
        return ""
    until = datetime.fromtimestamp(owner.expires, UTC).isoformat(timespec="seconds")
    return f" (it expires on {until}, which no writer asks for: if none runs, delete {path})"


def _release(path: GalleryPlace, token: str) -> None:
    try:
        with _opened(path) as file:
            owner = _read(file)
            if owner is not None and owner.token == token:
                _write(path, file, None)
    except FileNotFoundError:
        _log.warning("%s: the lock file was removed while it was held", path)
    except OvertakenError:
        _log.warning("%s: the lock was taken by another writer while it was held", path)
    except (InputError, RunError) as error:
        _log.warning("the lock could not be released: %s", error)


def _renew_until(stop: threading.Event, path: GalleryPlace, token: str, expiry: float) -> None:
    while not stop.wait(expiry / _RENEWALS_PER_EXPIRY):
        try:
            with _opened(path) as file:
                owner = _read(file)
                if owner is None or owner.token != token:
                    _log.warning("%s: the lock was lost; the commit will be refused", path)
                    return
                _write(path, file, replace(owner, expires=time.time() + expiry))
        except OvertakenError:  # the next turn sees by whom
            continue
        except (OSError, InputError, RunError) as error:
            _log.warning("%s: the lock could not be renewed: %s", path, error)


def _is_alive(owner: Owner) -> bool:
    started = _process_started(owner.process) if owner.machine == _machine() else None
    if started is not None:
        return started == owner.process_started
    return time.time() < owner.expires


@contextmanager
def _opened(path: GalleryPlace, *, only_read: bool = False) -> Iterator[int | Lease]:
    """Yield the lock file, open and under `flock`, or the lease; make it unless it is only read."""
    if isinstance(path, ObjectPlace):
        yield Lease(path)
        return
    # Opening a pipe or a device may wait, or do anything; the target of a link is not ours.
    if os.path.lexists(path) and not storage.is_own_file(path):
        raise _no_lock_file(path)
    flags = os.O_RDONLY if only_read else os.O_RDWR | os.O_CREAT
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
    except FileNotFoundError:  # the folder has gone, or nobody ever wrote
        raise
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            what = "lock cannot be read" if only_read else "folder cannot be written to"
            raise InputError(f"{path.parent}: the {what}") from error
        raise RunError(f"{path}: the lock cannot be opened ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_lock_file(path)
        # A file system may refuse a lock, and a network's an exclusive one to a reader.
        with suppress(OSError) if only_read else nullcontext():
            fcntl.flock(descriptor, fcntl.LOCK_SH if only_read else fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _no_lock_file(path: GalleryPlace) -> InputError:
    return InputError(f"{path}: this is not a regular file, and so no lock; remove it")


def _read(file: int | Lease) -> Owner | None:
    """The owner; None for an empty or half-written file, or one that this tool did not write."""
    try:
        data = file.read() if isinstance(file, Lease) else os.pread(file, 1 << 16, 0)
        return Owner(**parse_json(data))
    except (ValueError, TypeError):
        return None


def _write(path: GalleryPlace, file: int | Lease, owner: Owner | None) -> None:
    """Name the owner; nobody for None. Raise `OvertakenError` for a lease that has changed."""
    text = json.dumps(asdict(owner)).encode() if owner else b""
    if isinstance(file, Lease):
        file.write(text)
        return
    with storage.name_write_errors(path):
        if text:
            os.pwrite(file, text, 0)
        os.ftruncate(file, len(text))


def _machine() -> str:
    """The host, its boot and its process namespace: within these, a process number means one
    process.
    """
    parts = [socket.gethostname()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if boot.exists():
        parts.append(boot.read_text().strip())
    if namespace.exists():
        parts.append(str(namespace.readlink()))
    return "/".join(parts)


def _process_started(process: int, system: GalleryPlace = Path("/proc")) -> str | None:
    """A text that is the same for a process as long as it runs: when it started.

    It is empty if the process has ended, and None if that is unknown: `/proc` may hide processes
    of other users. Without `/proc`, a running process of this number counts as the lock's owner.
    """
    if (system / "self" / "stat").exists():
        try:
            text = (system / str(process) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None if _runs(process) else ""
        state, *fields = text.rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    return "running" if _runs(process) else ""


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
