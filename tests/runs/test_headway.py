"""How fast a task goes on, on a clock that the test sets."""

from datetime import UTC, datetime

import pytest

from pipeline.runs.headway import WINDOW_SECONDS, Headway


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_an_earlier_run_finished_says_nothing_of_the_rate(clock: Clock) -> None:
    headway = Headway(1000, clock)
    for _ in range(9):
        headway.step(100)
    assert (headway.done, headway.rate(), headway.seconds_left(), headway.end()) == (
        900,
        None,
    ) + (None,) * 2
    clock.now += 11
    headway.step(20)
    assert headway.rate() == 2
    assert headway.seconds_left() == 40
    end = headway.end()
    assert end is not None
    assert 38 < (end - datetime.now(UTC)).total_seconds() < 42


def test_the_rate_is_that_of_the_last_minutes(clock: Clock) -> None:
    headway = Headway(None, clock)
    for _ in range(1000):
        clock.now += 1
        headway.step(10)
    for _ in range(int(WINDOW_SECONDS * 1.2)):
        clock.now += 1
        headway.step(1)
    assert headway.rate() == pytest.approx(1, rel=0.01)
    assert headway.seconds_left() is None
    assert not headway.is_over


def test_a_rate_falls_while_nothing_happens(clock: Clock) -> None:
    headway = Headway(100, clock)
    clock.now += 2
    headway.step(10)
    clock.now += 1
    before = headway.rate()
    clock.now += 60
    assert before and headway.rate() and headway.rate() < before


def test_work_that_is_given_up_begins_the_rate_anew(clock: Clock) -> None:
    headway = Headway(100, clock)
    clock.now += 3
    headway.step(50)
    headway.step(-50)
    assert (headway.done, headway.rate()) == (0, None)
    clock.now += 10
    headway.step(20)
    assert headway.rate() == 2


def test_the_end_is_reached(clock: Clock) -> None:
    headway = Headway(2, clock)
    clock.now += 3
    headway.step(2)
    assert headway.is_over
    assert headway.seconds_left() == 0
