"""Spans of time in words, as in settings."""

import re
from datetime import timedelta

from pipeline.errors import InputError

_AGE = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str, units: str = "hdw") -> timedelta:
    """A span such as 36h, 90d or 12w; `units` are the letters that may stand for seconds, minutes,
    hours, days and weeks.

    Raise InputError for another text. Minutes and months are easily mixed up, so long spans have
    neither.

    >>> parse_span("90d"), parse_span("15m", "smh")
    (datetime.timedelta(days=90), datetime.timedelta(seconds=900))
    """
    found = _AGE.fullmatch(text)
    if not found or found[2] not in units:
        examples = "36h, 90d or 12w" if "w" in units else "30s, 15m or 2h"
        raise InputError(f"{text!r} is not a span of time: give one such as {examples}")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError as error:
        raise InputError(f"{text!r}: no time is that long ago") from error
