import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.thresholds.acceptance import (
    AcceptanceRule,
    PairGroups,
    PairScores,
    judge_networks,
)
from pipeline.core.tracklets import is_held_out


def rate_by_loops(scores, groups, weights, fmr):
    """TMR where each pair is repeated as often as its group counts."""
    positives = [s for s, g in zip(scores.positives, groups.positives, strict=True)
                 for _ in range(weights[g])]  # fmt: skip
    negatives = [s for s, g in zip(scores.negatives, groups.negatives, strict=True)
                 for _ in range(weights[g])]  # fmt: skip
    if not positives or not negatives:
        return None
    thresholds = sorted({-np.inf, *positives, *negatives, np.inf})
    good = [t for t in thresholds if sum(n >= t for n in negatives) <= fmr * len(negatives) + 1e-9]
    return sum(p >= good[0] for p in positives) / len(positives)


def made(rng, positives, negatives, levels):
    return PairScores(*((rng.integers(0, levels, n) / levels).astype(np.float32)
                        for n in (positives, negatives)))  # fmt: skip


@settings(max_examples=20)
@given(
    st.integers(1, 25), st.integers(1, 40), st.integers(1, 6), st.sampled_from([0.001, 0.1, 0.34]),
    st.sampled_from([4, 1000]), st.integers(0, 999),
)  # fmt: skip
def test_rates_and_interval_are_those_of_loops(positives, negatives, count, fmr, levels, seed):
    rng = np.random.default_rng(seed)
    before, after = (made(rng, positives, negatives, levels) for _ in range(2))
    groups = PairGroups(rng.integers(0, count, positives), rng.integers(0, count, negatives))
    rule = AcceptanceRule(fmr, resampling=Bootstrap(20, seed=seed))
    found = judge_networks(before, after, groups, rule)
    fmr = max(fmr, 1 / negatives)
    every = np.ones(len(groups), int)
    assert found.before.tmr == pytest.approx(rate_by_loops(before, groups, every, fmr))
    assert found.after.tmr == pytest.approx(rate_by_loops(after, groups, every, fmr))
    for scores, point in ((before, found.before), (after, found.after)):
        assert point.false_matches == (scores.negatives >= point.threshold).sum()
        assert point.false_matches <= fmr * negatives + 1e-9
        assert point.tmr == np.mean(scores.positives >= np.float32(point.threshold))
    draws = np.random.default_rng(seed)
    differences = []
    for _ in range(20):
        drawn = np.bincount(draws.integers(0, len(groups), len(groups)), minlength=len(groups))
        both = [rate_by_loops(scores, groups, drawn, fmr) for scores in (before, after)]
        if both[0] is not None:
            differences.append(both[1] - both[0])
    expected = np.quantile(differences, [0.025, 0.975]) if differences else [-1, 1]
    assert [found.interval.low, found.interval.high] == pytest.approx(list(expected))
    assert found.tracklets == len(set(groups.positives.tolist()))


def test_a_worse_network_is_not_accepted_and_an_equal_one_is():
    rng = np.random.default_rng(0)
    groups = PairGroups(np.repeat(np.arange(100), 5), rng.integers(0, 100, 5000))
    before = PairScores(*(rng.normal(mean, 0.1, n).astype(np.float32)
                          for mean, n in ((0.7, 500), (0.2, 5000))))  # fmt: skip
    equal = judge_networks(before, before, groups)
    assert equal.accepted and equal.interval.low == equal.interval.high == 0
    assert (equal.fmr, equal.positives, equal.negatives) == (1e-3, 500, 5000)
    worse = PairScores(before.positives - np.float32(0.15), before.negatives)
    found = judge_networks(before, worse, groups)
    assert not found.accepted and found.difference < -0.1
    assert found.interval.low < found.difference < found.interval.high < -0.01
    assert judge_networks(worse, before, groups).accepted
    # A shift of all scores changes nothing: the threshold moves with them.
    moved = PairScores(worse.positives, before.negatives - np.float32(0.15))
    assert judge_networks(before, moved, groups).difference == pytest.approx(0, abs=0.005)


def test_what_is_lost_may_be_lost():
    scores = PairScores(np.linspace(0, 1, 100, dtype=np.float32), np.zeros(10, np.float32))
    groups = PairGroups(np.arange(100), np.arange(10))
    after = PairScores(scores.positives - np.float32(0.05), scores.negatives)
    assert not judge_networks(scores, after, groups).accepted
    assert judge_networks(scores, after, groups, AcceptanceRule(max_loss=0.2)).accepted


def test_few_negatives_have_a_finest_rate():
    groups = PairGroups(np.arange(3), np.zeros(4, np.int64))
    scores = PairScores(
        np.array([0.9, 0.5, 0.1], np.float32), np.array([0.6, 0.3, 0.2, 0.0], np.float32)
    )
    found = judge_networks(scores, scores, groups)
    assert (found.fmr, found.before.false_matches) == (0.25, 1)
    assert found.before.tmr == pytest.approx(2 / 3)


def test_held_out_tracklets_follow_from_their_names():
    names = [f"video-{number // 50}:{number}" for number in range(4000)]
    held = [is_held_out(name, 0.1) for name in names]
    assert 0.08 < np.mean(held) < 0.12
    assert all(is_held_out(name, 0.2) for name, own in zip(names, held, strict=True) if own)
    assert [is_held_out("a", share) for share in (0, 1)] == [False, True]


SCORES = PairScores(np.zeros(2, np.float32), np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AcceptanceRule(fmr=0), "a false-match rate lies between 0 and 1, not 0"),
        (lambda: AcceptanceRule(max_loss=1), "the greatest loss lies from 0 to below 1, not 1"),
        (lambda: PairScores(np.zeros(0), np.zeros(1)), "positives must be one finite number"),
        (lambda: PairScores(np.zeros(1), np.array([np.nan])), "negatives must be one finite"),
        (lambda: PairGroups(np.array([-1]), np.array([0])), "a number from 0"),
        (
            lambda: judge_networks(SCORES, SCORES, PairGroups(np.array([0]), np.arange(3))),
            "1 positive and 3 negative pairs do not go with 2 and 3 scores",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
