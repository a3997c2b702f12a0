"""The schedule against recursions."""

import math

import pytest

from pipeline.errors import InputError
from pipeline.training.schedules import LearningSchedule


def factors(schedule, steps):
    return [schedule.factor(step) for step in range(steps)]


def test_the_rate_falls_at_every_milestone():
    rate, expected = 1.0, []
    for step in range(8):
        rate *= 0.2 if step in (3, 5) else 1
        expected.append(rate)
    found = factors(LearningSchedule("step", milestones=(3, 5), gamma=0.2), 8)
    assert found == pytest.approx(expected)


def test_the_cosine_falls_as_its_differences_do():
    rate, expected = 1.0, [1.0]
    for step in range(1, 11):
        now, before = (1 + math.cos(math.pi * place / 10) for place in (step, step - 1))
        rate = now / before * (rate - 0.05) + 0.05
        expected.append(rate)
    found = factors(LearningSchedule("cosine", steps=10, floor=0.05), 11)
    assert found == pytest.approx(expected)


def test_the_cosine_stays_on_the_floor():
    schedule = LearningSchedule("cosine", steps=4, floor=0.25)
    assert factors(schedule, 8)[4:] == [0.25] * 4


def test_the_warm_up_comes_first():
    assert factors(LearningSchedule("none", warmup=4, warmup_start=0.2), 6) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1]
    )
    half = LearningSchedule("cosine", warmup=2, warmup_start=0, steps=6)
    assert factors(half, 7) == pytest.approx(
        [0, 0.5] + [(1 + math.cos(math.pi * p / 4)) / 2 for p in range(5)]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "linear"}, "`decay` must be one of none, step, cosine"),
        ({"warmup": -1}, "`warmup` must be 0 or more"),
        ({"warmup_start": 2}, "`warmup_start` must lie from 0 to 1"),
        ({"gamma": -1}, "`gamma` must lie from 0 to 1"),
        ({"floor": float("nan")}, "`floor` must lie from 0 to 1"),
        ({"milestones": (3, 3)}, "`milestones` must ascend from 1 or more, not 3, 3"),
        ({"milestones": (0, 3)}, "`milestones` must ascend"),
        ({"decay": "cosine", "warmup": 5, "steps": 5}, "`steps` must be more than the 5"),
    ],
)
def test_schedules_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        LearningSchedule(**settings)


def test_there_is_no_step_before_the_first():
    with pytest.raises(ValueError, match="step must be 0 or more"):
        LearningSchedule().factor(-1)
