import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pipeline.core.products.counting import are_many, count_at_once

KINDS = st.sampled_from([np.float32, np.int32])


@njit
def counted(line, first, marked, low, high, slots):
    return count_at_once(line, first, marked, low, high, slots)


@njit
def many(marked, matches):
    return are_many(marked, matches)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 3), KINDS, st.integers(0, 999))
def test_every_marked_row_is_counted_once_or_stays_open(width, matches, spread, kind, seed):
    rng = np.random.default_rng(seed)
    line = rng.integers(-9, 10, width).astype(kind)
    low = np.sort(rng.integers(-9, 10, matches))[::-1].astype(kind)
    high = np.sort(low + rng.integers(0, spread + 1, matches))[::-1].astype(kind)
    for first in range(0, width, 64):
        values = line[first : first + 64]
        marked = rng.random(len(values)) < 0.7
        mask = np.uint64(sum(1 << int(place) for place in np.flatnonzero(marked)))
        slots = np.zeros(matches + 1, np.int64)
        left = int(counted(line, first, mask, low, high, slots))
        between = (values[:, None] >= low) & (values[:, None] <= high)
        still_open = marked & between.any(axis=1)
        assert [bool(left >> place & 1) for place in range(len(values))] == still_open.tolist()
        beaten = (values[:, None] > high).sum(axis=1)[marked & ~still_open]
        assert slots.tolist() == np.bincount(beaten, minlength=matches + 1).tolist()


def test_few_rows_and_many_matches_are_left_to_halving():
    assert not many(np.uint64(0), 1)
    assert not many(np.uint64(0b1111), 1)
    assert many(np.uint64(0xFF), 64)
    assert not many(np.uint64(0xFF), 65)
