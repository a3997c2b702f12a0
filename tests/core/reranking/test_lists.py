import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.evaluation.labels import Labels
from pipeline.core.products.kernels import pair_scores
from pipeline.core.reranking.distances import Reranking
from pipeline.core.reranking.lists import reranked_lists
from tests.core.evaluation.test_ranked_lists import expect
from tests.core.reranking.test_distances import all_settings, rerank, sign_rows
from tests.core.strategies import tilings, unit_rows
from tests.examples import FEW


def labels_of(q, g, seed):
    rng = np.random.default_rng(seed)
    return [Labels(rng.integers(-1, 4, n), rng.integers(-1, 3, n)) for n in (q, g)]


def expect_by_distance(found, reranked, labels, k):
    """Hold lists against the distances of all pairs, ties by row."""
    distances = reranked.distances(0, len(reranked.queries))
    expect(
        found,
        lambda q, kept: sorted(kept, key=lambda row: (distances[q, row], row)),
        labels,
        k,
    )
    owner, place = np.nonzero(found.rows >= 0)
    rows = found.rows[owner, place]
    assert found.distances[owner, place].tobytes() == distances[owner, rows].tobytes()
    queries, gallery = (side.read(0, len(side)) for side in (reranked.queries, reranked.gallery))
    scores = pair_scores(queries, gallery, owner, rows)
    assert found.scores[owner, place].tobytes() == scores.tobytes()


@FEW
@given(
    st.integers(1, 5), st.integers(0, 40), st.sampled_from([1, 3, 40]), st.integers(0, 999),
    st.sampled_from([1, 3, 50]), all_settings, tilings,
)  # fmt: skip
def test_ties_and_junk_fall_as_in_the_distances_of_all_pairs(
    q, g, kinds, seed, k, settings, tiling
):
    rows, labels = sign_rows(q + g, kinds, seed), labels_of(q, g, seed)
    reranked = rerank(rows[:q], rows[q:], settings)
    found = reranked_lists(reranked, *labels, k, tiling=tiling)
    expect_by_distance(found, reranked, labels, k)


@pytest.mark.parametrize("lam", [0, 0.3, 1])
@pytest.mark.parametrize("variant", ["zhong", "torchreid"])
def test_real_features(variant, lam):
    """With lam 0 all rows that share no weight are one tie, which goes on to the first row."""
    rows, labels = unit_rows(400, 64, clusters=40), labels_of(30, 370, 5)
    reranked = rerank(rows[:30], rows[30:], Reranking(5, 2, lam, variant))
    found = reranked_lists(reranked, *labels, 25)
    expect_by_distance(found, reranked, labels, 25)


def test_some_of_the_queries_have_the_lists_that_they_have_among_all():
    rows, labels = unit_rows(300, 64, clusters=30), labels_of(30, 270, 5)
    reranked, chosen = rerank(rows[:30], rows[30:], Reranking(5, 2)), np.array([17, 3, 3, 29])
    some = Labels(labels[0].identity[chosen], labels[0].camera[chosen])
    whole = reranked_lists(reranked, *labels, 12)
    found = reranked_lists(reranked.of_queries(chosen), some, labels[1], 12)
    for name in ("rows", "scores", "hits", "matches", "distances"):
        assert getattr(found, name).tobytes() == getattr(whole, name)[chosen].tobytes()


def test_sides_that_do_not_fit_are_refused():
    rows, labels = unit_rows(9, 8), labels_of(3, 6, 0)
    reranked = rerank(rows[:3], rows[3:], Reranking(2, 1))
    with pytest.raises(ValueError, match="3 query features do not go with 6 labels"):
        reranked_lists(reranked, labels[1], labels[1], 2)
    with pytest.raises(ValueError, match="6 gallery features do not go with 3 labels"):
        reranked_lists(reranked, labels[0], labels[0], 2)
    with pytest.raises(ValueError, match="k must be at least 1"):
        reranked_lists(reranked, *labels, 0)
