import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.reranking.distances import Reranking
from pipeline.core.reranking.nearby import surroundings
from pipeline.core.reranking.reciprocal import stacked
from tests.core.reranking.test_distances import all_settings, rerank, sign_rows
from tests.core.strategies import tilings, unit_rows
from tests.examples import FEW


def assert_around(found, reranked):
    """The distances of all pairs, of which those found are the ones that share weight."""
    queries, gallery = len(reranked.queries), len(reranked.gallery)
    weights = np.zeros((2, max(queries, gallery), reranked.width), np.float32)
    for side, rows in enumerate((reranked.query_weights, reranked.gallery_weights)):
        owner = np.repeat(np.arange(len(rows)), np.diff(rows.starts))
        weights[side, owner, rows.columns] = rows.values
    share = np.minimum(weights[0, :queries, None], weights[1, None, :gallery]).sum(axis=2) > 0
    owner = np.repeat(np.arange(queries), np.diff(found.starts))
    assert (owner.tolist(), found.columns.tolist()) == tuple(map(list, np.nonzero(share)))
    distances = reranked.distances(0, queries)
    assert found.values.tobytes() == distances[owner, found.columns].tobytes()


@FEW
@given(
    st.integers(1, 5), st.integers(0, 25), st.sampled_from([1, 3, 40]), st.integers(0, 999),
    all_settings, tilings,
)  # fmt: skip
def test_ties_and_duplicates_have_their_distances(q, g, kinds, seed, settings, tiling):
    rows = sign_rows(q + g, kinds, seed)
    reranked = rerank(rows[:q], rows[q:], settings)
    assert_around(surroundings(reranked, tiling=tiling), reranked)


@pytest.mark.parametrize("variant", ["zhong", "torchreid"])
def test_distances_of_real_features_are_those_of_all_pairs_to_the_bit(variant):
    rows = unit_rows(600, 100, clusters=60)
    reranked = rerank(rows[:150], rows[150:], Reranking(variant=variant))
    found = surroundings(reranked, tiling=Tiling(threads=2))
    assert 0 < len(found.columns) < 150 * 450 / 4
    assert_around(found, reranked)
    parts = stacked([surroundings(reranked, a, b) for a, b in blocks(150, 70)])
    assert [each.tobytes() for each in parts.arrays] == [each.tobytes() for each in found.arrays]


def test_rows_that_share_nothing_are_farther_than_their_like():
    """What is left out has J = 1: no smaller distance than a row of its similarity that shares."""
    rows = unit_rows(300, 32, clusters=30)
    reranked = rerank(rows[:20], rows[20:], Reranking(lam=0))
    found, distances = surroundings(reranked), reranked.distances(0, 20)
    inside = np.zeros(distances.shape, bool)
    inside[np.repeat(np.arange(20), np.diff(found.starts)), found.columns] = True
    assert (distances[~inside] == 1).all()
    assert (distances[inside] < 1).all()
