"""Files that commands write: checks before the work, and errors that name the file.

An existing file that no command of this tool wrote is never replaced.
"""

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import InputError, RunError
from pipeline.input_files import why

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE_BYTES = 512
_HEAD_BYTES = 4096
_TOKEN_BYTES = 4


@contextmanager
def name_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failure to write into a `RunError` with the name of the file, which systems omit."""
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno in _FULL else "see to that"
        raise RunError(
            f"{path}: the file cannot be written ({why(error)}): {advice}, and run the same"
            " command again"
        ) from error


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to disk, and rename it to `path`.

    A reader finds the complete new file, the older one, or none. Half-written files of killed runs
    are deleted first. Raise `RunError` if the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}")
    try:
        with name_write_errors(path):
            for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 2 * _TOKEN_BYTES}"):
                left.unlink(missing_ok=True)
            with beside.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_file_name(path: Path) -> None:
    """Raise `InputError` for an impossible file name: too long, or with a null character."""
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{path}: no file can have this name ({why(error)})") from error


def check_new_folder(folder: str | os.PathLike[str]) -> None:
    """Check that files can be written to a folder, which may not exist yet.

    Raise `InputError` if the folder is read-only or a file is in the way, and `RunError` if the
    disk is full.
    """
    wanted = Path(folder).absolute()
    check_file_name(wanted)
    place = next(each for each in (wanted, *wanted.parents) if os.path.lexists(each))
    if not place.is_dir():
        raise InputError(f"{place}: this is not a folder, and a folder is needed there")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        if error.errno in _FULL:
            raise RunError(
                f"{place}: the disk is full ({why(error)}): free some space, and run the same"
                " command again"
            ) from error
        raise InputError(
            f"{place}: no file can be written there ({why(error)}): choose another place, or ask"
            " for the right to write there"
        ) from error


def check_new_file(
    path: str | os.PathLike[str], setting: str, is_ours: Callable[[Path], bool]
) -> None:
    """Check that a file can be written, in place of an older one only if `is_ours` accepts it.

    `setting` is the name of the setting that names the file. An empty file may be replaced too.
    Raise the errors of `check_new_folder`, and `InputError` for a missing folder, a folder in place
    of the file, and a file of another program.
    """
    wanted = Path(path).absolute()
    check_file_name(wanted)
    if os.path.isdir(wanted) or not os.path.isdir(wanted.parent):  # noqa: PTH112 - never raises
        raise InputError(f"`{setting}` {path} must be a file in a folder that exists")
    check_new_folder(wanted.parent)
    check_replaceable(wanted, setting, is_ours)


def check_replaceable(path: Path, setting: str, is_ours: Callable[[Path], bool]) -> None:
    """Raise `InputError` for an existing file that this tool did not write."""
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise InputError(f"`{setting}` {path}: this is not a regular file; choose another name")
    if path.stat().st_size and not is_ours(path):
        raise InputError(
            f"`{setting}` {path}: this file is there already, and was not written by regallery:"
            " choose another name, or move the file away"
        )


def has_mark(path: Path, mark: bytes) -> bool:
    """Whether a file has these bytes near its beginning."""
    try:
        with path.open("rb") as file:
            return mark in file.read(_HEAD_BYTES)
    except OSError:
        return False
