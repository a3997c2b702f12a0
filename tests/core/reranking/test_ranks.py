import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import Labels
from pipeline.core.reranking.distances import Reranking
from pipeline.core.reranking.ranks import matches, rank_counts
from tests.core.reranking.test_distances import all_settings, rerank, sign_rows
from tests.core.strategies import tilings, unit_rows


def random_labels(n, seed, identities=5):
    rng = np.random.default_rng(seed)
    return Labels(rng.integers(-1, identities, n), rng.integers(-1, 3, n))


def sorted_ranks(distances, queries, gallery):
    """Ranks of every query's matches by sorting the final distances, ties by row."""
    ranks = []
    for i, line in enumerate(distances):
        identity, camera = queries.identity[i], queries.camera[i]
        same = (gallery.identity == identity) & (identity > 0)
        own_camera = (gallery.camera == camera) & (camera >= 0)
        kept = np.flatnonzero((gallery.identity != -1) & ~(same & own_camera))
        order = kept[np.lexsort((kept, line[kept]))]
        ranks += (np.flatnonzero(same[order]) + 1).tolist()
    return ranks


@given(
    st.integers(0, 6), st.integers(0, 30), st.sampled_from([1, 3, 40]), st.integers(0, 999),
    all_settings, tilings,
)  # fmt: skip
def test_equals_sorting_the_distances_in_every_tiling(q, g, kinds, seed, settings, tiling):
    rows = sign_rows(q + g, kinds, seed)
    reranked = rerank(rows[:q], rows[q:], settings)
    queries, gallery = random_labels(q, seed), random_labels(g, seed + 1)
    found = rank_counts(reranked, queries, gallery, tiling=tiling)
    assert found.ranks().tolist() == sorted_ranks(reranked.distances(0, q), queries, gallery)


@pytest.mark.parametrize("lam", [0, 1e-9, 0.3, 1])
@pytest.mark.parametrize("variant", ["zhong", "torchreid"])
@pytest.mark.parametrize("tiling", [Tiling(7, 7), Tiling(64, 300), Tiling()])
def test_real_features_rank_as_their_distances(lam, variant, tiling):
    rows = unit_rows(700, 100, clusters=60)
    reranked = rerank(rows[:80], rows[80:], Reranking(lam=lam, variant=variant))
    queries, gallery = random_labels(80, 0, 30), random_labels(620, 1, 30)
    found = rank_counts(reranked, queries, gallery, tiling=tiling)
    distances = reranked.distances(0, 80)
    owner = np.repeat(np.arange(80), np.diff(found.offsets))
    assert found.ranks().tolist() == sorted_ranks(distances, queries, gallery)
    assert (-found.scores).tobytes() == distances[owner, found.rows].tobytes()


@given(st.integers(0, 999), st.data())
def test_parts_add_in_any_order(seed, data):
    rows = sign_rows(40, 12, seed)
    reranked = rerank(rows[:8], rows[8:], Reranking(k1=5, k2=3))
    queries, gallery = random_labels(8, seed), random_labels(32, seed + 1)
    parts = data.draw(st.permutations(list(blocks(32, data.draw(st.integers(1, 32))))))
    found = matches(reranked, queries, gallery)
    total = found
    for part in parts:
        total = rank_counts(reranked, queries, gallery, found=found, part=part) + total
    whole = rank_counts(reranked, queries, gallery)
    assert total.ranks().tolist() == whole.ranks().tolist()


def test_what_a_product_would_count_wrongly_is_counted_by_score():
    """Rows a rounding apart, too many to be neighbors: without the slack of products this fails.

    The final distances are coarser than similarities, so ties by row are many too.
    """
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((1500, 512)).astype(np.float32) * 2e-8
    asked = unit_rows(12, 512, seed=5)
    reranked = rerank(asked, rows, Reranking(k1=2, k2=1, lam=1))
    queries = Labels(np.arange(1, 13), np.zeros(12, np.int64))
    gallery = Labels(np.arange(1500) % 500 + 1, np.ones(1500, np.int64))
    found = rank_counts(reranked, queries, gallery, tiling=Tiling(4, 256))
    assert found.ranks().tolist() == sorted_ranks(reranked.distances(0, 12), queries, gallery)


def test_labels_may_be_columns_of_one_array():
    rows = unit_rows(260, 40, clusters=20)
    reranked = rerank(rows[:20], rows[20:], Reranking(k1=6, k2=3))
    table = np.random.default_rng(0).integers(0, 5, (260, 2))
    sides = [Labels(part[:, 0], part[:, 1]) for part in (table[:20], table[20:])]
    whole = [Labels(part[:, 0].copy(), part[:, 1].copy()) for part in (table[:20], table[20:])]
    found, expected = rank_counts(reranked, *sides), rank_counts(reranked, *whole)
    assert found.ahead.tolist() == expected.ahead.tolist()
    assert (expected.ahead > 0).any()


def test_the_original_distance_alone_ranks_as_similarity_does():
    rows = np.random.default_rng(2).standard_normal((200, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, gallery = random_labels(30, 0), random_labels(170, 1)
    reranked = rerank(rows[:30], rows[30:], Reranking(lam=1))
    found = rank_counts(reranked, queries, gallery)
    plain = ranking.rank_counts(rows[:30], queries, rows[30:], gallery)
    assert found.rows.tolist() == plain.rows.tolist()
    assert found.ahead.tolist() == plain.ahead.tolist()


def test_re_ranking_raises_the_matches_of_clustered_rows():
    """Two crops of a person that look apart are joined by a third that is near to both."""
    rng = np.random.default_rng(4)
    centers = rng.standard_normal((40, 32))
    identity = np.repeat(np.arange(1, 41), 12)
    rows = centers[identity - 1] + 1.5 * rng.standard_normal((480, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(480)
    rows, identity = rows[order], identity[order]
    queries = Labels(identity[:80], np.zeros(80, np.int64))
    gallery = Labels(identity[80:], np.ones(400, np.int64))
    plain = ranking.rank_counts(rows[:80], queries, rows[80:], gallery)
    found = rank_counts(rerank(rows[:80], rows[80:], Reranking(k1=10, k2=4)), queries, gallery)
    assert found.ranks().sum() < plain.ranks().sum()


def test_wrong_labels_are_told():
    rows = unit_rows(20, 8)
    reranked = rerank(rows[:5], rows[5:], Reranking(k1=3))
    with pytest.raises(ValueError, match="15 gallery features do not go with 14 labels"):
        matches(reranked, random_labels(5, 0), random_labels(14, 0))
