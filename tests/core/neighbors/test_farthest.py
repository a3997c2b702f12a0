import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.products.kernels import pair_scores
from tests.core.strategies import cases, tilings, unit_rows
from tests.examples import FEW

PRODUCTS = ["auto", "int8", "float32", "float16"]


def oracle(rows):
    """The least exact score of every row with another, by a loop over all pairs."""
    n = len(rows)
    least = np.full(n, np.inf, np.float32)
    for i in range(n):
        others = np.array([j for j in range(n) if j != i], np.int64)
        if len(others):
            least[i] = pair_scores(rows, rows, np.full(n - 1, i), others).min()
    return least


@FEW
@given(cases(), tilings, st.sampled_from(PRODUCTS))
def test_equals_the_naive_loop_in_every_tiling(case, tiling, products):
    rows = case.gallery[case.gallery.any(axis=1)]
    found = least_scores(rows, tiling=tiling, products=products)
    assert found.tolist() == oracle(rows).tolist()


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("tiling", [Tiling(3, 5), Tiling(7, 64, 1), Tiling(64, 7), Tiling(99, 99)])
@pytest.mark.parametrize("d", [3, 128, 513])
def test_bits_of_real_scores_do_not_depend_on_the_tiling(tiling, d, products):
    rows = unit_rows(200, d, clusters=15)
    union = StackedRows(ArrayRows(rows[:30]), ArrayRows(rows[30:]))
    found = least_scores(union, tiling=tiling, products=products)
    assert found.tobytes() == oracle(rows).tobytes()


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("tiling", [Tiling(64, 64), Tiling(64, 16)])
def test_what_a_product_would_find_wrongly_is_found_by_score(tiling, products):
    """Rows a rounding apart: the product of blocks alone, without its slack, fails here."""
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((300, 512)).astype(np.float32) * 2e-8
    rows[::2] *= -1
    assert least_scores(rows, tiling=tiling, products=products).tobytes() == oracle(rows).tobytes()


def test_no_other_row_gives_no_least_score():
    assert least_scores(unit_rows(1, 4)).tolist() == [np.inf]
    assert least_scores(np.empty((0, 4), np.float32)).tolist() == []
