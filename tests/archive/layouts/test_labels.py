from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.layouts.labels import (
    LayoutError,
    camera_name,
    capture_time,
    identity_number,
    identity_of,
    looks_like_number,
    number_of,
    whole_number,
)
from pipeline.errors import InputError

NOON = datetime(2026, 1, 31, 12, 30, 15, tzinfo=UTC)


@given(st.integers(-1, 2**63 - 1), st.integers(0, 5))
def test_a_whole_number_is_its_own_identity(number, zeros):
    text = str(number) if number < 0 else "0" * zeros + str(number)
    assert identity_number(text) == number


def test_identities_that_float32_confuses_stay_apart():
    assert identity_number("16777217") - identity_number("16777216") == 1


@given(st.text(min_size=1).filter(lambda text: number_of(text) is None))
def test_any_other_text_becomes_a_positive_int64(text):
    assert 0 < identity_number(text) < 2**63
    assert identity_number(text) == identity_number(text)


def test_the_hash_of_a_text_never_changes():
    assert identity_number("alice") == 2807279712608087364
    assert identity_number("alice") != identity_number("Alice")


def test_a_number_beyond_int64_is_hashed_like_text():
    assert 0 < identity_number("9223372036854775808") < 2**63
    assert identity_number("9223372036854775807") == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("7", 7), ("007", 7), ("+7", 7), ("7.", 7), ("7.0", 7), (" 7 ", 7), ("\uff17", 7)),
        *(("٣", 3), ("-0", 0), ("-1", -1), ("\u22121", -1), ("00-1", -1), ("000-1", -1)),
        *(("0-1", None), ("7.5", None), ("1,024", None), ("1e3", None), ("7a", None), ("", None)),
    ],
)
def test_a_number_is_read_however_it_is_spelled(text, number):
    assert number_of(text) == number


def test_the_junk_of_mars_is_junk():
    assert identity_of("00-1") == -1


@pytest.mark.parametrize("text", ["", " ", "unknown", "Unknown", "UNK", "n/a", "?", "-", "--", "_"])
def test_words_for_what_nobody_knows_are_no_label(text):
    assert identity_of(text) is None
    assert camera_name(text) is None


def test_junk_and_distractor_are_read_as_what_they_say():
    assert [identity_of(word) for word in ("junk", "Distractor", "distractors")] == [-1, 0, 0]


@pytest.mark.parametrize("spelling", ["1", "01", "1.0", "c1", "C01", "\uff11"])
def test_all_spellings_of_a_camera_are_one_name(spelling):
    assert camera_name(spelling) == "1"


@pytest.mark.parametrize("name", ["north", "cam 7b", "c1s1", "2-1"])
def test_a_camera_that_is_no_number_keeps_its_name(name):
    assert camera_name(name) == name


def test_the_last_number_of_64_bits_cannot_be_counted_on():
    assert identity_of(str(2**63 - 2), first=0) == 2**63 - 1
    with pytest.raises(LayoutError, match="does not fit 64 bits"):
        identity_of(str(2**63 - 1), first=0)


def test_a_text_without_letters_that_is_no_number_looks_like_one():
    assert [looks_like_number(text) for text in ("1,024", "7.5", "7", "a7", "?")] == [
        *(True, True, False, False, False)
    ]


def test_a_number_below_minus_one_is_refused():
    with pytest.raises(LayoutError, match="identity -2 has no meaning"):
        identity_number("-2")


def test_a_whole_number_beyond_64_bits_is_refused():
    assert whole_number("9223372036854775807") == 2**63 - 1
    with pytest.raises(LayoutError, match="does not fit 64 bits"):
        whole_number("9223372036854775808")


@pytest.mark.parametrize(
    "text",
    [
        "20260131123015",
        "20260131T123015",
        "20260131_123015",
        "20260131-123015",
        "2026-01-31T12:30:15",
        "2026-01-31 12:30:15",
        "2026-01-31T12:30:15Z",
        "2026-01-31T12:30:15+00:00",
        "2026-01-31T14:30:15+0200",
        "2026-01-31T07:00:15-05:30",
        "2026_01_31_12_30_15",
        "2026.01.31 12.30.15",
        "2026-01-31_12-30-15",
        "1769862615",
        "1769862615000",
        "1769862615000000",
    ],
)
def test_every_form_of_a_time_is_read(text):
    assert capture_time(text) == NOON
    assert capture_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("20260131T123015.5", 500_000),
        ("20260131T123015,25", 250_000),
        ("20260131123015123", 123_000),
        ("20260131T123015_123", 123_000),
        ("2026-01-31T12:30:15.123456789", 123_456),
        ("1769862615123", 123_000),
        ("1769862615000001", 1),
    ],
)
def test_fractions_of_a_second_are_kept_to_the_microsecond(text, microseconds):
    assert capture_time(text) == NOON + timedelta(microseconds=microseconds)


@pytest.mark.parametrize("text", ["20260131", "2026-01-31", "2026_01_31", "2026.01.31"])
def test_a_date_alone_is_its_midnight(text):
    assert capture_time(text) == datetime(2026, 1, 31, tzinfo=UTC)


def test_seconds_may_be_left_out():
    assert (
        capture_time("20260131T1230") == capture_time("2026-01-31 12:30") == NOON.replace(second=0)
    )


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "0303morning", "26-01-31", "2026-01_31", "20260131T", "2026013112"[:9]],
)
def test_a_text_that_is_no_time_is_refused(text):
    with pytest.raises(LayoutError, match="is not a date; write it like"):
        capture_time(text)


@pytest.mark.parametrize("text", ["20261301", "2026-02-30", "20260131T246000", "20260131T123060"])
def test_a_time_that_the_calendar_lacks_is_refused(text):
    with pytest.raises(LayoutError, match="is a date or time that does not exist"):
        capture_time(text)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_iso_times_come_back(when):
    assert capture_time(when.isoformat()) == when.replace(tzinfo=UTC)


def test_a_layout_error_is_an_input_error():
    assert issubclass(LayoutError, InputError)
