import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.evaluation.labels import NO_CAMERA, Labels
from pipeline.core.thresholds.calibration import (
    FarRule,
    PercentileRule,
    against_itself,
    calibrate,
    sample_identities,
)
from pipeline.core.thresholds.false_matches import false_matches, negatives_of
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows


@given(cases(min_queries=1, min_gallery=1), tilings, st.integers(1, 4))
def test_false_matches_are_those_of_the_loop(case, tiling, count):
    _, negatives = oracles.pair_scores(
        case.queries, case.query_labels, case.gallery, case.gallery_labels
    )
    # Thresholds that similarities equal, and others between them.
    thresholds = np.linspace(-6, 6, count)
    found = false_matches(
        case.queries, case.query_labels, case.gallery, case.gallery_labels, thresholds,
        tiling=tiling,
    )  # fmt: skip
    expected = [[sum(s >= t for s in mine) for t in thresholds] for mine in negatives]
    assert found.tolist() == expected
    own = case.query_labels.identity[case.query_labels.identity > 0]
    assert negatives_of(own, case.gallery_labels).tolist() == [len(mine) for mine in negatives]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_false_matches_of_features_that_are_not_finite(bad):
    rows, labels = unit_rows(3, 8), Labels(np.arange(1, 4), np.zeros(3, np.int64))
    broken = rows.copy()
    broken[1, 2] = bad
    with pytest.raises(ValueError, match="gallery features must be finite"):
        false_matches(rows, labels, broken, labels, np.array([0.5]))
    with pytest.raises(ValueError, match="query features must be finite"):
        false_matches(broken, labels, rows, labels, np.array([0.5]))


@pytest.fixture(scope="module")
def made():
    """300 queries of 60 identities in clusters, and 900 rows with distractors and junk."""
    rng = np.random.default_rng(5)
    centers = unit_rows(60, 24, seed=1)
    names = np.concatenate([np.arange(1, 61), rng.integers(-1, 61, 1140)])
    noise = rng.standard_normal((1200, 24)) * 0.12
    rows = np.where(names[:, None] > 0, centers[names - 1], unit_rows(1200, 24, seed=2)) + noise
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    cameras = rng.integers(0, 3, 1200)
    sides = [Labels(names[part], cameras[part]) for part in (slice(300), slice(300, None))]
    return rows[:300], sides[0], rows[300:], sides[1]


@pytest.fixture(scope="module")
def pairs(made):
    """The similarities of the positive and the negative pairs of `made`, query by query."""
    return oracles.pair_scores(*made)


def flat(lists):
    return np.concatenate([np.array(each, float) for each in lists])


@pytest.mark.parametrize("far", [0.2, 0.01, 1e-3])
def test_the_threshold_is_the_least_with_the_wanted_rate(made, pairs, far):
    positives, negatives = (flat(each) for each in pairs)
    found = calibrate(*made, FarRule(far), Bootstrap(replicates=20))
    assert (found.positives, found.negatives) == (len(positives), len(negatives))
    assert found.false_matches == (negatives >= found.threshold).sum() <= far * len(negatives)
    assert (negatives >= found.threshold - 2**-23).sum() > far * len(negatives)
    assert found.far == pytest.approx((negatives >= found.threshold).mean())
    assert found.tar == pytest.approx((positives >= found.threshold).mean())


@pytest.mark.parametrize("rule", [FarRule(0.2), FarRule(1e-3), PercentileRule(90)])
def test_the_curve_tells_the_rates_of_other_thresholds(made, pairs, rule):
    negatives = flat(pairs[1])
    found = calibrate(*made, rule, Bootstrap(replicates=5))
    thresholds = [each.threshold for each in found.curve]
    assert thresholds == sorted(set(thresholds)) and 10 < len(found.curve) < 64
    for each in found.curve:
        assert each.far == pytest.approx((negatives >= each.threshold).mean(), abs=1e-12)
    rates = [each.far for each in found.curve]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0
    assert rates[0] >= min(0.4, found.far) and found.threshold in thresholds


@pytest.mark.parametrize(("percentile", "factor"), [(95, 1), (50, 1.3), (100, 0.5)])
def test_the_percentile_rule(made, pairs, percentile, factor):
    positives = flat(pairs[0])
    distance = np.sqrt(np.maximum(0, 2 - 2 * positives))
    wanted = factor * np.percentile(distance, percentile, method="inverted_cdf")
    found = calibrate(*made, PercentileRule(percentile, factor), Bootstrap(replicates=20))
    assert found.threshold == pytest.approx(1 - wanted**2 / 2, abs=1e-6)


def test_the_percentile_rule_stays_a_similarity(made):
    found = calibrate(*made, PercentileRule(95, 100), Bootstrap(replicates=2))
    assert (found.threshold, found.far, found.tar) == (-1, 1, 1)


def test_intervals_are_those_of_resampled_identities(made, pairs):
    """Each resample made from its rows, with no weights: the same multinomial draws."""
    labels = made[1]
    far, resampling = 0.01, Bootstrap(replicates=50, seed=3, level=0.8)
    found = calibrate(*made, FarRule(far), resampling)
    positives, negatives = pairs
    own = labels.identity[labels.identity > 0]
    names = np.unique(own)
    rng = np.random.default_rng(3)
    fars, tars, thresholds = [], [], []
    for weights in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=50):
        drawn = [
            q
            for name, weight in zip(names, weights, strict=True)
            for q in np.flatnonzero(own == name)
            for _ in range(weight)
        ]
        false, true = flat([negatives[q] for q in drawn]), flat([positives[q] for q in drawn])
        fars.append((false >= found.threshold).mean())
        tars.append((true >= found.threshold).mean())
        thresholds.append(np.sort(false)[::-1][int(far * len(false))])
    for interval, values, rounding in (
        (found.far_interval, fars, 1e-9),
        (found.tar_interval, tars, 1e-9),
        (found.threshold_interval, thresholds, 1e-3),
    ):
        low, high = np.percentile(values, [10, 90])
        assert interval.low == pytest.approx(low, abs=rounding)
        assert interval.high == pytest.approx(high, abs=rounding)
        assert interval.low < interval.high


def test_resamples_without_a_negative_pair_have_no_threshold():
    """The pairs of identity 1 all match, so a resample of it alone has no false-match rate."""
    rows, cameras = unit_rows(40, 8), np.ones(40, np.int64)
    queries = Labels(np.array([1, 2]), np.zeros(2, np.int64))
    gallery = Labels(np.ones(40, np.int64), cameras)
    found = calibrate(rows[:2], queries, rows, gallery, FarRule(0.1), Bootstrap(replicates=50))
    assert found.threshold_interval.low == found.threshold == found.threshold_interval.high


def test_the_interval_of_the_percentile_rule(made):
    found = calibrate(*made, PercentileRule(90), Bootstrap(replicates=40))
    assert found.threshold_interval.low < found.threshold < found.threshold_interval.high
    again = calibrate(*made, PercentileRule(90), Bootstrap(replicates=40))
    assert found == again
    assert found != calibrate(*made, PercentileRule(90), Bootstrap(replicates=40, seed=1))


@pytest.mark.parametrize("tiling", [Tiling(7, 400, 2), Tiling(64, 90, 1), Tiling(1000, 1000, 1)])
def test_blocks_change_nothing(made, tiling):
    wanted = calibrate(*made, FarRule(0.01), Bootstrap(replicates=5))
    assert calibrate(*made, FarRule(0.01), Bootstrap(replicates=5), tiling=tiling) == wanted


def test_what_cannot_be_measured_is_none(made):
    queries, labels, gallery, gallery_labels = made
    assert calibrate(*made, FarRule(1e-7)) is None
    nobody = Labels(np.zeros(300, np.int64), labels.camera)
    assert calibrate(queries, nobody, gallery, gallery_labels, FarRule()) is None
    alone = Labels(labels.identity + 1000, labels.camera)
    assert calibrate(queries, alone, gallery, gallery_labels, PercentileRule()) is None
    one = Labels(np.ones(900, np.int64), gallery_labels.camera)
    all_one = Labels(np.ones(300, np.int64), labels.camera)
    assert calibrate(queries, all_one, gallery, one, PercentileRule()) is None


def test_a_set_against_itself_pairs_no_row_with_itself():
    rows = unit_rows(6, 8)
    labels = Labels(np.array([1, 1, 2, 2, 3, 0]), np.array([0, NO_CAMERA, NO_CAMERA, 1, 2, 2]))
    apart = against_itself(labels)
    positives, _ = oracles.pair_scores(rows, apart, rows, apart)
    assert [len(each) for each in positives] == [1, 1, 1, 1, 0]


@given(st.lists(st.integers(-1, 6), max_size=30), st.integers(1, 30), st.integers(0, 9))
def test_samples_are_of_whole_identities(identity, rows, seed):
    identity = np.array(identity, np.int64)
    chosen = sample_identities(identity, rows, seed)
    assert (np.diff(chosen) > 0).all()
    taken = set(identity[chosen].tolist())
    assert 0 not in taken and -1 not in taken
    assert np.flatnonzero(np.isin(identity, list(taken))).tolist() == chosen.tolist()
    assert len(chosen) <= rows or len(taken) == 1
    if len(taken) < len(set(identity[identity > 0].tolist())):
        sizes = np.bincount(identity[identity > 0])
        assert len(chosen) + sizes.max() > rows


@pytest.mark.parametrize(
    "make",
    [
        lambda: FarRule(0), lambda: FarRule(1), lambda: FarRule(float("nan")),
        lambda: PercentileRule(0), lambda: PercentileRule(101),
        lambda: PercentileRule(95, 0), lambda: PercentileRule(95, float("inf")),
    ],
)  # fmt: skip
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match=r"lies|must be"):
        make()
