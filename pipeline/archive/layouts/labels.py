"""What a name can say of an image: identity, camera, time, frame."""

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from pipeline.errors import InputError

LARGEST_ID = 2**63 - 1

_FRACTION = r"[.,]\d{1,9}|[-_:]?\d{3}"
_CLOCK = "|".join(
    rf"\d\d{mark}\d\d(?:{mark}\d\d(?:{_FRACTION})?)?" for mark in ("", "-", "_", r"\.", ":")
)
_EPOCH = r"\d{10}|\d{13}|\d{16}"

DATE = "(?:" + "|".join(rf"\d{{4}}{mark}\d\d{mark}\d\d" for mark in ("", "-", "_", r"\.")) + ")"
TIME = rf"(?:{_CLOCK})(?:Z|[+-]\d\d:?\d\d)?"
MOMENT = rf"(?:{_EPOCH}|{DATE}(?:[T _-]?{TIME})?)"

_MOMENT = re.compile(
    rf"(?P<epoch>{_EPOCH})"
    rf"|(?P<date>{DATE})(?:[T _-]?(?P<clock>{_CLOCK})(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_START = datetime(1970, 1, 1, tzinfo=UTC)


class LayoutError(InputError):
    """A name does not fit the layout: the message tells both."""


class Labels(NamedTuple):
    """The labels of one image; None where its name says nothing."""

    identity: int | None = None
    camera: str | None = None
    captured_at: datetime | None = None
    frame: int | None = None


def identity_number(text: str) -> int:
    """The int64 that stands for an identity's text.

    A whole number is itself (-1 is junk and 0 a distractor, as Market-1501 has it). Any other text,
    and a number beyond int64, becomes a stable positive number: 63 bits of its BLAKE2b hash.
    Raises LayoutError for a number below -1, which has no meaning.

    >>> identity_number("0007"), identity_number("-1"), identity_number("16777217")
    (7, -1, 16777217)
    >>> identity_number("alice") == identity_number("alice") > 2**32
    True
    """
    if re.fullmatch(r"-?\d+", text, re.ASCII):
        number = int(text)
        if number < -1:
            raise LayoutError(f"identity {text} has no meaning: -1 is junk, 0 a distractor")
        if number <= LARGEST_ID:
            return number
    digest = blake2b(text.encode(), digest_size=8).digest()
    return max(1, int.from_bytes(digest, "big") >> 1)


def whole_number(text: str, plus: int = 0) -> int:
    """An int64 from digits, and more; raises LayoutError where it does not fit.

    >>> whole_number("000451")
    451
    """
    number = int(text) + plus
    if number > LARGEST_ID:
        raise LayoutError(f"the number {text} does not fit 64 bits")
    return number


def moment(text: str) -> datetime:
    """The time, in UTC, that a name or a manifest's text tells.

    Read are a date (20260131, or with - _ or . between), a date and a time (101530 or 1015, or with
    - _ . or : between, with a fraction of a second), an offset (Z, +0200), and seconds (10 digits),
    milliseconds (13) or microseconds (16) since 1970. Without an offset the time is taken as UTC.
    Raises LayoutError for anything else.

    >>> moment("2026-01-31_10-15-30").isoformat()
    '2026-01-31T10:15:30+00:00'
    >>> moment("20260131T101530.250+0200").isoformat()
    '2026-01-31T08:15:30.250000+00:00'
    >>> moment("1769853600").isoformat()
    '2026-01-31T10:00:00+00:00'
    """
    found = _MOMENT.fullmatch(text)
    if not found:
        raise LayoutError(f"{text!r} is no date such as 2026-01-31 or 20260131T101530")
    if epoch := found["epoch"]:
        return _START + timedelta(microseconds=int(epoch) * 10 ** (16 - len(epoch)))
    date, clock = (re.sub(r"\D", "", found[part] or "") for part in ("date", "clock"))
    clock = f"{clock[:6].ljust(6, '0')}.{clock[6:12].ljust(6, '0')}"
    zone = "Z" if found["zone"] is None else found["zone"]
    try:
        return datetime.fromisoformat(f"{date}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise LayoutError(f"{text!r} is no time of this calendar") from error
