import numpy as np
import pytest
from hypothesis import given

from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.metrics import summarize
from pipeline.core.evaluation.ranking import rank_counts
from tests import oracles
from tests.core.strategies import cases


def line_case(hits, gallery_size):
    """One query whose matches stand at the ranks `hits` of a gallery on a line."""
    features = np.linspace(1, 0.5, gallery_size, dtype=np.float32)[:, None]
    identity = np.full(gallery_size, 9)
    identity[np.array(hits, int) - 1] = 5
    gallery = Labels(identity, np.ones(gallery_size, np.int64))
    query = Labels(np.array([5]), np.array([0]))
    return rank_counts(np.ones((1, 1), np.float32), query, features, gallery)


@given(cases(min_gallery=1))
def test_equals_the_naive_loops(case):
    counts = rank_counts(case.queries, case.query_labels, case.gallery, case.gallery_labels)
    found = summarize(counts, len(case.gallery), max_rank=20)
    ranks = oracles.hit_ranks(case.queries, case.query_labels, case.gallery, case.gallery_labels)
    valid = [r for r in ranks if r]
    assert (found.queries, found.valid, found.invalid) == (
        len(ranks), len(valid), len(ranks) - len(valid),
    )  # fmt: skip
    for values, loop in (
        (found.average_precision, oracles.average_precision),
        (found.average_precision_trapezoid, oracles.average_precision_trapezoid),
        (found.inverse_negative_penalty, lambda r: len(r) / r[-1]),
        (found.first_rank, lambda r: r[0]),
    ):
        expected = [loop(r) if r else np.nan for r in ranks]
        if values is found.first_rank:
            expected = np.nan_to_num(expected)
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    if valid:
        np.testing.assert_allclose(found.cmc, oracles.cmc(ranks, min(20, len(case.gallery))))
        mean = np.mean([oracles.average_precision(r) for r in valid])
        assert found.mean_ap == pytest.approx(mean)


def test_a_case_worked_by_hand():
    found = summarize(line_case([1, 3, 6], 8), 8)
    assert found.mean_ap == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    # trapezoid: (1 + 1) / 2, (1/2 + 2/3) / 2, (2/5 + 3/6) / 2
    assert found.mean_ap_trapezoid == pytest.approx((1 + 7 / 12 + 9 / 20) / 3)
    assert found.mean_inp == pytest.approx(3 / 6)
    assert found.cmc.tolist() == [1.0] * 8


def test_the_two_definitions_differ_as_the_toolboxes_do():
    found = summarize(line_case([2], 4), 4)
    assert (found.mean_ap, found.mean_ap_trapezoid) == (0.5, 0.25)
    assert found.cmc.tolist() == [0, 1, 1, 1]


def test_the_curve_is_cut_at_the_gallery():
    assert len(summarize(line_case([2], 4), 4, max_rank=50).cmc) == 4
    assert len(summarize(line_case([2], 4), 4, max_rank=3).cmc) == 3


def test_a_first_match_beyond_the_curve_counts_for_no_rank():
    assert summarize(line_case([9], 10), 10, max_rank=5).cmc.tolist() == [0] * 5


def test_no_valid_query_gives_no_mean():
    empty = Labels(np.array([3]), np.array([1]))
    features = np.ones((1, 1), np.float32)
    counts = rank_counts(features, empty, features, empty)
    found = summarize(counts, 1)
    assert (found.valid, found.invalid) == (0, 1)
    assert np.isnan([found.mean_ap, found.mean_ap_trapezoid, found.mean_inp, found.cmc[0]]).all()


def test_a_wrong_rank_is_told():
    with pytest.raises(ValueError, match="max_rank"):
        summarize(line_case([1], 2), 2, max_rank=0)
