import numpy as np

from pipeline.core.ledger import Ledger
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.products import choosing, tiles
from pipeline.core.products.choosing import (
    ALL,
    Plan,
    Trial,
    code_like,
    code_sides,
    likely_axes,
    look_ahead,
)
from pipeline.core.products.kernels import lengths
from pipeline.core.products.principal import gather
from pipeline.core.products.tiles import Chosen, Side, here
from tests.core.products.test_int8_codes import rows_of
from tests.core.products.test_kernels import all_pairs
from tests.core.strategies import unit_rows


def side_of(rows, size=64):
    found = np.empty(len(rows), np.float64)
    lengths(rows, found)
    return Side(rows, found, size, coded=True)


def chosen(rows, share, products="auto", meets=10_000):
    side = side_of(rows)
    trial = Trial(side, side, likely_axes(side, products), meets, products)
    return trial.choose(share).dimensions


def nearest(upper, _lower):
    return float((upper >= 0.9).mean())


def test_few_dimensions_are_taken_where_few_hold_most():
    steep = rows_of("falling", 3000, 256) ** 3
    steep /= np.linalg.norm(steep, axis=1, keepdims=True)
    assert 0 < chosen(steep, nearest) < 64
    assert likely_axes(side_of(rows_of("normal", 3000, 256)), "auto") is None
    assert chosen(rows_of("normal", 3000, 256), nearest) == 0


def test_the_more_is_left_open_the_more_dimensions_are_taken():
    rows = rows_of("falling", 3000, 512)
    most = chosen(rows, lambda u, low: (u - low > 0.06).mean()) or 512  # 0 stands for all
    assert 0 < chosen(rows, lambda *_: 0.0) < most


def test_finer_codes_are_taken_where_they_leave_much_less(monkeypatch):
    """Few dimensions leave a tenth of the pairs to be scored, and more leave none."""
    rows = rows_of("falling", 3000, 512)
    side = side_of(rows)
    trial = Trial(side, side, likely_axes(side, "auto"), 10_000, "auto")

    def share(upper, lower):
        return 0.0 if (upper - lower).mean() < 0.05 else 0.02

    monkeypatch.setattr(choosing, "has_avx2", lambda: True)
    chosen = trial.choose(share)
    assert 0 < chosen.dimensions < chosen.finer
    monkeypatch.setattr(choosing, "has_avx2", lambda: False)
    assert trial.choose(share).finer == 0


def test_a_choice_stays_where_others_save_little():
    rows = rows_of("falling", 3000, 512)
    side = side_of(rows)
    trial = Trial(side, side, likely_axes(side, "auto"), 10_000, "auto")
    best = trial.choose(nearest)
    costs = trial._costs_of(nearest)
    for held, cost in costs.items():
        assert trial.choose(nearest, held) == (held if 0.8 * cost < costs[best] else best)
    assert trial.choose(nearest, Chosen(3, 0)) == best  # what was never an option
    assert ALL in costs


def test_rows_that_meet_few_others_are_not_projected():
    rows = rows_of("falling", 3000, 512)
    assert chosen(rows, nearest, meets=10_000) > 0
    assert chosen(rows, nearest, meets=20) == 0


def test_where_they_are_asked_for_some_dimensions_lead():
    for dimension in (1, 2, 40, 512):
        assert chosen(rows_of("normal", 300, dimension), lambda *_: 1.0, "principal") > 0


def test_the_outlook_is_that_of_all_pairs():
    rows = unit_rows(50, 16)
    side = side_of(rows)
    scores = all_pairs(rows, rows)
    outlook = look_ahead(side, side, 3, here)
    np.testing.assert_allclose(outlook.least, scores.min(axis=1), atol=1e-6)
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_allclose(outlook.worst, np.sort(scores, axis=1)[:, -3], atol=1e-6)


def test_sides_are_coded_alike():
    rows = rows_of("falling", 300, 128)
    first, second, third = (side_of(part) for part in (rows[:100], rows[100:200], rows[200:]))
    axes = likely_axes(first, "principal")
    code_sides(first, second, Plan(axes, Chosen(15, 31)), here)
    assert first.leading.chosen == second.leading.chosen == (15, 31)
    code_like(third, first, here)
    assert third.leading.axes is first.leading.axes
    assert third.leading.finer.count == 31
    # Rows that are too short for projections keep their codes, and the others with them.
    tiny, other = side_of(rows[:100] * np.float32(1e-12)), side_of(rows[100:])
    code_sides(tiny, other, Plan(axes, Chosen(15, 31)), here)
    assert tiny.leading is other.leading is None
    assert tiny.codes(here).rotated == other.codes(here).rotated


def test_only_rows_that_are_neighbors_are_gathered():
    """A search meets every query with every row in any case."""
    rows = rows_of("falling", 300, 128)
    axes = likely_axes(side_of(rows), "principal")
    for gathered in (False, True):
        side = Side(rows, side_of(rows).lengths, 64, coded=True, gathered=gathered)
        side.lead(axes, Chosen(15, 0), here)
        expected = gather(rows @ axes.directions[:15].T, 64)
        assert (side.order.tolist() == expected.tolist()) == gathered


def test_rows_are_also_gathered_where_codes_cover_all_dimensions():
    rows = rows_of("falling", 600, 64)
    axes = likely_axes(side_of(rows), "principal")
    for plan, gathered in (
        (Plan(axes, ALL), True),
        (Plan(axes, ALL), False),
        (Plan(None, ALL), True),
    ):
        side = Side(rows, side_of(rows).lengths, 64, coded=True, gathered=gathered)
        code_sides(side, side, plan, here)
        assert side.leading is None
        expected = gather(rows @ axes.directions[:16].T, 64).tolist()
        assert (side.order.tolist() == expected) == (gathered and plan.axes is not None)
        assert side.codes(here).order.tolist() == side.order.tolist()


def test_steep_spectra_are_multiplied_in_few_dimensions(monkeypatch):
    monkeypatch.setattr(tiles, "fast", lambda: True)
    rows = rows_of("falling", 6000, 128) ** 3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ledger = Ledger()
    neighbors(rows, 5, ledger=ledger)
    assert ledger.total.leading > 0.9 * ledger.total.pairs
    assert 0 < ledger.total.fewest <= ledger.total.most < 64
