import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.neighbors.topk import TopK, search
from pipeline.core.reranking.distances import Reranking, k_reciprocal
from pipeline.core.reranking.reciprocal import greatest_distances, weights
from tests import oracles
from tests.core.strategies import tilings, unit_rows
from tests.examples import FEW

variants = pytest.mark.parametrize("variant", ["zhong", "torchreid"])


def stacked(queries, gallery):
    return StackedRows(ArrayRows(queries), ArrayRows(gallery))


def graph(union, settings):
    return search(union, union, settings.neighbors, self_offset=0)


def rerank(queries, gallery, settings, **options):
    union = stacked(queries, gallery)
    return k_reciprocal(union, graph(union, settings), settings, **options)


def distances(queries, gallery, settings, **options):
    reranked = rerank(queries, gallery, settings, **options)
    return reranked.distances(0, len(queries), **options)


def sign_rows(n, kinds, seed):
    """Unit vectors of signs, of `kinds` kinds at most: their products are exact, ties are real."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([-0.25, 0.25], (kinds, 16)).astype(np.float32)
    return kind[rng.integers(0, kinds, n)]


all_settings = st.builds(
    Reranking,
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([0, 0.3, 1]),
    st.sampled_from(["zhong", "torchreid"]),
)


@FEW
@given(
    st.integers(1, 5), st.integers(0, 25), st.sampled_from([1, 3, 40]), st.integers(0, 999),
    all_settings, tilings,
)  # fmt: skip
def test_ties_and_duplicates_equal_the_dense_form(q, g, kinds, seed, settings, tiling):
    rows = sign_rows(q + g, kinds, seed)
    found = distances(rows[:q], rows[q:], settings, tiling=tiling)
    expected = oracles.k_reciprocal(
        rows[:q], rows[q:], settings.k1, settings.k2, settings.lam, settings.variant
    )
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@variants
@pytest.mark.parametrize("lam", [0, 0.3, 1])
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (20, 1), (5, 2), (3, 9), (1, 1), (99, 200)])
def test_real_features_equal_the_dense_form(variant, lam, k1, k2):
    rows = unit_rows(70, 64, seed=1, clusters=8)  # whose float64 order is that of the scores
    found = distances(rows[:20], rows[20:], Reranking(k1, k2, lam, variant))
    expected = oracles.k_reciprocal(rows[:20], rows[20:], k1, k2, lam, variant)
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


def torchreid_form(union, queries, k1, k2, lam):
    """torchreid's arithmetic on matrices: distances float32, squared twice, over the maximum."""
    n = len(union)
    squared = np.square(union).sum(1)
    d = np.square(squared[:, None] + squared - 2 * union @ union.T).astype(np.float32)
    np.fill_diagonal(d, -1)  # a row is its own first neighbor
    order = np.argsort(d, axis=1, kind="stable")
    np.fill_diagonal(d, 0)
    d = (d / d.max(axis=0)).T

    def first(k):
        near = np.zeros((n, n), bool)
        np.put_along_axis(near, order[:, :k], True, axis=1)
        return near

    own = first(k1 + 1) & first(k1 + 1).T
    half = first(int(np.around(k1 / 2)) + 1)
    half &= half.T
    shared = own.astype(int) @ half.T.astype(int)
    enough = own & (shared > 2 / 3 * half.sum(1) + 1e-9)
    star = own | (enough.astype(int) @ half.astype(int) > 0)
    v = np.where(star, np.exp(-d), 0)
    v /= v.sum(1, keepdims=True)
    v = (first(k2).astype(np.float32) @ v / k2).astype(np.float32)
    m = np.array([np.minimum(row, v[queries:]).sum(1) for row in v[:queries]])
    return (1 - m / (2 - m)) * (1 - lam) + d[:queries, queries:] * lam


@pytest.mark.parametrize("k1", [20, 7, 5])
def test_torchreids_arithmetic_agrees(k1):
    rows = unit_rows(400, 128, clusters=25)
    found = distances(rows[:60], rows[60:], Reranking(k1, 6, 0.3, "torchreid"))
    expected = torchreid_form(rows, 60, k1, 6, 0.3)
    assert (expected < 0.9).any()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_a_case_worked_by_hand():
    """Rows 0 and 1 are each other's neighbor, row 2 is alone; d is 0.4, 2 and 0.8."""
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    found = distances(rows[:1], rows[1:], Reranking(k1=1, k2=1, lam=0.3))
    own = np.exp([0, -0.2]) / np.exp([0, -0.2]).sum()
    other = np.exp([-0.5, 0]) / np.exp([-0.5, 0]).sum()
    m = np.minimum(own, other).sum()
    expected = [0.7 * (1 - m / (2 - m)) + 0.3 * 0.4 / 2, 0.7 + 0.3]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_more_than_two_thirds_is_counted_exactly():
    """R(j, half) has three members, of which two are shared: that is not more than two thirds."""
    rows = unit_rows(60, 4, seed=3)
    for k1 in (3, 4, 5, 6):
        found = distances(rows[:20], rows[20:], Reranking(k1, 1, 0))
        expected = oracles.k_reciprocal(rows[:20], rows[20:], k1, 1, 0, "zhong")
        np.testing.assert_allclose(found, expected, atol=1e-6)


@variants
@pytest.mark.parametrize(
    ("tiling", "count"),  # tiles of one score are slow: few rows have many of them
    [(Tiling(1, 1), 80), (Tiling(7, 64, 1), 220), (Tiling(64, 7), 220), (Tiling(999, 999), 220)],
)
def test_bits_do_not_depend_on_the_tiling(variant, tiling, count):
    rows = unit_rows(count, 100, clusters=20)
    settings = Reranking(variant=variant)
    reference = distances(rows[:40], rows[40:], settings)
    reranked = rerank(rows[:40], rows[40:], settings, tiling=tiling)
    found = [reranked.distances(a, b, tiling=tiling) for a, b in ((0, 13), (13, 14), (14, 40))]
    assert np.concatenate(found).tobytes() == reference.tobytes()


def test_bits_do_not_depend_on_how_many_neighbors_are_known():
    """A pair's score is the same from the list of neighbors and from the features."""
    rows = unit_rows(150, 100, clusters=9)
    union, settings = stacked(rows[:20], rows[20:]), Reranking(k1=8, k2=3)
    few, many = search(union, union, 8, self_offset=0), search(union, union, 90, self_offset=0)
    found = [k_reciprocal(union, near, settings).distances(0, 20) for near in (few, many)]
    assert found[0].tobytes() == found[1].tobytes()


def test_weights_of_parts_are_those_of_the_whole():
    rows = unit_rows(90, 32, clusters=7)
    union, settings = stacked(rows[:20], rows[20:]), Reranking(k1=6)
    least = least_scores(union)
    near, greatest = graph(union, settings), greatest_distances(least, settings.squared)
    whole = weights(union, near, greatest, 6, False)
    parts = [weights(union, near, greatest, 6, False, part=part) for part in ((0, 33), (33, 90))]
    assert np.concatenate([part.values for part in parts]).tobytes() == whole.values.tobytes()
    assert np.concatenate([part.columns for part in parts]).tolist() == whole.columns.tolist()
    known = k_reciprocal(union, near, settings, least=least).distances(0, 20)
    assert known.tobytes() == k_reciprocal(union, near, settings).distances(0, 20).tobytes()


def test_encodings_grow_with_n_and_not_with_n_squared():
    settings = Reranking()
    entries = {}
    for n in (400, 1600):
        rows = unit_rows(n, 32, clusters=n // 20)
        reranked = rerank(rows[: n // 4], rows[n // 4 :], settings)
        held = (reranked.query_weights, reranked.gallery_weights)
        entries[n] = sum(weight.values.nbytes + weight.columns.nbytes for weight in held)
        assert reranked.width <= n
        assert len(reranked.greatest) == n // 4
    assert entries[1600] < 1.3 * 4 * entries[400]
    assert entries[1600] < 1600 * settings.neighbors * 6 * 8


class Watched(ArrayRows):
    """Rows that count what is taken out of order."""

    taken = 0

    def take(self, positions):
        Watched.taken += len(positions)
        return super().take(positions)


def test_features_are_read_only_for_pairs_that_are_no_neighbors():
    rows = unit_rows(300, 32, clusters=20)
    union, settings = stacked(rows[:50], rows[50:]), Reranking(k1=10, k2=2)
    watched = StackedRows(Watched(rows[:50]), Watched(rows[50:]))
    k_reciprocal(watched, search(union, union, 299, self_offset=0), settings)
    assert Watched.taken == 0
    k_reciprocal(watched, search(union, union, 10, self_offset=0), settings)
    assert 0 < Watched.taken <= 300


def test_distances_lie_from_0_to_1():
    rows = np.repeat(unit_rows(10, 24), 12, axis=0)
    for variant in ("zhong", "torchreid"):
        found = distances(rows[::9], rows, Reranking(k1=4, k2=3, variant=variant))
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1


def test_tiny_sets_have_distances():
    one = unit_rows(1, 8)
    assert distances(one, one, Reranking()).shape == (1, 1)
    assert distances(one, np.empty((0, 8), np.float32), Reranking()).shape == (1, 0)
    assert distances(np.empty((0, 8), np.float32), one, Reranking()).shape == (0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1 must be at least 1"),
        ({"k2": 0}, "k2 counts the row itself"),
        ({"lam": -0.1}, "lam must lie from 0 to 1"),
        ({"lam": 1.1}, "lam must lie from 0 to 1"),
        ({"lam": float("nan")}, "lam must lie from 0 to 1"),
        ({"variant": "fast"}, "variant must be zhong or torchreid"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Reranking(**settings)


def test_wrong_neighbors_are_told():
    rows = unit_rows(30, 8)
    union, settings = stacked(rows[:5], rows[5:]), Reranking(k1=4, k2=6)
    good = search(union, union, 5, self_offset=0)
    k_reciprocal(union, good, settings)
    with pytest.raises(ValueError, match="neighbors of 29 rows do not go with 30 features"):
        k_reciprocal(union, TopK(good.scores[:29], good.rows[:29]), settings)
    with pytest.raises(ValueError, match="a neighbor is row 30, of 30 rows"):
        k_reciprocal(union, TopK(good.scores, np.where(good.rows == 7, 30, good.rows)), settings)
    with pytest.raises(ValueError, match="k1=4 and k2=6 need 5 neighbors of every row"):
        k_reciprocal(union, TopK(good.scores[:, :4], good.rows[:, :4]), settings)
    padded = TopK(good.scores.copy(), good.rows.copy())
    padded.scores[3, 4], padded.rows[3, 4] = -np.inf, -1
    with pytest.raises(ValueError, match="need 5 neighbors of every row"):
        k_reciprocal(union, padded, settings)
    with pytest.raises(ValueError, match="a row counts among its own neighbors"):
        k_reciprocal(union, search(union, union, 5), settings)
    with pytest.raises(ValueError, match="29 least scores do not go with 30 features"):
        k_reciprocal(union, good, settings, least=np.zeros(29, np.float32))
