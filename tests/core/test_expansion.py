import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling
from pipeline.core.expansion import Expansion, average, expand
from pipeline.core.neighbors.topk import TopK, search
from tests import oracles
from tests.core.strategies import unit_rows


def expanded(rows, among, settings, **options):
    return np.concatenate(list(expand(rows, among, settings, **options)))


@given(
    st.integers(1, 12), st.integers(1, 30), st.integers(1, 35), st.sampled_from([0, 0.5, 3]),
    st.integers(0, 99),
)  # fmt: skip
def test_equals_the_naive_loop(n, m, k, alpha, seed):
    rows, among = unit_rows(n, 24, seed), unit_rows(m, 24, seed + 1)
    found = expanded(rows, among, Expansion("query", k, alpha), chunk=5)
    np.testing.assert_allclose(found, oracles.expand(rows, among, k, alpha), atol=2e-6)


@given(st.integers(1, 30), st.integers(1, 35), st.sampled_from([0, 2.5]), st.integers(0, 99))
def test_rows_among_themselves_count_themselves_first(n, k, alpha, seed):
    rows = unit_rows(n, 24, seed)
    found = expanded(rows, rows, Expansion("database", k, alpha), self_offset=0, chunk=7)
    np.testing.assert_allclose(found, oracles.expand(rows, rows, k, alpha, 0), atol=2e-6)


def test_joint_is_fastreids_aqe_on_unit_vectors_for_one_round():
    """From the second round on its vectors count by their lengths, too; ours are of unit length."""
    # All similarities are positive here: fast-reid's power of a negative one gives NaN.
    queries = np.abs(unit_rows(7, 16))
    gallery = np.abs(unit_rows(40, 16, seed=1))
    union, apart = np.vstack([queries, gallery]), []
    for times in (1, 2):
        union = expanded(union, union, Expansion("joint", 10, 3.0), self_offset=0)
        expected = np.vstack(oracles.fastreid_aqe(queries, gallery, times, 10, 3.0))
        apart.append(np.abs(union - expected).max())
    assert apart[0] < 3e-6
    assert apart[1] > 1e-4


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize(
    ("tiling", "count"),  # tiles of one score are slow: few rows have many of them
    [(Tiling(1, 1), 20), (Tiling(7, 7), 50), (Tiling(64, 64), 90), (Tiling(999, 999), 90)],
)
def test_bits_do_not_depend_on_chunk_or_tiling(chunk, tiling, count):
    queries, gallery = unit_rows(20, 96, clusters=9), unit_rows(count, 96, seed=4, clusters=9)
    union = StackedRows(ArrayRows(queries), ArrayRows(gallery))
    reference = expanded(union, union, Expansion(), self_offset=0)
    found = expanded(union, union, Expansion(), self_offset=0, chunk=chunk, tiling=tiling)
    assert found.tobytes() == reference.tobytes()
    halves = [
        expanded(union, union, Expansion(), self_offset=0, part=part, chunk=chunk)
        for part in ((0, 33), (33, 20 + count))
    ]
    assert np.concatenate(halves).tobytes() == reference.tobytes()


def test_a_duplicate_does_not_displace_the_row_itself():
    rows = np.repeat(unit_rows(2, 8), [3, 1], axis=0)
    found = expanded(rows, rows, Expansion("database", 2, 3.0), self_offset=0)
    np.testing.assert_allclose(found[:3], rows[:3], atol=1e-6)


def test_negative_similarities_and_a_fractional_alpha_give_no_nan():
    rows = np.array([[1, 0], [-1, 0], [-0.6, 0.8]], np.float32)
    found = expanded(rows, rows, Expansion("database", 3, 0.5), self_offset=0)
    assert np.isfinite(found).all()
    assert found[0].tolist() == [1, 0]  # nobody near: its neighbors weigh nothing


def test_a_row_that_its_neighbors_cancel_stays():
    rows = np.array([[0.6, 0.8], [-0.6, -0.8]], np.float32)
    found = expanded(rows, rows, Expansion("database", 2, 0.0), self_offset=0)
    assert found.tolist() == rows.tolist()


def test_k_of_one_changes_nothing_and_k_beyond_n_takes_all():
    rows = unit_rows(5, 8)
    assert (expanded(rows, rows, Expansion("database", 1), self_offset=0) == rows).all()
    whole = expanded(rows, rows, Expansion("database", 5), self_offset=0)
    assert (expanded(rows, rows, Expansion("database", 99), self_offset=0) == whole).all()


def test_expanded_rows_are_unit_vectors():
    rows = unit_rows(50, 32, clusters=4)
    lengths = np.linalg.norm(expanded(rows, rows, Expansion("database"), self_offset=0), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both"}, "mode must be query, database or joint"),
        ({"k": 0}, "k counts the row itself"),
        ({"alpha": -1}, "alpha must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"times": 0}, "times must be"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Expansion(**settings)


def test_rows_in_memory_and_rows_that_are_gathered_give_the_same_bits():
    rows = unit_rows(40, 17, clusters=4)
    found = search(rows, rows, 5, self_offset=0)
    in_memory = average(rows, found, ArrayRows(rows), 2.5)
    gathered = average(rows, found, StackedRows(ArrayRows(rows[:9]), ArrayRows(rows[9:])), 2.5)
    assert in_memory.tobytes() == gathered.tobytes()
    nothing = average(rows[:0], TopK(found.scores[:0], found.rows[:0]), ArrayRows(rows), 2.5)
    assert nothing.shape == (0, 17)
