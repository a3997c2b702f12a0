import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.ledger import Ledger
from pipeline.core.neighbors import course
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import merge, search
from pipeline.core.products import tiles
from tests.core.neighbors.test_pairs import assert_same, numbered
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.strategies import unit_rows
from tests.examples import FEW

PRODUCTS = ["auto", "principal", "int8", "float32"]


@pytest.fixture(autouse=True)
def guesses(monkeypatch):
    """Lists are guessed ahead, however few the rows."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 0)
    monkeypatch.setattr(course, "_FEWEST", 0)
    monkeypatch.setattr(course, "_FEWEST_OF_K", 1)


def check(rows, k, products, tiling):
    reference = search(rows, rows, k, self_offset=0, products="float32")
    assert_same(neighbors(rows, k, products=products, tiling=tiling), reference)
    half = len(rows) // 2
    first, second = rows[:half], rows[half:]
    options = {"second_row": half, "tiling": tiling, "products": products}
    there, back = between(first, second, k, **options)
    assert_same(there, numbered(search(first, second, k, products="float32"), half))
    assert_same(back, search(second, first, k, products="float32"))
    known = neighbors(first, k)
    there, back = between(first, second, k, known=(known, None), **options)
    assert_same(there, merge([known, numbered(search(first, second, k), half)], k))
    least = np.full(len(rows), np.inf, np.float32), np.full(len(rows), np.inf, np.float32)
    for found, each in zip(least, ("float32", products), strict=True):
        neighbors(rows, k, least=found, products=each, tiling=tiling)
    assert least[0].tobytes() == least[1].tobytes()


@FEW
@given(
    st.sampled_from(KINDS),
    st.integers(2, 200),
    st.sampled_from([1, 2, 16, 63, 300]),
    st.integers(1, 20),
    st.sampled_from([Tiling(16, 64, 1), Tiling(65, 1000, 2)]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_what_is_guessed_changes_no_list(kind, n, d, k, tiling, products, seed):
    check(rows_of(kind, n, d, seed), k, products, tiling)


@pytest.mark.parametrize("products", ["auto", "principal"])
@pytest.mark.parametrize("above", [0.05, 9])
def test_rows_that_fall_short_are_made_good(above, products, monkeypatch):
    """Whatever is guessed: here nearly all fall short, or all."""
    plain = course.look_ahead

    def too_much(*sides):
        outlook = plain(*sides)
        return outlook._replace(worst=outlook.worst + np.float32(above))

    monkeypatch.setattr(course, "look_ahead", too_much)
    rows = unit_rows(400, 32, clusters=40)
    rows[::9] = rows[0]
    check(rows, 7, products, Tiling(64, 64, 2))


def test_most_rows_reach_what_is_guessed(monkeypatch):
    short = []
    plain = course.fell_short
    monkeypatch.setattr(
        "pipeline.core.neighbors.pairs.fell_short",
        lambda ends: short.append(plain(ends)) or short[-1],
    )
    rows = unit_rows(3000, 64, clusters=200)
    scored = []
    for fewest in (0, 10_000):
        monkeypatch.setattr(course, "_FEWEST", fewest)
        ledger = Ledger()
        neighbors(rows, 10, ledger=ledger, products="int8", tiling=Tiling(256, 256))
        scored.append(ledger.total.scored)
    assert 0 < len(short[0]) < len(rows) / 8
    assert len(short[1]) == 0
    assert scored[0] < scored[1] / 2


def test_lists_that_cannot_be_filled_are_not_guessed(monkeypatch):
    """Nor where the numbers of rows do not ascend, by which ties would be broken otherwise."""
    monkeypatch.setattr(course, "_FEWEST_OF_K", 8)
    rows = unit_rows(20, 8)
    assert_same(neighbors(rows, 19), search(rows, rows, 19, self_offset=0))
    same, numbers = np.ones((60, 8), np.float32), np.arange(60)[::-1].copy()
    assert neighbors(same, 2, first_row=numbers).rows[:3].tolist() == [[0, 1]] * 3
