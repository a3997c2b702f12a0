from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.layouts.labels import LayoutError, NameLabels
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.layouts.templates import reader
from pipeline.errors import InputError

TEMPLATE = "{camera}/{date}/{identity}_{frame}.jpg"


def test_each_placeholder_becomes_its_label():
    labels = reader(TEMPLATE)("north gate/2026-01-31/0007_000015.jpg")
    assert labels == NameLabels(7, "north gate", datetime(2026, 1, 31, tzinfo=UTC), 15)


@pytest.mark.parametrize(
    ("folder", "camera"), [("007", "7"), ("c1", "1"), ("C012", "12"), ("1.0", "1"), ("N 7", "N 7")]
)
def test_a_camera_that_is_a_number_has_one_name_however_it_is_spelled(folder, camera):
    assert reader(TEMPLATE)(f"{folder}/20260131/1_1.jpg").camera == camera


@pytest.mark.parametrize("folder", ["unknown", "UNK", "n.a.", "?", "-", "None"])
def test_folders_for_what_nobody_knows_are_no_label(folder):
    labels = reader("{camera}/{identity}/{any}.jpg")(f"{folder}/{folder}/1.jpg")
    assert labels == NameLabels()


def test_labels_that_count_people_from_0_are_stored_plus_1():
    read = reader("{identity}_{any}.jpg", LabelSettings(first_identity=0))
    texts = ("0", "000", "7", "-1", "unknown")
    assert [read(f"{text}_1.jpg").identity for text in texts] == [1, 1, 8, -1, None]
    assert read("alice_1.jpg") == reader("{identity}_{any}.jpg")("alice_1.jpg")


def test_times_without_a_zone_are_those_of_the_zone_that_is_set():
    berlin = reader("{captured_at}/{identity}.jpg", LabelSettings(time_zone="Europe/Berlin"))
    summer, winter, zoned = "2026-07-31T12:00:00", "2026-01-31T12:00:00", "2026-07-31T12:00:00Z"
    hours = [berlin(f"{when}/1.jpg").captured_at.hour for when in (summer, winter, zoned)]
    assert hours == [10, 11, 12]
    twice = berlin("2026-10-25T02:30:00/1.jpg").captured_at
    assert twice == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_date_and_time_make_one_time():
    read = reader("{date}_{time}_{identity}.png")
    assert read("20260131_101530_alice.png").captured_at == datetime(
        2026, 1, 31, 10, 15, 30, tzinfo=UTC
    )
    assert read("2026-01-31_10-15-30.250_alice.png").captured_at.microsecond == 250_000


def test_date_and_time_need_nothing_between():
    when = reader("{camera}_{date}{time}.jpg")("a_20260131101530.jpg").captured_at
    assert when == datetime(2026, 1, 31, 10, 15, 30, tzinfo=UTC)


def test_captured_at_takes_every_form_of_a_time():
    read = reader("{captured_at}/{identity}.jpg")
    for folder in ("20260131T101530", "2026-01-31_10-15-30", "1769854530"):
        assert read(f"{folder}/1.jpg").captured_at == datetime(2026, 1, 31, 10, 15, 30, tzinfo=UTC)


def test_any_is_passed_over_and_may_stand_often():
    assert reader("{any}/{any}/c{camera}_{any}.{any}")("x/y/c3_z.jpeg") == NameLabels(camera="3")


def test_a_template_with_a_slash_must_fit_the_whole_path():
    read = reader("{camera}/{identity}.jpg")
    assert read("north/1.jpg") == NameLabels(1, "north")
    assert read("archive/north/1.jpg") is None
    assert read("north/small/1.jpg") is None, "a folder in between is not a camera by accident"
    assert read("1.jpg") is None


def test_two_stars_let_a_template_fit_at_any_depth():
    read = reader("**/{camera}/{identity}.jpg")
    assert read("north/1.jpg") == read("a/b/north/1.jpg") == NameLabels(1, "north")


def test_a_template_without_a_slash_reads_the_base_name_at_any_depth():
    read = reader("{identity}_{camera}.jpg")
    assert read("7_a.jpg") == read("2024_c1/x/7_a.jpg") == NameLabels(7, "a")


def test_a_text_ends_at_the_next_character_of_the_template():
    assert reader("{camera}_{identity}_{frame}.jpg")("north_gate_0002_17.jpg") is None
    assert reader("{identity}.jpg")("7.small.jpg") is None


def test_characters_of_the_template_are_taken_as_they_stand():
    read = reader("cam[{camera}]+{identity}.jpg")
    assert read("cam[1]+2.jpg") == NameLabels(2, "1")
    assert read("cam1+2.jpg") is None
    assert reader("{identity}.jpg")("7xjpg") is None


def test_junk_distractors_and_names_are_identities():
    read = reader("{identity}_{frame}.jpg")
    assert [read(f"{text}_1.jpg").identity for text in ("-1", "0000", "00012")] == [-1, 0, 12]
    assert read("alice_1.jpg").identity > 2**32


def test_an_impossible_date_or_frame_is_a_layout_error():
    with pytest.raises(LayoutError, match="is a date or time that does not exist"):
        reader(TEMPLATE)("n/20261331/1_1.jpg")
    with pytest.raises(LayoutError, match="64 bits"):
        reader(TEMPLATE)(f"n/20260131/1_{10**19}.jpg")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{person}/{frame}.jpg", r"\{person\} is not a placeholder; there are \{identity\}, "),
        ("{}/{frame}.jpg", r"\{\} is not a placeholder"),
        ("{identity}/{identity}_{frame}.jpg", r"\{identity\} stands twice; write \{any\}"),
        ("{camera/{identity}.jpg", "a brace is not closed or not opened"),
        ("camera}/{identity}.jpg", "a brace is not closed or not opened"),
        ("{any}/{any}.jpg", "it reads no label"),
        ("{time}_{identity}.jpg", r"\{time\} needs \{date\}"),
        ("{captured_at}_{date}.jpg", "tell the same"),
        ("{camera}{identity}.jpg", r"nothing divides \{camera\} from \{identity\}"),
        ("{frame}{date}.jpg", r"nothing divides \{frame\} from \{date\}"),
        ("{camera}/{identity}", "must end with a suffix"),
        ("{camera}.d/{identity}", "must end with a suffix"),
    ],
)
def test_a_wrong_template_is_refused_with_what_is_wrong(template, message):
    with pytest.raises(InputError, match=message) as caught:
        reader(template)
    assert repr(template) in str(caught.value)


words = st.text("abdefgh0123456789", max_size=8).map("x{}".format)


@given(words, st.integers(0, 2**62), st.integers(0, 2**62))
def test_what_is_written_by_a_template_is_read_by_it(camera, identity, frame):
    path = f"{camera}/2026-01-31/{identity:05d}_{frame}.jpg"
    labels = reader(TEMPLATE)(path)
    assert (labels.camera, labels.identity, labels.frame) == (camera, identity, frame)
