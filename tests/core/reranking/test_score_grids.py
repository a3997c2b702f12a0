import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pipeline.core import processor
from pipeline.core.products.kernels import pair_scores
from pipeline.core.reranking import score_grids
from pipeline.core.reranking.score_grids import COLUMNS, MOST_ROWS

FORMS = [(3, 8), (4, 16)]
GUARD = np.float32(7)


@pytest.fixture(scope="module", params=FORMS)
def all_scores(request):
    """The scores of all pairs by grids of one form, whichever this processor's code has."""
    height = request.param[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_grids, "_layout", lambda: request.param)
        write = njit(score_grids.score_grid.py_func)
        tall = njit(score_grids.grid_height.py_func)

        @njit
        def compute(a, b, start):
            grid = np.full((MOST_ROWS + 1, COLUMNS + 9), GUARD)
            out = np.empty((a.shape[0], b.shape[0]), np.float32)
            for i in range(0, a.shape[0], tall()):
                for j in range(0, b.shape[0], COLUMNS):
                    write(a, i, b, j, grid, start)
                    for r in range(min(tall(), a.shape[0] - i)):
                        for c in range(min(COLUMNS, b.shape[0] - j)):
                            out[i + r, j + c] = grid[r, start + c]
            return out, grid

        one = np.ones((1, 1), np.float32)
        compute(one, one, 0)  # compiles while the form is in place
    return lambda a, b, start: (*compute(a, b, start), height)


sizes = st.integers(1, 9)


@given(sizes, sizes, st.integers(1, 300), st.integers(0, 9), st.integers(0, 99))
def test_scores_in_a_grid_are_those_of_the_pairs_to_the_bit(all_scores, n, m, d, start, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((rows, d)).astype(np.float32) for rows in (n, m))
    found, grid, height = all_scores(a, b, start)
    rows, columns = np.divmod(np.arange(n * m), m)
    truth = pair_scores(a, b, rows, columns).reshape(n, m)
    assert found.tobytes() == truth.tobytes()
    # The last grid repeats the last row and the last column, and nothing else is written.
    below = np.minimum(np.arange(height) + (n - 1) // height * height, n - 1)
    beside = np.minimum(np.arange(COLUMNS) + (m - 1) // COLUMNS * COLUMNS, m - 1)
    expected = np.full(grid.shape, GUARD)
    expected[:height, start : start + COLUMNS] = truth[np.ix_(below, beside)]
    assert grid.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("level", "form"), [("avx2", (3, 8)), ("avx512", (4, 16))])
def test_a_grid_is_as_large_as_the_registers_allow(level, form, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, level)
    monkeypatch.setattr(processor, "_has", lambda *names: names == ("avx512_bw",))
    processor.has_avx512.cache_clear()
    try:
        assert score_grids._layout() == form
    finally:
        processor.has_avx512.cache_clear()
