"""How fast a task goes on, on a clock that the test sets."""

from datetime import UTC, datetime

import pytest

from pipeline.runs.course import WINDOW_SECONDS, Course


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_an_earlier_run_finished_says_nothing_of_the_rate(clock: Clock) -> None:
    course = Course(1000, clock)
    for _ in range(9):
        course.step(100)
    assert (course.done, course.rate(), course.seconds_left(), course.end()) == (
        900,
        None,
    ) + (None,) * 2
    clock.now += 11
    course.step(20)
    assert course.rate() == 2
    assert course.seconds_left() == 40
    end = course.end()
    assert end is not None
    assert 38 < (end - datetime.now(UTC)).total_seconds() < 42


def test_the_rate_is_that_of_the_last_minutes(clock: Clock) -> None:
    course = Course(None, clock)
    for _ in range(1000):
        clock.now += 1
        course.step(10)
    for _ in range(int(WINDOW_SECONDS * 1.2)):
        clock.now += 1
        course.step(1)
    assert course.rate() == pytest.approx(1, rel=0.01)
    assert course.seconds_left() is None
    assert not course.is_over


def test_a_rate_falls_while_nothing_happens(clock: Clock) -> None:
    course = Course(100, clock)
    clock.now += 2
    course.step(10)
    clock.now += 1
    before = course.rate()
    clock.now += 60
    assert before and course.rate() and course.rate() < before


def test_work_that_is_given_up_begins_the_rate_anew(clock: Clock) -> None:
    course = Course(100, clock)
    clock.now += 3
    course.step(50)
    course.step(-50)
    assert (course.done, course.rate()) == (0, None)
    clock.now += 10
    course.step(20)
    assert course.rate() == 2


def test_the_end_is_reached(clock: Clock) -> None:
    course = Course(2, clock)
    clock.now += 3
    course.step(2)
    assert course.is_over
    assert course.seconds_left() == 0
