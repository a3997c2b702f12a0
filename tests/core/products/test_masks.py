import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.products.masks import (
    at_least,
    at_least_either,
    at_most,
    at_most_either,
    bits_set,
    neither,
)


@given(st.integers(1, 200), st.floats(-2, 2, width=32))
def test_masks_tell_what_reaches_the_threshold(n, threshold):
    values = np.random.default_rng(n).integers(-2, 3, n).astype(np.float32)
    for start in range(0, n, 64):
        reached = values >= np.float32(threshold), values <= np.float32(threshold)
        for masked, expected in zip((at_least, at_most), reached, strict=True):
            mask = int(masked(values, start, np.float32(threshold)))
            told = [i for i in range(64) if mask >> i & 1]
            assert told == np.flatnonzero(expected[start : start + 64]).tolist()


@given(st.integers(1, 200), st.integers(-2, 2), st.integers(-2, 2))
def test_masks_tell_what_is_neither(n, one, other):
    values = np.random.default_rng(n).integers(-2, 3, n) << 40
    one, other = one << 40, other << 40
    for start in range(0, n, 64):
        mask = neither(values, start, np.int64(one), np.int64(other))
        told = [i for i in range(64) if int(mask) >> i & 1]
        expected = (values != one) & (values != other)
        assert told == np.flatnonzero(expected[start : start + 64]).tolist()
        assert bits_set(np.uint64(mask)) == len(told)


@given(st.integers(1, 200), st.integers(-2, 2), st.sampled_from([np.float32, np.int32]))
def test_masks_tell_what_reaches_either_threshold(n, threshold, kind):
    rows = np.random.default_rng(n).integers(-2, 3, (3, n)).astype(kind)
    values, own = rows[1], rows[2].copy()
    for start in range(0, n, 64):
        reached = (values >= threshold) | (values >= own)
        kept = (values <= threshold) | (values <= own)
        for masked, expected in ((at_least_either, reached), (at_most_either, kept)):
            mask = int(masked(rows, 1, start, kind(threshold), own))
            told = [i for i in range(64) if mask >> i & 1]
            assert told == np.flatnonzero(expected[start : start + 64]).tolist()
