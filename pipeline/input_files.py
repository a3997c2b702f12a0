"""Files from users, with any content: open, read and parse them so that faults become clear errors.

Content that a parser does not expect (a value nested a thousand times, a pipe that never ends)
becomes an error of one line like any other.
"""

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

_LONGEST_TEXT = 64 << 20

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise InputError unless the path is a regular file, because a pipe or a device might never
    end.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a path of either type)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({why(error)})") from error
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise InputError(f"{path}: this is {name}, not a file")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read the text of a regular file, in UTF-8.

    Raise InputError if there is none, and for a file above 64 MiB.
    """
    check_file(path)
    try:
        if (size := Path(path).stat().st_size) > _LONGEST_TEXT:
            raise InputError(f"{path}: {size:,} bytes are too many ({_LONGEST_TEXT:,} may be)")
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({why(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not text in UTF-8 ({error})") from error


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text; raise ValueError if it is not JSON, or too deeply nested.

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text; raise ValueError if it is not TOML, or too deeply nested.

    >>> parse_toml("a = 1")
    {'a': 1}
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def why(error: Exception) -> str:
    """The reason why a file cannot be read, in one line: the first line of a library's error, or
    its name.

    >>> why(OverflowError()), why(ValueError("bad header\\nin line 3"))
    ('OverflowError', 'bad header')
    """
    reason = getattr(error, "strerror", None) or str(error)
    return next(iter(str(reason).strip().splitlines()), "") or type(error).__name__
