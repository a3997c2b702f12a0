import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.identities.verdicts import Contradiction, Verdicts, contradictions
from tests import oracles

PAIRS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1]),
    max_size=10,
)


def shortest_chain(same, start, end):
    """Among all ways without a row twice: the shortest, then the one of the smallest rows."""
    links = {frozenset(pair) for pair in same}
    rows = sorted({row for pair in same for row in pair} - {start, end})
    for between in range(len(rows) + 1):
        for inner in itertools.permutations(rows, between):
            chain = (start, *inner, end)
            if all(frozenset(step) in links for step in itertools.pairwise(chain)):
                return chain
    return None


@given(PAIRS.map(lambda pairs: pairs[:5]), PAIRS)
def test_contradictions_are_those_of_all_chains(same, different):
    found = contradictions(Verdicts(same, different))
    pairs = sorted({tuple(sorted(pair)) for pair in different})
    chains = {pair: shortest_chain(same, *pair) for pair in pairs}
    assert found == [Contradiction(pair, chain) for pair, chain in chains.items() if chain]


@given(PAIRS, PAIRS, st.sets(st.integers(0, 9)))
def test_positions_name_the_same_rows(same, different, ids):
    ids = np.array(sorted(ids), np.int64)
    verdicts = Verdicts(same, different)
    inside = verdicts.among(ids)
    for before, after in (
        (verdicts.same, inside.same),
        (verdicts.different, inside.different),
    ):
        kept = [pair for pair in before.tolist() if set(pair) <= set(ids.tolist())]
        assert ids[after].tolist() == kept


@given(PAIRS, PAIRS, st.sets(st.integers(0, 7)))
def test_what_is_implied_is_what_all_chains_say(same, different, ids):
    ids = np.array(sorted(ids), np.int64)
    verdicts = Verdicts(same, different)
    if contradictions(verdicts):
        with pytest.raises(ValueError, match="contradict each other about the rows"):
            verdicts.implied_among(ids)
        return
    groups = oracles.groups_of(range(8), same)
    found = verdicts.implied_among(ids)
    among = oracles.groups_of(range(len(ids)), found.same.tolist())
    apart = {tuple(sorted((groups[a], groups[b]))) for a, b in different}
    told = {tuple(sorted((among[a], among[b]))) for a, b in found.different.tolist()}
    for n, a in enumerate(ids.tolist()):
        for m, b in enumerate(ids.tolist()[:n]):
            assert (among[n] == among[m]) == (groups[a] == groups[b])
            is_apart = tuple(sorted((groups[a], groups[b]))) in apart
            assert (tuple(sorted((among[n], among[m]))) in told) == is_apart


def test_a_pair_is_there_once_in_order():
    verdicts = Verdicts([(5, 2), (2, 5), (1, 9)], [(4, 3)])
    assert verdicts.same.tolist() == [[1, 9], [2, 5]]
    assert verdicts.different.tolist() == [[3, 4]]
    assert len(verdicts) == 3


def test_nothing_was_said():
    verdicts = Verdicts()
    assert (verdicts.same.shape, verdicts.same.dtype) == ((0, 2), np.int64)
    assert (contradictions(verdicts), len(verdicts)) == ([], 0)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[1, 2, 3]], r"not \[1, 3\]"),
        ([1, 2], r"not \[2\]"),
        ([[1, 2], [4, 4]], "row 4 and itself"),
    ],
)
def test_other_things_are_no_verdicts(pairs, message):
    with pytest.raises(ValueError, match=message):
        Verdicts(pairs)
