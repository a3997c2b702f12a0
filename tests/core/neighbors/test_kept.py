import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.neighbors.kept import counts, moved, trusted, without_itself
from pipeline.core.neighbors.topk import TopK, search

NOTHING = np.float32(-np.inf)


def found(scores, rows):
    return TopK(np.array(scores, np.float32), np.array(rows, np.int64))


def test_what_is_left_moves_up_under_its_new_numbers():
    left = moved(found([[0.9, 0.8, 0.7]], [[3, 1, 2]]), np.array([0, -1, 1, 2]))
    assert left.rows.tolist() == [[2, 1, -1]]
    assert counts(left).tolist() == [2]


def test_new_rows_behind_the_last_that_is_left_are_not_certain():
    left = found([[0.9, 0.5, NOTHING]] * 2, [[4, 7, -1]] * 2)
    merged = found([[0.9, 0.5, 0.5], [0.9, 0.5, 0.4]], [[4, 6, 7], [4, 7, 8]])
    cut = trusted(merged, left, np.array([False, False]))
    assert cut.rows.tolist() == [[4, 6, 7], [4, 7, -1]]
    assert trusted(merged, left, np.array([True, True])).rows.tolist() == merged.rows.tolist()


def test_where_nothing_is_left_nothing_is_certain():
    left = found([[NOTHING, NOTHING]], [[-1, -1]])
    merged = found([[0.9, 0.8]], [[1, 2]])
    assert counts(trusted(merged, left, np.array([False]))).tolist() == [0]
    assert counts(trusted(merged, left, np.array([True]))).tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_a_row_is_left_out_of_its_own_neighbors(seed, k):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (12, 3)).astype(np.float32)
    own = np.sort(rng.choice(12, 4, replace=False))
    again = without_itself(search(rows[own], rows, k + 1), own, k)
    wanted = search(rows, rows, k, self_offset=0)
    assert again.rows.tolist() == wanted.rows[own].tolist()
    assert again.scores.tolist() == wanted.scores[own].tolist()
