import numpy as np
import pytest

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.products import tiles
from tests.core.products.test_int8_codes import rows_of
from tests.core.strategies import unit_rows


def test_accounts_add_up():
    one = Account(leading=50, fewest=31, most=31, scored=5)
    other = Account(leading=25, fewest=63, most=63, codes=20, floats=5, scored=5)
    total = one + other + Account()
    assert total == Account(75, 31, 63, 20, 5, 0, 10)
    assert (total.pairs, total.share_scored) == (100, 0.1)
    assert str(total) == (
        "products 75.0% of codes of 31 to 63 dimensions, 20.0% of codes, 5.0% of float32;"
        " 10.00% of pairs scored"
    )
    assert str(Account()) == "products none; 0.00% of pairs scored"
    assert "100.0% of codes of 31 dimensions" in str(one)
    assert "100.0% of float16" in str(Account(halves=3))


KINDS = [("float32", "floats"), ("int8", "codes"), ("principal", "leading"), ("float16", "halves")]


@pytest.mark.parametrize(("products", "kind"), KINDS)
def test_every_pair_is_accounted_for(products, kind):
    rows = rows_of("falling", 300, 64)
    tiling = Tiling(64, 64, 2)
    of_neighbors, of_search, of_sides = Ledger(), Ledger(), Ledger()
    neighbors(rows, 3, tiling=tiling, products=products, ledger=of_neighbors)
    between(rows[:100], rows[100:], 3, tiling=tiling, products=products, ledger=of_sides)
    search(rows[:9], rows, 3, tiling=tiling, products=products, ledger=of_search)
    totals = [ledger.total for ledger in (of_neighbors, of_search, of_sides)]
    if products != "float16":  # where halves leave too much open, float32 does the rest
        for total in totals:
            assert getattr(total, kind) == total.pairs
        assert totals[0].pairs == sum(
            min(64, 300 - x) * min(64, 300 - y)
            for x in range(0, 300, 64)
            for y in range(x, 300, 64)
        )
        assert [total.pairs for total in totals[1:]] == [9 * 300, 100 * 200]
    assert all(0 < total.scored < total.pairs for total in totals)


@pytest.mark.parametrize(("products", "kind"), KINDS[:3])
def test_counted_ranks_are_accounted_for(products, kind):
    rows, ledger = unit_rows(200, 32), Ledger()
    labels = Labels(np.arange(200) % 9 + 1, np.arange(200) % 5)
    query = Labels(labels.identity[:20], labels.camera[:20])
    rank_counts(rows[:20], query, rows, labels, products=products, ledger=ledger)
    assert getattr(ledger.total, kind) == ledger.total.pairs == 20 * 200
    assert 0 < ledger.total.scored < 20 * 200


def test_products_made_again_are_accounted_for_twice(monkeypatch):
    """Where codes leave too much open, the rest of the tile is of float32."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 0)
    ledger = Ledger()
    near = unit_rows(1, 64) + 1e-4 * unit_rows(1024, 64)
    neighbors(near, 3, tiling=Tiling(64, 64, 1), ledger=ledger)
    assert ledger.total.codes > 0
    assert ledger.total.floats > 0
    assert ledger.total.pairs > 1024 * 1024 // 2
