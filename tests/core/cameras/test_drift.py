"""The shift of a camera's scores: its interval holds the truth as often as it says."""

import numpy as np
import pytest

from pipeline.core.cameras.drift import FEWEST_GROUPS, level_scores, mean_shift
from pipeline.core.evaluation.bootstrap import Bootstrap


def test_level_scores_are_means_of_similarities():
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(2, 7, 5)).astype(np.float32)
    expected = [np.mean([float(row @ other) for other in others]) for row in rows]
    np.testing.assert_allclose(level_scores(rows, others), expected, atol=1e-6)


def draw(rng, groups, rows, shift):
    """Rows of a group share most of what they deviate by."""
    group = np.repeat(np.arange(groups), rows)
    return rng.normal(shift, 1, groups)[group] + rng.normal(0, 0.3, len(group)), group


def test_intervals_hold_the_truth_where_rows_depend_on_each_other():
    rng = np.random.default_rng(1)
    settings = Bootstrap(replicates=200, level=0.9)
    held = apart = 0
    for _ in range(200):
        before, now = draw(rng, 40, 5, 0.0), draw(rng, 40, 5, 1.0)
        shift = mean_shift(before[0], now[0], before[1], now[1], settings)
        held += shift.low <= 1 <= shift.high
        apart += shift.is_certain
    assert 0.82 * 200 < held < 0.97 * 200
    assert apart > 190


def test_too_few_groups_give_no_interval():
    rng = np.random.default_rng(2)
    enough, few = draw(rng, FEWEST_GROUPS, 2, 0), draw(rng, FEWEST_GROUPS - 1, 2, 0)
    assert mean_shift(enough[0], enough[0], enough[1], enough[1], Bootstrap(9)) is not None
    for before, now in ((enough, few), (few, enough), (enough, (np.zeros(0), np.zeros(0, int)))):
        assert mean_shift(before[0], now[0], before[1], now[1], Bootstrap(9)) is None


def test_equal_scores_have_not_shifted():
    group = np.arange(30)
    shift = mean_shift(np.ones(30), np.ones(30), group, group, Bootstrap(50))
    assert (shift.low, shift.high, shift.is_certain) == (0, 0, False)
    assert shift.before == pytest.approx(1)
