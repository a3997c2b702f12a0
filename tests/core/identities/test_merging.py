"""Identities that verdicts join: by loops over all pairs, until nothing changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.identities.merging import merge_identities
from pipeline.core.identities.verdicts import Verdicts
from tests.core.identities.test_verdicts import PAIRS


def merged_by_loops(identity, same):
    """Rows that are one person by labels or verdicts, directly or through others."""
    n = len(identity)
    one = [
        [a == b or (identity[a] == identity[b] > 0) or (a, b) in same or (b, a) in same
         for b in range(n)] for a in range(n)
    ]  # fmt: skip
    for via in range(n):
        for a in range(n):
            for b in range(n):
                one[a][b] |= one[a][via] and one[via][b]
    return [
        min((identity[b] for b in range(n) if one[a][b] and identity[b] > 0), default=identity[a])
        for a in range(n)
    ]


@given(st.lists(st.integers(-1, 4), min_size=8, max_size=8), PAIRS)
def test_people_are_joined_as_by_loops(identity, same):
    found = merge_identities(np.array(identity), Verdicts(same, []))
    assert found.tolist() == merged_by_loops(identity, set(same))


def test_without_rows_or_verdicts():
    assert merge_identities(np.empty(0, np.int64), Verdicts()).tolist() == []
    assert merge_identities(np.array([5, 0, -1]), Verdicts()).tolist() == [5, 0, -1]
