import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.clusters.encoding import (
    CameraEncoding,
    PlainEncoding,
    encode,
    encode_by_camera,
)
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK, search
from tests.core.clusters import dense
from tests.core.strategies import unit_rows


def order_of(rows):
    """Every row's ranking of all rows, itself first."""
    found = search(rows, rows, max(1, len(rows) - 1), self_offset=0).rows
    return np.concatenate([np.arange(len(rows))[:, None], found], axis=1)[:, : len(rows)]


def as_matrix(sparse):
    v = np.zeros((len(sparse), len(sparse)))
    owners = np.repeat(np.arange(len(sparse)), np.diff(sparse.starts))
    v[owners, sparse.columns] = sparse.values
    return v


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 12), st.integers(1, 7), st.integers(0, 99))
def test_plain_weights_are_those_of_the_dense_form(n, k1, k2, seed):
    rows, sizes = unit_rows(n, 16, seed=seed, clusters=5), PlainEncoding(k1, k2)
    made = encode(ArrayRows(rows), neighbors(rows, sizes.neighbors), sizes)
    wanted = dense.plain_weights(rows, order_of(rows), k1, k2)
    np.testing.assert_allclose(as_matrix(made), wanted, atol=1e-6)
    assert all(np.diff(made.columns[a:b]).min(initial=1) > 0 for a, b in
               zip(made.starts, made.starts[1:], strict=False))  # fmt: skip


@settings(max_examples=30)
@given(
    st.integers(1, 40), st.integers(1, 5),
    st.builds(CameraEncoding, st.integers(1, 6), st.integers(1, 9), st.integers(1, 4),
              st.integers(0, 5)),
    st.integers(0, 99),
)  # fmt: skip
def test_camera_weights_are_those_of_the_dense_form(n, count, sizes, seed):
    rows = unit_rows(n, 16, seed=seed, clusters=5)
    cameras = np.random.default_rng(seed).integers(-1, count, n)
    found = neighbors_by_camera(rows, cameras, *sizes.neighbors, tiling=Tiling(8, 8, 1))
    made = encode_by_camera(*found, sizes)
    wanted = dense.camera_weights(rows, order_of(rows), cameras, sizes)
    np.testing.assert_allclose(as_matrix(made), wanted, atol=1e-6)


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_lists_by_camera_are_those_of_a_search_within_and_beyond(n, count, same, other):
    rows = unit_rows(max(1, n), 8, seed=n)[:n]
    cameras = np.random.default_rng(n).integers(-1, count, n)
    own, others = neighbors_by_camera(rows, cameras, same, other)
    order = order_of(rows)
    for i in range(n):
        all_scores = order[i, 1:] if n > 1 else []
        mine = [j for j in all_scores if cameras[j] == cameras[i] != -1]
        beyond = [j for j in all_scores if not cameras[j] == cameras[i] != -1]
        assert [j for j in own.rows[i] if j >= 0] == mine[:same]
        assert [j for j in others.rows[i] if j >= 0] == beyond[:other]


def test_threads_and_blocks_change_nothing():
    rows = unit_rows(300, 16, clusters=30)
    near = neighbors(rows, PlainEncoding().neighbors)
    one, two = (encode(ArrayRows(rows), near, tiling=Tiling(threads=n)) for n in (1, 2))
    assert [a.tobytes() for a in one.arrays] == [b.tobytes() for b in two.arrays]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlainEncoding(k1=1), "k1 must be 2 or more and k2 1 or more, not 1 and 6"),
        (lambda: PlainEncoding(k2=0), "not 30 and 0"),
        (lambda: CameraEncoding(k1_same=0), "not 0, 20, 2 and 4"),
        (lambda: CameraEncoding(k2_other=-1), "not 5, 20, 2 and -1"),
        (
            lambda: encode(ArrayRows(unit_rows(9, 4)), TopK.none(9, 3), PlainEncoding(6, 2)),
            "lists of 3 neighbors are given, and 5 are needed",
        ),
        (
            lambda: encode_by_camera(TopK.none(9, 4), TopK.none(9, 21)),
            "same: lists of 4 are given, and 5 are needed",
        ),
        (
            lambda: neighbors_by_camera(unit_rows(3, 4), np.array([0, 1]), 1, 1),
            "a number from -1 for each of 3 rows, not of shape (2,)",
        ),
        (
            lambda: neighbors_by_camera(unit_rows(2, 4), np.array([0, -2]), 1, 1),
            "a number from -1 for each of 2 rows",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
