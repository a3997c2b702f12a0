"""How values are given to settings on a command line."""

from cyclopts import Parameter
from cyclopts.field_info import FieldInfo

_SHORT = {"k": "-k"}
"""Short flags by setting; `-v` is declared with `--verbose`."""


def _short_of(field: FieldInfo, used: frozenset[str]) -> str | None:
    """The short flag of a setting, in whichever verb or group of settings it is."""
    del used
    return _SHORT.get(field.name)


# --scales 1 1.1 1.2 as well as --scales 1 --scales 1.1 --scales 1.2
OF_SETTINGS = Parameter(negative_iterable=(), consume_multiple=True, short_alias=_short_of)
