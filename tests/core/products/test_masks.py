from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pipeline.core import processor
from pipeline.core.products import masks

KINDS = "at_least", "at_most", "neither", "at_least_either", "at_most_either"


@pytest.fixture(scope="module", params=[8, 64])
def compiled(request):
    """The functions for vectors of both lengths, whichever this processor's code has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_lanes", lambda: request.param)
        yield SimpleNamespace(**{name: njit(getattr(masks, name).py_func) for name in KINDS})


def places(mask):
    return [place for place in range(64) if int(mask) >> place & 1]


@pytest.mark.parametrize(("level", "lanes"), [("avx2", 8), ("avx512", 64), ("all", 64)])
def test_vectors_are_as_long_as_what_compares_them(level, lanes, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, level)
    monkeypatch.setattr(processor, "_has", lambda *names: names == ("avx512_bw",))
    processor.has_avx512.cache_clear()
    try:
        assert masks._lanes() == lanes
    finally:
        processor.has_avx512.cache_clear()


@given(st.integers(1, 200), st.floats(-2, 2, width=32))
def test_masks_tell_what_reaches_the_threshold(compiled, n, threshold):
    values = np.random.default_rng(n).integers(-2, 3, n).astype(np.float32)
    for start in range(0, n, 64):
        reached = values >= np.float32(threshold), values <= np.float32(threshold)
        for masked, expected in zip((compiled.at_least, compiled.at_most), reached, strict=True):
            told = places(masked(values, start, np.float32(threshold)))
            assert told == np.flatnonzero(expected[start : start + 64]).tolist()


@given(st.integers(1, 200), st.integers(-2, 2), st.integers(-2, 2))
def test_masks_tell_what_is_neither(compiled, n, one, other):
    values = np.random.default_rng(n).integers(-2, 3, n) << 40
    one, other = one << 40, other << 40
    for start in range(0, n, 64):
        mask = compiled.neither(values, start, np.int64(one), np.int64(other))
        expected = (values != one) & (values != other)
        assert places(mask) == np.flatnonzero(expected[start : start + 64]).tolist()
        assert masks.bits_set(np.uint64(mask)) == len(places(mask))


@given(st.integers(1, 200), st.integers(-2, 2), st.sampled_from([np.float32, np.int32]))
def test_masks_tell_what_reaches_either_threshold(compiled, n, threshold, kind):
    rows = np.random.default_rng(n).integers(-2, 3, (3, n)).astype(kind)
    values, own = rows[1], rows[2].copy()
    for start in range(0, n, 64):
        reached = (values >= threshold) | (values >= own)
        kept = (values <= threshold) | (values <= own)
        both = (compiled.at_least_either, reached), (compiled.at_most_either, kept)
        for masked, expected in both:
            told = places(masked(rows, 1, start, kind(threshold), own))
            assert told == np.flatnonzero(expected[start : start + 64]).tolist()
