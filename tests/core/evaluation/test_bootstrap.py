import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.evaluation.bootstrap import Bootstrap, Interval, intervals
from tests import oracles


@given(st.integers(1, 30), st.integers(1, 40), st.floats(0.05, 0.99), st.integers(0, 99))
def test_equals_the_naive_loop(queries, replicates, level, seed):
    values = np.random.default_rng(seed + 1).random((2, queries))
    found = intervals(values, Bootstrap(replicates, level, seed))
    for row, interval in zip(values, found, strict=True):
        assert interval == pytest.approx(oracles.bootstrap(row, replicates, level, seed))


def test_the_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(5).random((1, 4000))
    error = 1.96 * values.std() / np.sqrt(4000)
    (low, high), mean = intervals(values, Bootstrap())[0], values.mean()
    assert low == pytest.approx(mean - error, abs=0.1 * error)
    assert high == pytest.approx(mean + error, abs=0.1 * error)


def test_one_seed_draws_the_same_queries_for_every_figure():
    values = np.random.default_rng(6).random((2, 50))
    apart = [intervals(row[None], Bootstrap(seed=3))[0] for row in values]
    np.testing.assert_allclose(intervals(values, Bootstrap(seed=3)), apart)
    assert not np.allclose(intervals(values, Bootstrap(seed=4)), apart)


def test_a_higher_level_is_a_wider_interval():
    values = np.random.default_rng(7).random((1, 50))
    (narrow,), (wide,) = (intervals(values, Bootstrap(level=level)) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_without_a_query_there_is_no_interval():
    assert np.isnan(intervals(np.empty((2, 0)), Bootstrap())).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"level": 1.0}, "between 0 and 1, not 1.0"),
        ({"level": 0.0}, "between 0 and 1, not 0.0"),
        ({"seed": -1}, "a seed is at least 0"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Bootstrap(**settings)


def test_an_interval_that_ends_before_it_begins_is_refused():
    Interval(0.5, 0.5)
    with pytest.raises(ValueError, match=r"from 0\.5 to 0\.25 ends before it begins"):
        Interval(0.5, 0.25)
