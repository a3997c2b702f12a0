"""Ask the user before an act that cannot be undone."""

import sys

from rich.console import Console
from rich.prompt import Confirm

from pipeline.errors import InputError


def confirm(deed: str, *, yes: bool, is_grave: bool) -> None:
    """Return if the user or --yes confirms; without a terminal only a grave act needs --yes.

    `deed` says what would be done, such as "erase 3 of 4 rows of G".

    Raises:
        InputError: the user answers no or does not answer.
    """
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        try:
            agreed = Confirm.ask("Go on?", console=Console(stderr=True), default=False)
        except EOFError:
            agreed = False
        if not agreed:
            raise InputError(f"nothing was changed: you did not agree to {deed}")
    elif is_grave:
        raise InputError(f"nothing was changed: to {deed}, add --yes")
