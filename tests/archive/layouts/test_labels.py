from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.layouts.labels import LayoutError, identity_number, moment, whole_number
from pipeline.errors import InputError

NOON = datetime(2026, 1, 31, 12, 30, 15, tzinfo=UTC)


@given(st.integers(-1, 2**63 - 1), st.integers(0, 5))
def test_a_whole_number_is_its_own_identity(number, zeros):
    text = str(number) if number < 0 else "0" * zeros + str(number)
    assert identity_number(text) == number


def test_identities_that_float32_confuses_stay_apart():
    assert identity_number("16777217") - identity_number("16777216") == 1


@given(st.text(min_size=1).filter(lambda text: not text.lstrip("-").isdigit()))
def test_any_other_text_becomes_a_positive_int64(text):
    assert 0 < identity_number(text) < 2**63
    assert identity_number(text) == identity_number(text)


def test_the_hash_of_a_text_never_changes():
    assert identity_number("alice") == 2807279712608087364
    assert identity_number("alice") != identity_number("Alice")


def test_a_number_beyond_int64_is_hashed_like_text():
    assert 0 < identity_number("9223372036854775808") < 2**63
    assert identity_number("9223372036854775807") == 2**63 - 1


def test_digits_of_another_script_are_text():
    assert identity_number("٣") > 3


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
    assert moment(text) == NOON
    assert moment(text).tzinfo is UTC


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
    assert moment(text) == NOON + timedelta(microseconds=microseconds)


@pytest.mark.parametrize("text", ["20260131", "2026-01-31", "2026_01_31", "2026.01.31"])
def test_a_date_alone_is_its_midnight(text):
    assert moment(text) == datetime(2026, 1, 31, tzinfo=UTC)


def test_seconds_may_be_left_out():
    assert moment("20260131T1230") == moment("2026-01-31 12:30") == NOON.replace(second=0)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "0303morning", "26-01-31", "2026-01_31", "20260131T", "2026013112"[:9]],
)
def test_a_text_that_is_no_time_is_refused(text):
    with pytest.raises(LayoutError, match="is no date such as"):
        moment(text)


@pytest.mark.parametrize("text", ["20261301", "2026-02-30", "20260131T246000", "20260131T123060"])
def test_a_time_that_the_calendar_lacks_is_refused(text):
    with pytest.raises(LayoutError, match="no time of this calendar"):
        moment(text)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_iso_times_come_back(when):
    assert moment(when.isoformat()) == when.replace(tzinfo=UTC)


def test_a_layout_error_is_an_input_error():
    assert issubclass(LayoutError, InputError)
