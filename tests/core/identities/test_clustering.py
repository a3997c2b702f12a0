import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.identities.clustering import agreement
from tests import oracles

partitions = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2)
)


@given(partitions)
@example(([0] * 6, [0] * 6))
def test_figures_are_those_of_the_loops(parts):
    found = agreement(*(np.array(part, np.int64) for part in parts))
    precision, recall = oracles.b_cubed(*parts)
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f_score == pytest.approx(2 * precision * recall / (precision + recall))
    assert found.nmi == pytest.approx(oracles.mutual_information(*parts), abs=1e-9)
    assert (found.groups, found.identities) == tuple(len(set(part)) for part in parts)


@given(partitions)
def test_roles_swap_precision_and_recall(parts):
    first, second = (np.array(part, np.int64) for part in parts)
    there, back = agreement(first, second), agreement(second, first)
    assert (there.precision, there.recall) == pytest.approx((back.recall, back.precision))
    assert there.nmi == pytest.approx(back.nmi, abs=1e-9)


def test_the_example_of_amigo():
    """Two groups, one pure: worked by hand."""
    found = agreement(np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 2, 2]))
    assert found.precision == pytest.approx((3 * 3 / 4 + 1 / 4 + 1) / 5)
    assert found.recall == pytest.approx((3 * 1 + 1 / 2 + 1 / 2) / 5)


@pytest.mark.parametrize("identity", [[3, 3, 3], [1, 2, 3]])
def test_equal_parts_agree_wholly(identity):
    found = agreement(np.array(identity), np.array(identity))
    assert (found.precision, found.recall, found.f_score) == (1, 1, 1)
    assert found.nmi == pytest.approx(1)


def test_one_group_of_all_knows_nothing():
    found = agreement(np.zeros(4, np.int64), np.array([1, 2, 3, 4]))
    assert (found.precision, found.recall, found.nmi) == (0.25, 1, 0)


def test_no_row():
    found = agreement(np.empty(0, np.int64), np.empty(0, np.int64))
    assert found.rows_labeled == 0
    assert all(map(math.isnan, (found.precision, found.recall, found.f_score, found.nmi)))


def test_lengths_must_fit():
    with pytest.raises(ValueError, match="do not go with"):
        agreement(np.zeros(3, np.int64), np.zeros(2, np.int64))
