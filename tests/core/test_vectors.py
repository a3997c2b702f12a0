import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.vectors import faults, off_unit, unit_vectors


@given(st.integers(0, 20), st.integers(1, 600), st.sampled_from([1e-20, 1.0, 1e18]))
def test_rows_come_out_at_length_one(n, d, scale):
    raw = (np.random.default_rng(n).standard_normal((n, d)) * scale).astype(np.float32)
    unit = unit_vectors(raw)
    assert unit.dtype == np.float32
    assert len(off_unit(unit)) == 0
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_row_does_not_depend_on_the_others():
    raw = np.random.default_rng(0).standard_normal((9, 300)).astype(np.float32)
    assert unit_vectors(raw)[4].tobytes() == unit_vectors(raw[4:5])[0].tobytes()


def test_the_callers_array_is_left_alone():
    raw = np.full((1, 4), 2.0, np.float32)
    unit_vectors(raw)
    assert (raw == 2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_rows_without_direction_are_refused(bad):
    raw = np.ones((3, 2), np.float32)
    raw[1] = bad
    assert list(faults(raw)) == [1]
    with pytest.raises(ValueError, match="row 1 cannot be normalized"):
        unit_vectors(raw)


def test_features_are_matrices():
    with pytest.raises(ValueError, match="matrix"):
        faults(np.ones(3))


def test_lengths_and_nan_are_noticed():
    rows = np.array([[1, 0], [0.998, 0], [1.01, 0], [np.nan, 0], [np.inf, 0]], np.float32)
    assert off_unit(rows).tolist() == [1, 2, 3, 4]
