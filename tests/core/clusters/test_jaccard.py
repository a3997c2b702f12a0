import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.clusters import jaccard
from pipeline.core.clusters.encoding import PlainEncoding, encode
from pipeline.core.clusters.jaccard import JaccardPairs, jaccard_pairs
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.reranking.reciprocal import SparseRows
from tests.core.clusters import dense
from tests.core.strategies import unit_rows


def sparse(v):
    """The entries of a dense matrix that are not 0."""
    counts = (v > 0).sum(axis=1)
    return SparseRows(np.append(0, np.cumsum(counts)), np.nonzero(v)[1].astype(np.int32), v[v > 0])


@st.composite
def weights(draw):
    """Rows of few weights that sum to 1; a hub and equal rows among them."""
    n, seed = draw(st.integers(1, 30)), draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    v = rng.random((n, n)) * (rng.random((n, n)) < draw(st.sampled_from([0.1, 0.4, 1])))
    if draw(st.booleans()):
        v[:, 0] += 1
    v[np.arange(n), np.arange(n)] += 0.5
    v = v[rng.integers(0, n, n)] if draw(st.booleans()) else v
    return (v / v.sum(axis=1, keepdims=True)).astype(np.float32)


def as_lists(pairs):
    runs = zip(pairs.starts, pairs.starts[1:], strict=False)
    return [dict(zip(pairs.rows[a:b].tolist(), pairs.distances[a:b].tolist(), strict=True))
            for a, b in runs]  # fmt: skip


@given(weights(), st.sampled_from([0, 0.2, 0.6, 0.9, 0.999]), st.sampled_from([0, 1, 8]))
def test_pairs_are_those_of_the_dense_matrix(v, eps, hub):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaccard, "_HUB", hub)
        check_pairs(v, eps)


def check_pairs(v, eps):
    wanted = dense.jaccard(v.astype(np.float64))
    found = as_lists(jaccard_pairs(sparse(v), eps))
    for i, row in enumerate(wanted):
        near = {j: d for j, d in enumerate(row) if j != i and d <= eps}
        for j in near.keys() ^ found[i].keys():  # only where rounding decides
            assert row[j] == pytest.approx(eps, abs=1e-6)
        for j in near.keys() & found[i].keys():
            assert found[i][j] == pytest.approx(near[j], abs=1e-6)
            assert found[i][j] == found[j][i]


@pytest.mark.parametrize("hub", [0, 0.5, 8])
def test_blocks_threads_and_hubs_change_no_bit(monkeypatch, hub):
    rows = unit_rows(400, 32, clusters=25)
    made = encode(ArrayRows(rows), neighbors(rows, 29), PlainEncoding())
    whole = jaccard_pairs(made, 0.6)
    assert (np.diff(whole.starts) > 3).mean() > 0.5
    monkeypatch.setattr(jaccard, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(jaccard, "_HUB", hub)
    for threads in (1, 2):
        parts = jaccard_pairs(made, 0.6, tiling=Tiling(threads=threads))
        assert parts.starts.tobytes() == whole.starts.tobytes()
        assert parts.rows.tobytes() == whole.rows.tobytes()
        assert parts.distances.tobytes() == whole.distances.tobytes()


def test_a_smaller_limit_keeps_what_it_would_find():
    rows = unit_rows(120, 16, clusters=9)
    made = encode(ArrayRows(rows), neighbors(rows, 29), PlainEncoding())
    found = jaccard_pairs(made, 0.7)
    assert as_lists(found.within(0.4)) == as_lists(jaccard_pairs(made, 0.4))


def test_no_row_has_no_pair():
    none = SparseRows(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    assert len(jaccard_pairs(none, 0.6)) == 0


@pytest.mark.parametrize("eps", [-0.1, 1, np.nan])
def test_a_limit_that_is_none_is_refused(eps):
    with pytest.raises(ValueError, match="eps must be 0 or more and less than 1"):
        jaccard_pairs(sparse(np.eye(2, dtype=np.float32)), eps)


@settings(max_examples=20)
@given(st.integers(0, 99))
def test_pairs_stand_at_both_rows(seed):
    rows = unit_rows(50, 8, seed=seed, clusters=6)
    found = jaccard_pairs(encode(ArrayRows(rows), neighbors(rows, 15), PlainEncoding(8, 3)), 0.8)
    assert isinstance(found, JaccardPairs)
    lists = as_lists(found)
    assert all(lists[j][i] == d for i, row in enumerate(lists) for j, d in row.items())
    assert all(sorted(row) == list(row) and i not in row for i, row in enumerate(lists))
