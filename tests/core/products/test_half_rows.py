import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation import rank_tiles
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.products import half_rows as module
from pipeline.core.products import tiles
from pipeline.core.products.fold import Fold
from pipeline.core.products.half_rows import Halves, Standing, gpu_or_cpu, halve
from pipeline.core.products.kernels import pair_scores
from pipeline.core.products.tiles import take_device
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.products.test_kernels import all_pairs
from tests.core.strategies import unit_rows


def halved(rows, size):
    with Tiling(threads=2).workers() as run:
        return halve(rows, size, "cpu", run)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 31, 64, 65, 512, 513, 768, 2048]),
    st.integers(1, 50),
    st.integers(0, 99),
)
def test_no_product_of_halves_lies_beyond_the_bound(kind, n, d, size, seed):
    rows = rows_of(kind, n, d, seed)
    halves = halved(rows, size)
    for x in range(-(-n // size)):
        for y in range(-(-n // size)):
            a, b = (slice(z * size, (z + 1) * size) for z in (x, y))
            values = halves.product(x, halves, y).double().numpy() * halves.unit(x, halves, y)
            assert np.abs(all_pairs(rows[a], rows[b]) - values).max() <= halves.bound(x, halves, y)


def test_a_bound_a_hair_too_small_is_noticed(monkeypatch):
    """A query whose rounding is the bound's whole residual, and a rival a hair below its best row.

    Every component of the query loses nearly half a unit of float16, and its best row is row 64, to
    which that all points. Row 0 is worse by a millionth.
    """
    query = np.full((1, 4), 1 + 0.999 * 2**-11, np.float32)
    gallery = np.full((128, 4), -1, np.float32)
    gallery[0] = [4 * (1 - 1e-6), 0, 0, 0]
    gallery[64] = 1
    near, best = all_pairs(query, gallery[[0, 64]])[0]
    assert near < best
    options = {"products": "float16", "tiling": Tiling(1, 16, 1)}
    assert search(query, gallery, 1, **options).rows == 64
    bound = Halves.bound
    monkeypatch.setattr(Halves, "bound", lambda *tile: 0.96 * bound(*tile))
    assert search(query, gallery, 1, **options).rows == 0


def test_nothing_is_left_out_that_may_be_among_the_best_or_the_least():
    """A value may be of a score lower by the slack, another of one higher by it: hence twice it."""
    near = np.array([[8, 7, 6.1, 5.9, 2.1, 1.9, 1, 0]], np.float32)
    none, inf = np.empty(0, np.float32), np.float32(np.inf)

    def marked(worst, least, k, itself):
        standing = Standing(np.array([worst], np.float32), least, k, itself)
        found = module._reaching(torch.from_numpy(near), standing, slack=1.0, unit=0.5)
        return found[0].tolist()

    yes, no = True, False
    assert marked(-inf, none, 1, False) == [yes] * 3 + [no] * 5
    assert marked(-inf, none, 1, True) == [yes] * 4 + [no] * 4
    assert marked(-inf, none, 8, True) == [yes] * 8
    assert marked(3.0, none, 1, True) == [yes] * 4 + [no] * 4  # in units of the tile 6, less 1
    assert marked(9.0, np.array([inf]), 1, False) == [no] * 5 + [yes] * 3
    assert marked(9.0, np.array([inf]), 1, True) == [no] * 4 + [yes] * 4
    assert marked(9.0, np.array([0.0], np.float32), 1, True) == [no] * 6 + [yes] * 2


def test_too_many_pairs_are_left_to_float32(monkeypatch):
    seen, plain = [], Fold._floats
    monkeypatch.setattr(
        Fold, "_floats", lambda self, *tile: seen.append(tile) or plain(self, *tile)
    )
    collapsed = unit_rows(1, 16) + 1e-6 * unit_rows(900, 16)
    for count, floats in ((100, 0), (900, 1)):  # a small tile is always worth scoring
        seen.clear()
        found = neighbors(collapsed[:count], 3, products="float16", tiling=Tiling(1024, 1024, 1))
        assert len(seen) == floats
        expected = search(collapsed[:count], collapsed[:count], 3, self_offset=0)
        assert found.rows.tobytes() == expected.rows.tobytes()
    seen.clear()
    found = search(collapsed, collapsed, 3, products="float16", tiling=Tiling(900, 900, 1))
    assert seen
    expected = search(collapsed, collapsed, 3, products="float32")
    assert found.rows.tobytes() == expected.rows.tobytes()


def test_few_pairs_come_back(monkeypatch):
    """Of rows that are apart, little more than the best is scored."""
    counts, plain = [], module.nominate

    def counted(*tile, **options):
        pairs = plain(*tile, **options)
        counts.append(len(pairs))
        return pairs

    monkeypatch.setattr("pipeline.core.neighbors.pairs.nominate", counted)
    rows = unit_rows(1500, 64, clusters=150)
    neighbors(rows, 5, products="float16", tiling=Tiling(32, 32, 1))
    assert len(counts) == 21
    assert sum(counts) < 1500 * 5 * 8


def test_products_are_made_where_a_gpu_is_given(monkeypatch):
    assert take_device("auto", Tiling()) is None
    assert take_device("auto", Tiling(gpus=0.5)) == "cpu"  # a logical one
    assert take_device("float16", Tiling()) == "cpu"
    assert take_device("float32", Tiling(gpus=1)) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_or_cpu() == "cuda:0"
    seen, plain = [], tiles.halve

    def halve_here(rows, size, device, run):
        seen.append(device)
        return plain(rows, size, "cpu", run)

    monkeypatch.setattr(tiles, "halve", halve_here)
    rows = unit_rows(30, 8)
    found = neighbors(rows, 3, tiling=Tiling(gpus=1))
    assert found.rows.tolist() == neighbors(rows, 3).rows.tolist()
    assert seen == ["cuda:0"]


def test_another_device_multiplies_halves_into_float32():
    """Of which only the shapes can be told here."""
    rows = torch.empty(8, 16, dtype=torch.float16, device="meta")
    halves = Halves(5, rows, *np.ones((4, 2)))
    tile = halves.product(0, halves, 1)
    assert (tile.shape, tile.dtype) == ((5, 3), torch.float32)


def test_rows_of_any_size_are_held():
    for size in (1e-18, 1.0, 1e18):
        rows = unit_rows(6, 8) * np.float32(size)
        halves = halved(rows, 4)
        assert halves.residual.max() <= 2**-10 * halves.length.max()
        assert (halves.rows.abs() <= 1).all()
    assert halved(np.zeros((2, 3), np.float32), 2).residual.tolist() == [0]
    assert pair_scores(rows, rows, np.array([0]), np.array([0]))[0] > 0


@pytest.mark.parametrize("gpus", [-1, 1.5, 2, np.nan])
def test_wrong_shares_of_a_gpu_are_told(gpus):
    with pytest.raises(ValueError, match="gpus must be a share from 0 to 1"):
        Tiling(gpus=gpus)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_a_hair_too_small_is_noticed_by_the_ranks(sign, monkeypatch):
    """The rows of `test_a_bound_a_hair_too_small_is_noticed`, of which row 0 is the match: row 64
    beats it by a millionth where the sign is +, and is beaten by it else.
    """
    query = np.full((1, 4), 1 + 0.999 * 2**-11, np.float32)
    gallery = np.full((128, 4), -sign, np.float32)
    gallery[0] = [sign * 4 * (1 - 1e-6), 0, 0, 0]
    gallery[64] = sign
    identity = np.where(np.arange(128) == 0, 5, 9)
    labels = Labels(np.array([5]), np.array([0])), Labels(identity, np.ones(128, np.int64))

    def rank(products):
        sides = query, labels[0], gallery, labels[1]
        return rank_counts(*sides, products=products, tiling=Tiling(1, 1, 1)).ranks().tolist()

    assert rank("float32") == rank("float16") == [2 if sign > 0 else 127]
    bound = Halves.bound
    monkeypatch.setattr(Halves, "bound", lambda *tile: 0.96 * bound(*tile))
    assert rank("float16") == [1 if sign > 0 else 128]


def counted(rows, queries, matching, **options):
    """The counts of the first `queries` of `rows`, of one person, whose rows are `matching`."""
    person, others = np.full(queries, 7), rows[queries:]
    sides = (
        rows[:queries], Labels(person, np.zeros(queries, np.int64)),
        others, Labels(np.where(matching, 7, 0), np.ones(len(others), np.int64)),
    )  # fmt: skip
    return rank_counts(*sides, **options).ahead.tolist()


def test_ranks_that_halves_leave_open_are_left_to_float32(monkeypatch):
    seen, plain = [], Fold._floats
    monkeypatch.setattr(
        Fold, "_floats", lambda self, *tile: seen.append(tile) or plain(self, *tile)
    )
    collapsed = unit_rows(1, 16) + 1e-6 * unit_rows(1520, 16)
    options = {"products": "float16", "tiling": Tiling(1024, 1500, 1)}
    for queries, floats in ((2, 0), (20, 1)):  # a small tile is always worth scoring
        matching = np.arange(1520 - queries) % 9 == 0
        expected = counted(collapsed, queries, matching)
        seen.clear()
        assert counted(collapsed, queries, matching, **options) == expected
        assert len(seen) == floats


def test_few_ranks_are_left_open(monkeypatch):
    """Of rows that are apart, little is scored, in however many portions they are placed."""
    left, plain = [], rank_tiles.settle_tile
    rows, matching = unit_rows(1020, 64), np.arange(1000) % 100 == 0
    expected = counted(rows, 20, matching)

    def settled(*tile):
        found = plain(*tile)
        left.append(len(found.open))
        return found

    monkeypatch.setattr(rank_tiles, "settle_tile", settled)
    for portion in (2**22, 999, 7):
        monkeypatch.setattr(rank_tiles, "_PAIRS_AT_ONCE", portion)
        options = {"products": "float16", "tiling": Tiling(8, 64, 1)}
        assert counted(rows, 20, matching, **options) == expected
    assert sum(left) < 0.05 * 3 * 20 * 1000
    assert any(left)
