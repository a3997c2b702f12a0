import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.metrics import summarize, with_draws
from pipeline.core.evaluation.ranking import matches, rank_counts
from pipeline.core.evaluation.single_shot import SingleShot, first_ranks, list_length
from tests import oracles
from tests.core.strategies import cases, tilings


def sides(case):
    return case.queries, case.query_labels, case.gallery, case.gallery_labels


@given(cases(min_gallery=1), tilings, st.integers(0, 3), st.integers(0, 5))
def test_equals_the_naive_loop_in_every_tiling(case, tiling, repeat, seed):
    settings = SingleShot(seed=seed)
    order = settings.order(repeat, len(case.gallery))
    scores = case.queries.astype(np.float64) @ case.gallery.T
    expected = [
        oracles.single_shot_rank(line, identity, camera, case.gallery_labels, order)
        if identity > 0
        else 0
        for line, identity, camera in zip(
            scores, case.query_labels.identity, case.query_labels.camera, strict=True
        )
    ]
    found = matches(*sides(case))
    ranks = first_ranks(*sides(case), found, settings, repeat, tiling=tiling)
    assert ranks.tolist() == expected


def test_every_kept_image_is_drawn_as_often():
    """Three matches stand at ranks 1, 2 and 3 of three lists; the other identity is one row."""
    line = np.array([[1.0], [0.9], [0.8], [0.7]], np.float32)
    query, gallery = (
        Labels(np.array([5]), np.array([0])),
        Labels(np.array([5, 6, 5, 5]), np.array([1, 1, 2, 0])),
    )
    found = matches(line[:1], query, line, gallery)
    settings = SingleShot(repeats=400)
    ranks = np.array(
        [first_ranks(line[:1], query, line, gallery, found, settings, r)[0] for r in range(400)]
    )
    assert set(ranks) == {1, 2}  # the query's own camera is never drawn
    assert (ranks == 1).mean() == pytest.approx(0.5, abs=0.08)


def test_one_image_of_every_identity_and_every_distractor():
    line = np.linspace(1, 0.1, 9, dtype=np.float32)[:, None]
    gallery = Labels(np.array([6, 6, 6, 7, 7, 0, 0, -1, 5]), np.ones(9, np.int64))
    query = Labels(np.array([5]), np.array([0]))
    found = matches(line[:1], query, line, gallery)
    ranks = [first_ranks(line[:1], query, line, gallery, found, SingleShot(), r) for r in range(4)]
    assert np.concatenate(ranks).tolist() == [5] * 4
    assert list_length(gallery) == 5


@given(cases(min_gallery=1))
def test_the_curve_is_the_mean_of_the_draws(case):
    found = rank_counts(*sides(case))
    whole = summarize(found, len(case.gallery))
    ranks = np.stack([first_ranks(*sides(case), found, SingleShot(), r) for r in range(3)])
    length = list_length(case.gallery_labels)
    drawn = with_draws(whole, ranks, length, max_rank=20)
    assert drawn.mean_ap == whole.mean_ap or whole.valid == 0
    assert len(drawn.cmc) == min(20, length)
    assert ((ranks > 0) == (whole.first_rank > 0)).all()
    if whole.valid:
        kept = ranks[:, whole.first_rank > 0]
        curve = [(kept <= r).mean() for r in range(1, len(drawn.cmc) + 1)]
        np.testing.assert_allclose(drawn.cmc, curve)
        assert np.nanmean(drawn.rank1) == pytest.approx(curve[0])
        assert ranks.max() <= length
    assert np.isnan(drawn.rank1[whole.first_rank == 0]).all()


def test_draws_follow_from_the_seed():
    first, again, other = (SingleShot(seed=seed).order(2, 100) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert SingleShot(seed=1).order(3, 100).tolist() != first.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"repeats": 0}, "repeats must be at least 1"), ({"seed": -1}, "a seed is at least 0")],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        SingleShot(**settings)
