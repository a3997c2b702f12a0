"""Turn names of settings into flags: the library says `max_rejects`, the command --max-rejects."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

_NAMED = re.compile(r"`([a-z][a-z0-9_]*)`")
_flags: ContextVar[frozenset[str]] = ContextVar("flags", default=frozenset())


def name_flags_of(function: Callable[..., Any]) -> None:
    """From now on, `as_flags` knows the flags of this verb."""
    _flags.set(frozenset(_fields(inspect.signature(function).parameters.values())))


def as_flags(text: str) -> str:
    """The text with every setting of the verb written as its flag.

    >>> def verb(*, max_rejects: float = 0.01): ...
    >>> name_flags_of(verb)
    >>> as_flags("raise `max_rejects`, and see `SELECT`")
    'raise --max-rejects, and see `SELECT`'
    """
    known = _flags.get()
    return _NAMED.sub(
        lambda found: (
            f"--{found[1].rstrip('_').replace('_', '-')}" if found[1] in known else found[0]
        ),
        text,
    )


def _fields(parameters: Iterable[inspect.Parameter]) -> Iterable[str]:
    for each in parameters:
        if dataclasses.is_dataclass(each.default):
            yield from (field.name for field in dataclasses.fields(each.default))
        elif each.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            yield each.name
