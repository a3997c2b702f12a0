"""The labels that a name can state for an image: identity, camera, time, frame."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
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

# `00-1` is the form in which MARS and others write -1 with four characters.
_NUMBER = re.compile(r"(?P<sign>[+-]|00+-(?=0*1$))?(?P<digits>\d+)(?:\.0*)?")
_DASHES = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")
_LONGEST_NUMBER = 40
_CAMERA = re.compile(r"^c(?=\d+$)", re.IGNORECASE)
_UNKNOWN = frozenset(
    (
        *("nan", "na", "n/a", "n.a.", "nat", "null", "none", "nil"),
        *("unk", "unknown", "unidentified", "undefined", "unlabeled", "unlabelled", "anonymous"),
    )
)
_RESERVED = {"junk": -1, "distractor": 0, "distractors": 0}


class LayoutError(InputError):
    """A name does not match the layout; the message has both."""


class NameLabels(NamedTuple):
    """The labels of one image; None for those that its name does not state."""

    identity: int | None = None
    camera: str | None = None
    captured_at: datetime | None = None
    frame: int | None = None
    tracklet: str | None = None


def identity_of(text: str, first: int = 1) -> int | None:
    """The identity that a text states; None if the text means unknown (`is_unknown`).

    `first` is the number of the first person: with 0, every number from 0 on is stored plus 1,
    because 0 would mean a distractor. The words `junk` and `distractor` are recognized.

    >>> identity_of("00-1"), identity_of("unknown"), identity_of("0", first=0), identity_of("junk")
    (-1, None, 1, -1)
    """
    if text.isascii() and text.isdigit() and len(text) < len(str(LARGEST_ID)):  # almost every one
        return int(text) + 1 - first
    if is_unknown(text):
        return None
    if (word := text.strip().casefold()) in _RESERVED:
        return _RESERVED[word]
    number = identity_number(text)
    is_counted = first == 0 and number >= 0 and number_of(text) is not None
    return whole_number(str(number), plus=1) if is_counted else number


def identity_number(text: str) -> int:
    """The int64 that represents an identity's text.

    A number represents itself, whatever its spelling (`number_of`); as in Market-1501, -1 is junk
    and 0 a distractor. Any other text, and a number beyond int64, becomes a stable positive number:
    63 bits of its BLAKE2b hash. Raise LayoutError for a number below -1, which has no meaning.

    >>> identity_number("0007"), identity_number("-1"), identity_number("16777217")
    (7, -1, 16777217)
    >>> identity_number("alice") == identity_number("alice") > 2**32
    True
    """
    number = number_of(text)
    if number is not None:
        if number < -1:
            raise LayoutError(f"identity {text} has no meaning: -1 is junk, 0 a distractor")
        return number
    digest = blake2b(text.encode(), digest_size=8).digest()
    return max(1, int.from_bytes(digest, "big") >> 1)


@lru_cache(maxsize=4096)  # there are few cameras, and every image names one
def camera_name(text: str) -> str | None:
    """The name of a camera: a number in its shortest form, any other text unchanged.

    A `c` before a number, which many data sets write, is dropped. The result is None if the text
    means unknown (`is_unknown`).

    >>> [camera_name(text) for text in ("1", "01", "1.0", "c1", "C001", "north", "n/a")]
    ['1', '1', '1', '1', '1', 'north', None]
    """
    if is_unknown(text):
        return None
    number = number_of(_CAMERA.sub("", text.strip()))
    return text.strip() if number is None else str(number)


def number_of(text: str) -> int | None:
    """The int64 that a text states in any spelling; None if it is not an int64.

    >>> [number_of(text) for text in ("7", "007", "+7", "7.", "7.0", "\uff17", "-1", "00-1", "7a")]
    [7, 7, 7, 7, 7, 7, -1, -1, None]
    """
    found = _NUMBER.fullmatch(unicodedata.normalize("NFKC", text).translate(_DASHES).strip())
    if not found or len(found["digits"]) > _LONGEST_NUMBER:
        return None
    number = int(found["digits"])
    number = -number if "-" in (found["sign"] or "") else number
    return number if -LARGEST_ID <= number <= LARGEST_ID else None


def is_unknown(text: str) -> bool:
    """Whether a text means unknown: it is empty, a word for unknown, or only punctuation.

    >>> [is_unknown(text) for text in ("", "Unknown", "n/a", "?", "--", "0", "nobody else")]
    [True, True, True, True, True, False, False]
    """
    return text.strip().casefold() in _UNKNOWN or not any(map(str.isalnum, text))


def looks_like_number(text: str) -> bool:
    """Whether a text that does not parse as a number looks like one: digits and no letters.

    >>> looks_like_number("1,024"), looks_like_number("7"), looks_like_number("person 7")
    (True, False, False)
    """
    return (
        number_of(text) is None and any(map(str.isdigit, text)) and not any(map(str.isalpha, text))
    )


def whole_number(text: str, plus: int = 0) -> int:
    """The int64 of some digits, plus `plus`; raise LayoutError if it does not fit.

    >>> whole_number("000451")
    451
    """
    number = int(text) + plus
    if number > LARGEST_ID:
        raise LayoutError(f"the number {text} does not fit 64 bits")
    return number


def capture_time(text: str, zone: tzinfo = UTC) -> datetime:
    """Parse the time in a name or in a manifest's text; the result is in UTC.

    The accepted forms are a date (20260131, or with - _ or . between), a date and a time (101530 or
    1015, or with - _ . or : between, with a fraction of a second), an offset (Z, +0200), and
    seconds (10 digits), milliseconds (13) or microseconds (16) since 1970. Without an offset the
    time is in `zone`; if the clocks of the zone show an hour twice, it is the first. Raise
    LayoutError for anything else.

    >>> capture_time("2026-01-31_10-15-30").isoformat()
    '2026-01-31T10:15:30+00:00'
    >>> capture_time("20260131T101530.250+0200").isoformat()
    '2026-01-31T08:15:30.250000+00:00'
    >>> capture_time("1769853600").isoformat()
    '2026-01-31T10:00:00+00:00'
    """
    found = _MOMENT.fullmatch(text)
    if not found:
        raise LayoutError(f"{text!r} is not a date; write it like 2026-01-31 or 20260131T101530")
    if epoch := found["epoch"]:
        return _START + timedelta(microseconds=int(epoch) * 10 ** (16 - len(epoch)))
    date, clock = (re.sub(r"\D", "", found[part] or "") for part in ("date", "clock"))
    clock = f"{clock[:6].ljust(6, '0')}.{clock[6:12].ljust(6, '0')}"
    try:
        told = datetime.fromisoformat(f"{date}T{clock}{found['zone'] or ''}")
        return (told if told.tzinfo else told.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise LayoutError(f"{text!r} is a date or time that does not exist") from error
