"""Points in time as arguments."""

from datetime import UTC, datetime

from pipeline.errors import InputError


def moment(flag: str, text: str) -> datetime:
    """A date or time in ISO 8601; without a zone it is UTC, without a time the day's beginning.

    >>> moment("--at", "2026-03-01")
    datetime.datetime(2026, 3, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> moment("--at", "2026-03-01T12:30+02:00").isoformat()
    '2026-03-01T12:30:00+02:00'
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{flag} {text!r} is no time: give it as in 2026-03-01 or 2026-03-01T12:30Z"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
