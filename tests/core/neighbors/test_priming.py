import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.ledger import Ledger
from pipeline.core.neighbors import pairs, priming, topk
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.products.kernels import read_only
from pipeline.core.products.sieve import NO_SIEVE
from pipeline.core.products.strips import NO_STRIPS
from pipeline.core.products.tiles import Tile
from tests.core.products.test_kernels import all_pairs
from tests.core.strategies import unit_rows

_BELOW, _ABOVE = np.float32(-np.inf), np.float32(np.inf)


def tile_of(values):
    rows, columns, none = *map(np.arange, values.shape), np.empty(0, np.float32)
    return Tile(values, rows, columns, 0.0, 1.0, np.inf, 0, none, none, NO_SIEVE, NO_STRIPS)


def prime(tile, first, second, scores, rows):
    return priming.prime(tile, read_only(first), read_only(second), scores, rows)


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from([1, 5, 300]),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.integers(0, 9),
)
def test_k_others_are_sure_to_be_better(width, height, k, different, apart, seed):
    """Also with values far from the scores, with a single score, and with few different ones."""
    rng = np.random.default_rng(seed)
    second = unit_rows(width, 24, seed)[rng.integers(0, min(width, different), width)]
    first = unit_rows(height, 24, seed + 1)
    columns, own = rng.permutation(width), rng.permutation(height)
    scores = all_pairs(first, second)
    values = (scores + apart * rng.standard_normal(scores.shape, dtype=np.float32))[own][:, columns]
    tile = tile_of(np.ascontiguousarray(values))._replace(rows=own, columns=columns)
    lists, rows = np.full((height, k), -np.inf, np.float32), np.full((height, k), -1)
    scored = prime(tile, first, second, lists, rows)
    assert (rows == -1).all()
    if width <= k:
        assert scored == 0
        assert np.isneginf(lists).all()
        return
    assert height * (k + 1) <= scored <= height * (2 * (k + 1) + 63)
    assert (lists == lists[:, :1]).all()
    assert ((scores > lists[:, :1]).sum(axis=1) >= k + 1).all()
    if not apart and width <= 64:
        # One step higher, and too few would be better.
        best = np.sort(scores, axis=1)[:, -k - 1]
        assert (np.nextafter(lists[:, 0], _ABOVE) == best).all()


def lists_of_search(rows, k, products, ledger=None):
    tiling = Tiling(360, 360, 1)
    return search(rows, rows, k, self_offset=0, tiling=tiling, products=products, ledger=ledger)


def lists_of_pairs(rows, k, products, ledger=None):
    return neighbors(rows, k, tiling=Tiling(360, 360, 1), products=products, ledger=ledger)


@pytest.mark.parametrize("products", ["int8", "float32", "principal"])
@pytest.mark.parametrize("find", [lists_of_search, lists_of_pairs])
def test_a_hair_more_would_lose_rows(find, products, monkeypatch):
    """Twelve rows are alike to the bit, so the score that the heaps are primed for is the worst."""
    rows = np.ascontiguousarray(np.repeat(unit_rows(30, 512), 12, axis=0))
    assert (find(rows, 9, products).rows >= 0).all()
    plain = priming.prime

    def raised(tile, first, second, scores, rows):
        before = scores.copy()
        count = plain(tile, first, second, scores, rows)
        scores[scores > before] = np.nextafter(scores[scores > before], _ABOVE)
        return count

    for module in (topk, pairs):
        monkeypatch.setattr(module, "prime", raised)
    with pytest.raises(ValueError, match="padding must be row -1"):
        find(rows, 9, products)


@pytest.mark.parametrize("find", [lists_of_search, lists_of_pairs])
def test_pairs_that_priming_scores_are_counted(find, monkeypatch):
    plain = priming.prime
    for module in (topk, pairs):
        monkeypatch.setattr(module, "prime", lambda *given: plain(*given) + 10**6)
    ledger = Ledger()
    find(unit_rows(100, 64), 3, "float32", ledger)
    assert ledger.total.scored > 10**6


def test_heaps_are_not_primed_with_values_that_are_not_computed_yet():
    """A strip may have more lines than the tile has rows left."""
    features = unit_rows(6, 8)
    tile = tile_of(np.full((2, 6), 9, np.int32))
    later = tile._replace(rows=tile.rows[:1], strips=NO_STRIPS._replace(kernel=1))
    scores, rows = np.full((2, 3), -np.inf, np.float32), np.full((2, 3), -1)
    assert prime(later, features, features, scores, rows) == 0
    assert np.isneginf(scores).all()
    assert prime(tile, features, features, scores, rows) == 12
    assert np.isfinite(scores).all()


def test_heaps_that_hold_rows_are_not_primed():
    features = np.ascontiguousarray(unit_rows(6, 8))
    values = all_pairs(features[:2], features)
    tile = tile_of(values)
    scores, rows = np.full((2, 3), -np.inf, np.float32), np.full((2, 3), -1)
    rows[1] = -2  # a guess is not a row
    prime(tile, features, features, scores, rows)
    fourth = np.sort(values, axis=1)[:, -4]  # of six: one may be itself
    below = np.nextafter(fourth, _BELOW)
    assert (scores == below[:, None]).all()
    scores[0], scores[1] = fourth[0] - 1e-3, 9
    assert prime(tile, features, features, scores, rows) == 4  # a better guess asks for no scores
    assert (scores == [[below[0]], [9]]).all()
    scores[:], rows[:, 2] = -9, 5
    assert prime(tile, features, features, scores, rows) == 0
    assert (scores == -9).all()
    empty = np.full((2, 6), -np.inf, np.float32)
    prime(tile, features, features, empty, np.full((2, 6), -1))
    assert np.isneginf(empty).all()  # six columns are not sure to give six others


@given(st.integers(1, 700), st.integers(1, 70), st.integers(0, 9))
def test_as_many_values_reach_what_heaps_are_primed_with(width, count, seed):
    values = np.random.default_rng(seed).integers(-9, 9, (5, width)).astype(np.int32)
    count = min(count, width)
    found = priming._among_the_best(values, count)
    assert ((values >= found[:, None]).sum(axis=1) >= count).all()
