"""The chance of a silence against the letter of the rule of succession."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cameras.silence import silences


def by_the_letter(active, periods, quiet):
    """Multiply what each further miss has for a chance, given all before: exact."""
    misses, chance = periods - active, Fraction(1)
    for _ in range(quiet):
        chance *= Fraction(misses + 1, periods + 2)
        misses, periods = misses + 1, periods + 1
    return chance


rows = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 12)), max_size=40)


@given(rows)
def test_silences_are_those_of_a_plain_loop(rows):
    camera, period = (np.array([row[part] for row in rows], np.int64) for part in (0, 1))
    found = silences(camera, period)
    known = [(c, p) for c, p in rows if c >= 0 and p >= 0]
    every = sorted({p for _, p in known})
    assert set(found) == {c for c, _ in known}
    for each, silence in found.items():
        own = sorted({p for c, p in known if c == each})
        between = [p for p in every if own[0] <= p <= own[-1]]
        since = [p for p in every if p > own[-1]]
        assert (silence.active, silence.periods, silence.quiet) == (
            len(own), len(between), len(since))  # fmt: skip
        wanted = by_the_letter(len(own), len(between), len(since))
        assert silence.chance == pytest.approx(float(wanted), rel=1e-9)


def test_a_camera_that_always_sent_is_soon_missed_and_a_rare_one_late():
    hours = np.arange(30)
    camera = np.concatenate([np.zeros(30, int), np.full(24, 1), np.full(3, 2)])
    period = np.concatenate([hours, hours[:24], [0, 9, 20]])
    found = silences(camera, period)
    assert found[0].chance == 1
    assert found[1].chance < 1e-4 < 0.1 < found[2].chance
