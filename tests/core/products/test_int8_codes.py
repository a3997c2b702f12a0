import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.products import amx_products, arm_products, byte_products, vnni_products
from pipeline.core.products import int8_codes as module
from pipeline.core.products.int8_codes import can_code, quantize, quantize_words
from pipeline.core.products.kernels import pair_scores
from pipeline.core.products.strips import ROWS, next_strip

KINDS = ["normal", "falling", "one-hot", "equal", "opposite", "wild", "heavy", "signs"]


def rows_of(kind, n, d, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    if kind == "falling":
        rows *= np.arange(1, d + 1) ** -1.0
    elif kind == "one-hot":
        rows = np.eye(d)[rng.integers(0, d, n)]
    elif kind == "equal":
        rows[:] = rows[:1]
    elif kind == "opposite":
        rows = rows[:1] * rng.choice([-1, 1], (n, 1))
    elif kind == "wild":
        rows *= 10.0 ** rng.integers(-6, 7, (n, 1))
    elif kind == "heavy":
        rows = rng.standard_cauchy((n, d))
    elif kind == "signs":  # exact in codes, so that only the score rounds
        rows = np.sign(rows)
    if kind != "wild":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


KERNELS = ["torch", "avx2", "vnni", "amx"]


@pytest.fixture(params=KERNELS, autouse=True)
def kernels(request, monkeypatch):
    """Codes for each kind of products."""
    if request.param == "avx2" and not module.has_avx2():
        pytest.skip("needs AVX2")
    if request.param == "vnni" and not module.has_vnni():
        pytest.skip("needs AVX-512 with VNNI")
    if request.param == "amx" and not module.has_amx():
        pytest.skip("needs AMX")
    monkeypatch.setattr(module, "in_panels", lambda: request.param != "torch")
    monkeypatch.setattr(module, "has_vnni", lambda: request.param == "vnni")
    monkeypatch.setattr(module, "has_amx", lambda: request.param == "amx")
    return request.param


def coded(rows, size, rotate=None):
    with Tiling(threads=2).workers() as run:
        return quantize(rows, size, run, rotate)


def worded(rows, size):
    if not module.has_avx2():
        pytest.skip("needs AVX2")
    with Tiling(threads=2).workers() as run:
        return quantize_words(rows, size, run)


def lines(codes):
    """The codes `[N, width]`, out of their panels."""
    held, width = codes.codes.astype(np.int64), codes.width
    if codes.form == "lines":
        return held.reshape(-1, width)
    group = 4
    if codes.form == "words":
        held, width, group = codes.codes.view(np.int16).astype(np.int64), width // 2, 2
    held = held.reshape(-1, width // group, 16, group).transpose(0, 2, 1, 3).reshape(-1, width)
    size = -(-codes.size // 16) * 16
    return np.concatenate(
        [held[x * size :][: codes.rows(x)] for x in range(-(-len(codes.order) // codes.size))]
    )


def tiles(codes, rows):
    """Every tile's bound, scores and coded products, these multiplied in int64."""
    blocks = -(-len(rows) // codes.size)
    whole = lines(codes)
    for x in range(blocks):
        for y in range(blocks):
            a, b = (slice(z * codes.size, (z + 1) * codes.size) for z in (x, y))
            i, j = np.meshgrid(codes.order[a], codes.order[b], indexing="ij")
            scores = pair_scores(rows, rows, i.ravel(), j.ravel()).reshape(i.shape)
            yield (
                codes.bound(x, codes, y),
                scores,
                codes.unit(x, codes, y) * (whole[a] @ whole[b].T),
                (x, y),
            )


@given(
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 31, 64, 65, 512, 513, 768, 2048]),
    st.booleans(),
    st.integers(1, 50),
    st.integers(0, 99),
)
def test_no_product_of_codes_lies_beyond_the_bound(kind, n, d, rotate, size, seed):
    rows = rows_of(kind, n, d, seed)
    codes = coded(rows, size, rotate)
    assert sorted(codes.order) == list(range(n))
    for bound, scores, products, _ in tiles(codes, rows):
        assert np.abs(scores - products).max() <= bound


@given(
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 31, 64, 65]),
    st.integers(1, 50),
    st.integers(0, 99),
)
def test_no_product_of_words_lies_beyond_the_bound(kind, n, d, size, seed):
    rows = rows_of(kind, n, d, seed)
    for bound, scores, products, _ in tiles(worded(rows, size), rows):
        assert np.abs(scores - products).max() <= bound


def test_the_bound_of_words_is_reached():
    """As below: nearly all that is left open is the code of the first row."""
    first = np.array([[32_000 / 1.001, 0.49]], np.float32)
    second = np.array([[0, 1]], np.float32)
    for bound, scores, products, tile in tiles(
        worded(np.vstack([first, second]), 1), np.vstack([first, second])
    ):
        if tile == (0, 1):
            assert np.abs(scores - products).max() > 0.85 * bound


def test_the_bound_is_reached(kernels):
    """A residual parallel to the other row: a bound a thousandth less would be wrong."""
    first = np.r_[63 if kernels == "avx2" else 127, np.full(2047, 0.49)].astype(np.float32)[None]
    second = np.r_[0, np.full(2047, 1)].astype(np.float32)[None]
    codes = coded(np.vstack([second, first]), 1, rotate=False)
    errors = [
        np.abs(s - p).max() / bound
        for bound, s, p, tile in tiles(codes, np.vstack([second, first]))
        if tile in [(0, 1), (1, 0)]
    ]
    assert len(errors) == 2
    assert min(errors) > 0.999


@pytest.mark.parametrize(("n", "d", "size"), [(33, 65, 10), (70, 9, 33), (40, 512, 40), (17, 1, 1)])
@pytest.mark.parametrize("words", [False, True])
def test_products_are_those_of_the_codes(n, d, size, words):
    rows = rows_of("normal", n, d)
    rows[::7] = np.sign(rows[::7])  # the largest codes of all
    rows[::14] = rows[0]
    codes = worded(rows, size) if words else coded(rows, size, rotate=False)
    for _, _, products, (x, y) in tiles(codes, rows):
        unit = codes.unit(x, codes, y)
        buffer = np.full(codes.room(codes.rows(x), codes, y), 7, np.int32)
        tile = codes.product(x, codes, y, buffer)
        np.testing.assert_allclose(tile * unit, products, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "d", "size"), [(150, 65, 150), (129, 9, 80), (40, 70, 33), (3, 1, 1)]
)
@pytest.mark.parametrize("top", [0, 5, 16, 70])
@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("kernels", KERNELS[1:], indirect=True)
def test_strips_are_the_rows_of_the_product(n, d, size, top, words):
    rows = rows_of("normal", n, d)
    codes = worded(rows, size) if words else coded(rows, size, rotate=False)
    for _, _, _, (x, y) in tiles(codes, rows):
        top = min(top, codes.rows(x) - 1)
        height = codes.rows(x) - top
        whole = codes.product(x, codes, y, np.empty(codes.room(codes.rows(x), codes, y), np.int32))
        buffer = np.full(codes.room(ROWS, codes, y), 7, np.int32)
        values, strips = codes.strips(x, top, codes, y, buffer)
        row = 0
        while row < height:
            base, ready = next_strip(strips, row, height, values)
            assert row < ready <= height
            assert (values[row - base : ready - base] == whole[top:][row:ready]).all()
            row = ready


@pytest.mark.parametrize(("kind", "shorter"), [("falling", 0.5), ("one-hot", 0.9)])
def test_a_rotation_spreads_what_few_components_hold(kind, shorter):
    rows = rows_of(kind, 400, 512)
    plain, chosen = coded(rows, 100, rotate=False), coded(rows, 100)
    if kind == "one-hot":  # exact in codes as it is, so this is of the scale alone
        assert chosen.scale.max() < shorter * plain.scale.max()
    else:
        assert chosen.residual.max() < shorter * plain.residual.max()


def test_rows_of_like_components_are_not_rotated():
    rows = rows_of("normal", 400, 512)
    assert (lines(coded(rows, 100)) == lines(coded(rows, 100, rotate=False))).all()


def test_rows_may_stay_in_order():
    rows = rows_of("wild", 33, 65)
    with Tiling(threads=2).workers() as run:
        codes = quantize(rows, 10, run, order=np.arange(33))
    assert codes.order.tolist() == list(range(33))
    for bound, scores, products, _ in tiles(codes, rows):
        assert np.abs(scores - products).max() <= bound


def test_codes_that_int32_cannot_sum_are_not_taken():
    assert can_code(2048) == can_code(1)
    assert not can_code(200_000)


def test_a_processor_that_saturates_is_noticed(monkeypatch):
    monkeypatch.setattr(
        torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(-(2**15) * 100, 2**15 * 100)
    )
    assert not module._exact.__wrapped__()


@pytest.mark.parametrize(
    ("bytes_", "avx2", "vnni", "amx", "arm", "panels", "largest"),
    [
        (False, False, False, False, False, False, 127),
        (True, False, False, False, False, False, 127),
        (True, True, False, False, False, False, 127),
        (False, True, False, False, False, True, 63),
        (True, True, True, False, False, True, 127),
        (True, True, True, True, False, True, 127),
        (False, False, False, False, True, True, 127),
    ],
)
def test_the_instructions_are_asked_for(bytes_, avx2, vnni, amx, arm, panels, largest, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(module, "has_byte_products", lambda: bytes_)
    monkeypatch.setattr(module, "has_avx2", lambda: avx2)
    monkeypatch.setattr(module, "has_vnni", lambda: vnni)
    monkeypatch.setattr(module, "has_amx", lambda: amx)
    monkeypatch.setattr(module, "has_arm_dots", lambda: arm)
    assert module.fast() == (bytes_ or avx2 or arm)
    assert module.in_panels() == panels
    assert module.largest_code() == largest
    if panels:
        ours = amx_products if amx else vnni_products if vnni else byte_products
        assert module._byte_kernels() is (arm_products if arm else ours)
    codes = coded(rows_of("normal", 3, 5), 2)
    assert (codes.form == "panels") == panels
    assert codes.width == (64 if amx or not panels else 8)
