"""Make text safe for a terminal: characters that would control the terminal are spelled out.

Names of files, galleries and cameras come from other people. An escape sequence among them could
move the cursor, rewrite lines that were shown, or set the clipboard; a bidirectional override would
show a name in the wrong order.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TypeVar

Result = TypeVar("Result")

# C0, DEL and C1; separators of lines; bidirectional overrides and isolates; lone surrogates, which
# stand for bytes of a file name that are not UTF-8, and which no stream can write.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with every control character spelled out, except those in `keep`.

    >>> print(printable("red\x1b[31m\n"))
    red\x1b[31m\n
    >>> printable("one\ntwo\x1b", keep="\n")
    'one\ntwo\\x1b'
    """
    return _STEERING.sub(lambda match: _spelled(match[0], keep), text)


def printable_values(value: Result) -> Result:
    r"""A result with all of its text printable, at any depth.

    >>> printable_values({"gallery": ["g\n"], "rows": 3})
    {'gallery': ['g\\n'], 'rows': 3}
    """
    made: Any = value
    if isinstance(value, str):
        made = printable(value)
    elif isinstance(value, PurePath):
        made = type(value)(printable(str(value)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = [each.name for each in dataclasses.fields(value) if each.init]
        made = dataclasses.replace(
            value, **{name: printable_values(getattr(value, name)) for name in named}
        )
    elif isinstance(value, Mapping):
        made = {printable_values(k): printable_values(v) for k, v in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        made = type(value)(printable_values(item) for item in value)
    return made


def _spelled(character: str, keep: str) -> str:
    if character in keep:
        return character
    return character.encode("unicode_escape").decode()
