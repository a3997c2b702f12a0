"""The profile of a submission: defaults for the flags of `submit`, and of the verb to submit."""

import itertools
from collections.abc import Callable, Container, Sequence
from contextvars import ContextVar
from typing import Any

from cyclopts import CycloptsError

from cluster.submit_profile import SubmitProfile, read_profile
from pipeline.errors import InputError

_read: ContextVar[tuple[str, SubmitProfile] | None] = ContextVar("profile", default=None)
"""The profile of this command line, and how it was named: it is read once, though used twice."""


def defaults(tokens: Sequence[str]) -> tuple[dict[str, Any], str] | None:
    """The values that a profile among the arguments has for flags of this verb, and its file.

    Of a profile, only the address is of use to --list, --attach and --stop.
    """
    own = list(itertools.takewhile("--".__ne__, tokens))
    name = None
    _read.set(None)
    for token, following in itertools.zip_longest(own, own[1:]):
        if token == "--profile":
            name = following
        elif token.startswith("--profile="):
            name = token.partition("=")[2]
    if not name:
        return None
    profile = read_profile(name)
    _read.set((name, profile))
    values = dict(profile.submission)
    if not {"--list", "--attach", "--stop"}.isdisjoint(token.partition("=")[0] for token in own):
        values = {key: value for key, value in values.items() if key == "address"}
    return values, str(profile.file)


def with_profile(
    name: str | None,
    command: tuple[str, ...],
    check: Callable[[tuple[str, ...]], Any],
    verbs: Container[str],
) -> tuple[tuple[str, ...], Any]:
    """The verb with the defaults of a profile, where neither a flag nor --config says otherwise.

    `check` parses a command line into a call, and `verbs` are all that there are. Raise InputError
    for a profile that does not fit.
    """
    call = check(command)
    if name is None or call.verb is None:
        return command, call
    read = _read.get()
    profile = read[1] if read is not None and read[0] == name else read_profile(name)
    if unknown := [each for each in profile.verbs if each not in verbs]:
        raise InputError(f"--profile {name}: {profile.file}: [{unknown[0]}] is not a verb")
    given = [*(token.partition("=")[0] for token in command), *call.of_file]
    if not (more := tuple(profile.arguments(call.verb, given))):
        return command, call
    command = (*command, *more)
    try:
        return command, check(command)
    except CycloptsError as error:
        error.verbose = False
        told = " ".join(str(error).split())
        raise InputError(f"--profile {name}: {profile.file}, [{call.verb}]: {told}") from error
