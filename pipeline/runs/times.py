"""Points in time as text."""

from datetime import UTC, datetime

from pipeline.errors import InputError


def parse_time(name: str, text: str | None) -> datetime | None:
    """A date or time in ISO 8601; None for None. `name` says in an error what was given.

    Without a zone it is UTC, without a time the beginning of the day.

    >>> parse_time("`at`", "2026-03-01")
    datetime.datetime(2026, 3, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> parse_time("`at`", "2026-03-01T12:30Z")
    datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.timezone.utc)
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{name} {text!r} is not a time: give one such as 2026-03-01 or 2026-03-01T12:30Z"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
