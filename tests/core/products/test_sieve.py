import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.ledger import Ledger
from pipeline.core.neighbors import course, topk
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.processor import has_avx2, has_vnni
from pipeline.core.products import choosing, sieve, tiles
from pipeline.core.products.kernels import pair_scores
from pipeline.core.products.principal import Axes, principal_axes
from pipeline.core.products.sieve import Finer, finer_codes, sieved
from pipeline.core.products.tiles import Chosen, here
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.products.test_kernels import all_pairs
from tests.core.products.test_principal import SHARED, UNFILLED, WIDTH, aligned, lengths_of

pytestmark = pytest.mark.skipif(not has_avx2(), reason="needs AVX2")

CHOSEN = Chosen(1, 2)
OPTIONS = {"products": "principal", "tiling": Tiling(64, 64, 1)}


@given(
    st.sampled_from(KINDS),
    st.integers(1, 30),
    st.sampled_from([1, 2, 3, 31, 64, 65, 512]),
    st.integers(1, 70),
    st.integers(0, 99),
)
def test_no_score_lies_beyond_the_bounds(kind, n, d, count, seed):
    rows = rows_of(kind, n, d, seed)
    rows[::5] = 0
    axes = principal_axes(rows, min(count, d))
    finer = finer_codes(rows, lengths_of(rows), axes, len(axes.directions), here, 7)
    of, places = finer.sieve(finer), np.arange(n)
    i, j = np.meshgrid(places, places, indexing="ij")
    scores = pair_scores(rows, rows, i.ravel(), j.ravel()).reshape(n, n)
    products = finer.product(places, finer, places)
    assert products.tolist() == [[product(of, a, b) for b in places] for a in places]
    near = products / of.per_unit
    assert (scores <= near + of.slack).all()
    below = 2.0 * np.outer(of.row_tails, of.column_tails)
    assert (scores >= near - below - of.slack).all()


def product(of, i, j):
    """`sieved` from outside compiled code, and by the definition."""
    found = _sieved(of.rows, i, of.columns, j)
    assert found == of.rows[i].astype(np.int64) @ of.columns[j].astype(np.int64)
    return found


@sieve.njit
def _sieved(rows, i, columns, j):
    return sieved(rows, i, columns, j)


def test_loops_that_sieve_compile_on_every_processor(monkeypatch):
    """Those of neighbors, searches and ranks are compiled where there is no AVX2, too."""
    monkeypatch.setattr(sieve, "has_avx2", lambda: False)
    compiled = sieve.njit(lambda rows, i, columns, j: sieved(rows, i, columns, j))
    codes = np.random.default_rng(0).integers(-32_000, 32_000, (9, 48)).astype(np.int16)
    codes[:, 2:] //= 999
    found = [[compiled(codes, i, codes, j) for j in range(9)] for i in range(9)]
    assert (found == codes.astype(np.int64) @ codes.astype(np.int64).T).all()
    (written,) = compiled.inspect_llvm().values()
    assert "llvm.x86.avx" not in written


@pytest.mark.parametrize("vnni", [False, True])
def test_tiles_of_finer_codes_are_those_of_pairs(vnni, monkeypatch):
    if vnni and not has_vnni():
        pytest.skip("needs AVX-512 with VNNI")
    monkeypatch.setattr(sieve, "has_vnni", lambda: vnni)
    rows = rows_of("falling", 100, 96)
    finer = finer_codes(rows, lengths_of(rows), principal_axes(rows, 20), 20, here, 33)
    some, others = np.array([3, 99, 0, 3]), np.arange(70)
    wide = finer.codes.astype(np.int64)
    assert (finer.product(some, finer, others) == wide[some] @ wide[others].T).all()


@pytest.fixture
def two_components(monkeypatch):
    """Tiles of the first component, and a sieve of two."""
    axes = Axes(np.eye(2, WIDTH, dtype=np.float32), 1e-9)
    for module in (course, ranking, topk):
        monkeypatch.setattr(module, "likely_axes", lambda *_: axes)
    monkeypatch.setattr(choosing.Trial, "choose", lambda *_: CHOSEN)
    monkeypatch.setattr(choosing, "_counts", lambda *_: [1, 2])
    monkeypatch.setattr(tiles, "gather", lambda rows, _: np.arange(len(rows)))
    return axes


def narrow(monkeypatch, change):
    """Have every sieve changed so."""
    plain = Finer.sieve
    monkeypatch.setattr(Finer, "sieve", lambda a, b: change(plain(a, b)))


def third(sign=1):
    """As `aligned`, but what decides is in the third component: beyond the sieve."""
    return np.ascontiguousarray(aligned(sign)[:, [0, 2, 1, *range(3, WIDTH)]])


def less(of):
    """A bound that lacks a thousandth of a score."""
    return of._replace(slack=of.slack - 0.001)


def shorter(of):
    return of._replace(row_tails=0.99 * of.row_tails, column_tails=0.99 * of.column_tails)


def test_a_sieve_a_hair_too_fine_is_noticed_in_neighbors(two_components, monkeypatch):
    rows = third()
    assert neighbors(rows, 1, **OPTIONS).rows[0] == 64
    narrow(monkeypatch, less)
    with pytest.raises(ValueError, match=UNFILLED):
        neighbors(rows, 1, **OPTIONS)


def test_a_sieve_a_hair_too_fine_is_noticed_between_two_sets(two_components, monkeypatch):
    rows = third()
    assert between(rows[:64], rows[64:], 1, second_row=64, **OPTIONS)[0].rows[0] == 64
    near = pair_scores(rows, rows, np.zeros(1, np.int64), np.ones(1, np.int64))
    # All that either side looks for is known, but for row 64.
    known = [topk.TopK(np.full((64, 1), s, np.float32), np.full((64, 1), 1)) for s in (near[0], 2)]
    options = OPTIONS | {"known": tuple(known), "second_row": 64}
    assert between(rows[:64], rows[64:], 1, **options)[0].rows[0] == 64
    narrow(monkeypatch, less)
    assert between(rows[:64], rows[64:], 1, **options)[0].rows[0] == 1


def test_a_sieve_a_hair_too_fine_is_noticed_in_a_search(two_components, monkeypatch):
    rows = third()
    assert search(rows[:1], rows, 1, self_offset=0, **OPTIONS).rows[0] == 64
    narrow(monkeypatch, less)
    assert search(rows[:1], rows, 1, self_offset=0, **OPTIONS).rows[0] == 1


def test_a_sieve_a_hair_too_fine_is_noticed_in_the_least_scores(two_components, monkeypatch):
    rows = third(-1)
    rows[[2, 65]] = 3 * SHARED * np.eye(1, WIDTH)  # nearer than any bound of the others
    exact = all_pairs(rows, rows)
    np.fill_diagonal(exact, np.inf)

    def found():
        least = np.full(len(rows), np.inf, np.float32)
        neighbors(rows, 1, least=least, **OPTIONS)
        return least

    assert found().tobytes() == exact.min(axis=1).tobytes()
    assert exact[0, 64] < exact[0, 1]
    narrow(monkeypatch, shorter)
    assert found()[0] == exact[0, 1]


@pytest.mark.parametrize(("sign", "match", "rank"), [(1, 1, 2), (-1, 1, 1)])
def test_a_sieve_a_hair_too_fine_is_noticed_in_ranks(
    sign, match, rank, two_components, monkeypatch
):
    rows = third(sign)
    gallery = rows[[64, match]]
    labels = Labels(np.array([5]), np.array([0])), Labels(np.array([9, 5]), np.array([1, 1]))
    sides = rows[:1], labels[0], gallery, labels[1]
    options = {"products": "principal", "tiling": Tiling(1, 1, 1)}
    assert rank_counts(*sides, **options).ranks().tolist() == [rank]
    narrow(monkeypatch, less if sign > 0 else shorter)
    assert rank_counts(*sides, **options).ranks().tolist() == [3 - rank]


def test_what_the_sieve_excludes_is_not_scored(monkeypatch):
    """And what is found is the same."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    rows = rows_of("falling", 6000, 128)
    plain, coarse, fine = (Ledger() for _ in range(3))
    expected = neighbors(rows, 5, products="float32", ledger=plain)
    for chosen, ledger in ((Chosen(7, 0), coarse), (Chosen(7, 31), fine)):
        monkeypatch.setattr(choosing.Trial, "choose", lambda *_, chosen=chosen: chosen)
        found = neighbors(rows, 5, products="principal", ledger=ledger)
        assert found.rows.tobytes() == expected.rows.tobytes()
        assert found.scores.tobytes() == expected.scores.tobytes()
    assert fine.total.scored < 0.3 * coarse.total.scored
