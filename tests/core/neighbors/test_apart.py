import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.neighbors.apart import between_apart, neighbors_apart
from pipeline.core.neighbors.topk import TopK, merge
from tests import oracles
from tests.core.neighbors.test_topk import as_lists
from tests.core.strategies import cases, tilings
from tests.examples import FEW


def apart(groups):
    return lambda i, j: groups[i] != groups[j] or groups[i] < 0


def shortened(found):
    return [[pair for pair in pairs if pair[1] >= 0] for pairs in as_lists(found)]


@FEW
@given(cases(), st.integers(1, 9), tilings, st.integers(1, 6), st.integers(0, 99))
def test_equals_the_naive_loop_over_other_groups(case, k, tiling, groups, seed):
    rows = case.gallery[case.gallery.any(axis=1)]
    group = np.random.default_rng(seed).integers(-1, groups, len(rows))
    found = neighbors_apart(rows, group, k, tiling=tiling)
    assert shortened(found) == oracles.top_k(rows, rows, k, 0, apart(group))


@FEW
@given(cases(), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_parts_of_a_set_make_up_the_whole(case, k, groups, seed):
    """With what was known before, and row numbers that go on from part to part."""
    rng = np.random.default_rng(seed)
    rows = case.gallery[case.gallery.any(axis=1)]
    group, cut = rng.integers(-1, groups, len(rows)), int(rng.integers(0, len(rows) + 1))
    first, second = rows[:cut], rows[cut:]
    ours = neighbors_apart(first, group[:cut], k)
    theirs = neighbors_apart(second, group[cut:], k, first_row=cut)
    there, back = between_apart(
        first, second, (group[:cut], group[cut:]), k, second_row=cut, known=(ours, None)
    )
    found = [*shortened(there), *shortened(merge([back, theirs], k))]
    assert found == oracles.top_k(rows, rows, k, 0, apart(group))


def test_nobody_is_left_where_all_are_of_one_group():
    rows = np.eye(3, dtype=np.float32)
    assert (neighbors_apart(rows, np.zeros(3, np.int64), 2).rows == -1).all()
    assert len(neighbors_apart(rows[:0], np.zeros(0, np.int64), 2)) == 0
    known = TopK(np.array([[0.5]], np.float32), np.array([[9]]))
    assert neighbors_apart(rows[:1], np.zeros(1, np.int64), 1, known=known).rows.item() == 9
