import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.products.kernels import (
    aligned,
    all_scores,
    longest,
    pair_scores,
    product_slack,
)


def all_pairs(a, b):
    rows, columns = np.divmod(np.arange(len(a) * len(b)), len(b))
    return pair_scores(a, b, rows, columns).reshape(len(a), len(b))


@given(st.integers(1, 2048), st.integers(0, 99))
def test_scores_are_dot_products_within_half_the_slack(d, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, d)).astype(np.float32)
    truth = a.astype(np.float64) @ b.astype(np.float64).T
    slack = product_slack(d, longest(a), longest(b))
    assert np.abs(all_pairs(a, b) - truth).max() <= slack / 2
    assert np.abs(a @ b.T - truth).max() <= slack / 2


@given(st.integers(1, 300))
def test_scores_are_symmetric_to_the_bit(d):
    a, b = np.random.default_rng(d).standard_normal((2, 5, d)).astype(np.float32)
    assert all_pairs(a, b).tobytes() == np.ascontiguousarray(all_pairs(b, a).T).tobytes()


def test_the_order_of_summation_is_the_documented_one():
    """Sixty-four lanes, then sixteen, then single terms: written out without vectors."""
    d = 64 * 3 + 16 * 2 + 5
    a, b = np.random.default_rng(7).integers(-999, 999, (2, d)).astype(np.float32) / 7
    lanes = np.zeros(64, np.float64)

    def fma(x, y, held):  # exact in float64 for 24-bit factors, then rounded once
        return np.float64(np.float32(np.longdouble(x) * np.longdouble(y) + np.longdouble(held)))

    for start in range(0, 192, 64):
        for lane in range(64):
            lanes[lane] = fma(a[start + lane], b[start + lane], lanes[lane])
    for start in range(192, 224, 16):
        for lane in range(16):
            lanes[lane] = fma(a[start + lane], b[start + lane], lanes[lane])
    four = lanes.astype(np.float32).reshape(4, 16)
    total = (four[0] + four[1]) + (four[2] + four[3])
    while len(total) > 1:
        total = total[: len(total) // 2] + total[len(total) // 2 :]
    result = np.float64(total[0])
    for t in range(224, d):
        result = fma(a[t], b[t], result)
    assert pair_scores(a[None], b[None], np.zeros(1, int), np.zeros(1, int))[0] == result


def test_nothing_has_no_length():
    assert longest(np.empty((0, 3), np.float32)) == 0
    assert longest(np.array([[3, 4]], np.float32)) == pytest.approx(5, rel=2e-4)


@pytest.mark.parametrize("kind", [np.int8, np.int32])
def test_memory_begins_with_a_line_of_the_cache(kind):
    held = [aligned(count, kind) for count in range(200)]
    assert [len(each) for each in held] == list(range(200))
    assert all(each.dtype == kind and each.ctypes.data % 64 == 0 for each in held[1:])


@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 1), (3, 9, 70), (2, 8, 64), (5, 3, 512), (0, 4, 8)]
)
def test_all_scores_are_those_of_pairs(n, m, d):
    rows = np.random.default_rng(0).standard_normal((n + m, d), dtype=np.float32)
    a, b = rows[:n], rows[n:]
    out = np.full((n, m), np.nan, np.float32)
    all_scores(a, b, out)
    assert out.tobytes() == all_pairs(a, b).tobytes()
