import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.core.identities.linking import NO_MOMENT, Linking, Links, join_rows, mutual_links
from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK
from tests import oracles
from tests.core.strategies import unit_rows
from tests.examples import FEW

# Scores of these rows are sixteenths: exact, so that ties are real.
small = st.builds(
    lambda seed, n, d: (
        np.random.default_rng(seed).integers(-2, 3, (n, d)).astype(np.float32) / 4 + 0.125
    ),
    st.integers(0, 2**32 - 1),
    st.integers(2, 24),
    st.integers(2, 4),
)


def linked(features, moments, k, threshold):
    links = mutual_links(neighbors(features, k), Linking(threshold, k))
    return links, join_rows(links, np.asarray(moments, np.int64))


@FEW
@given(
    small, st.integers(1, 6), st.sampled_from([-1.0, 0.0625, 0.15625]), st.integers(0, 2**32 - 1)
)
def test_groups_are_those_of_the_loop(features, k, threshold, seed):
    moments = np.random.default_rng(seed).integers(-1, 6, len(features))
    _, groups = linked(features, moments, k, threshold)
    expected, refused = oracles.linked_groups(features, moments, k, threshold)
    assert groups.group.tolist() == expected
    assert groups.refused == refused


@given(small, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_group_never_holds_two_rows_of_a_moment(features, k, seed):
    moments = np.random.default_rng(seed).integers(-1, 4, len(features))
    _, groups = linked(features, moments, k, -1.0)
    known = moments != NO_MOMENT
    pairs = np.stack([groups.group[known], moments[known]], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)


@given(small, st.integers(1, 6))
def test_without_moments_groups_are_connected_components(features, k):
    n = len(features)
    links, groups = linked(features, np.full(n, NO_MOMENT), k, 0.0)
    graph = coo_array((np.ones(len(links)), (links.first, links.second)), (n, n))
    _, component = connected_components(graph, directed=False)
    smallest = [int(np.flatnonzero(component == each)[0]) for each in component]
    assert groups.group.tolist() == smallest
    assert groups.refused == 0


@given(small, st.integers(1, 6))
def test_the_strongest_link_is_the_best_inside_the_group(features, k):
    links, groups = linked(features, np.arange(len(features)) // 2, k, 0.0)
    for row in range(len(features)):
        inside = [
            score
            for a, b, score in zip(links.first, links.second, links.scores, strict=True)
            if row in (a, b) and groups.group[a] == groups.group[b]
        ]
        assert np.array_equal(groups.strongest[row], max(inside, default=np.nan), equal_nan=True)
    assert ((groups.sizes == 1) == np.isnan(groups.strongest)).all()


def test_the_weaker_of_two_links_gives_way():
    links = Links(np.array([1, 0]), np.array([2, 1]), np.array([0.9, 0.8], np.float32))
    groups = join_rows(links, np.array([4, NO_MOMENT, 4]))
    assert groups.group.tolist() == [0, 1, 1]
    assert groups.sizes.tolist() == [1, 2, 2]
    assert groups.refused == 1


def test_moments_meet_through_others():
    """0 and 3 share a moment, and meet only when two groups of two would be joined."""
    links = Links(np.array([0, 2, 1]), np.array([1, 3, 2]), np.array([0.9, 0.8, 0.7], np.float32))
    groups = join_rows(links, np.array([7, NO_MOMENT, NO_MOMENT, 7]))
    assert groups.group.tolist() == [0, 0, 2, 2]


def test_a_refusal_is_remembered_only_while_it_holds():
    """Many links between two groups that share a moment: each is refused."""
    first, second = np.arange(10), np.arange(10, 20)
    own = [(i, i + 1) for i in range(9)] + [(i, i + 1) for i in range(10, 19)]
    across = [(a, b) for a in first for b in second]
    ends = np.array(own + across)
    scores = np.linspace(1, 0.1, len(ends)).astype(np.float32)
    moments = np.full(21, NO_MOMENT)
    moments[[9, 10]] = 3
    groups = join_rows(Links(ends[:, 0], ends[:, 1], scores), moments)
    assert groups.group.tolist() == [0] * 10 + [10] * 10 + [20]
    assert groups.refused == len(across)


def test_links_must_be_mutual():
    near = TopK(np.array([[0.9], [0.95], [0.95]], np.float32), np.array([[1], [2], [1]], np.int64))
    links = mutual_links(near, Linking(0.5, k=1))
    assert (links.first.tolist(), links.second.tolist()) == ([1], [2])


@pytest.mark.parametrize(("threshold", "count"), [(0.75, 1), (0.75 + 2**-40, 0)])
def test_a_link_may_equal_the_threshold(threshold, count):
    near = TopK(np.array([[0.75], [0.75]], np.float32), np.array([[1], [0]], np.int64))
    assert len(mutual_links(near, Linking(threshold))) == count


def test_ties_are_taken_by_row():
    links = mutual_links(neighbors(np.ones((4, 2), np.float32) / 2, 3), Linking(0.5))
    ends = list(zip(links.first.tolist(), links.second.tolist(), strict=True))
    assert ends == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_only_the_best_k_of_a_wider_graph_count():
    features = unit_rows(60, 16, clusters=6)
    narrow = mutual_links(neighbors(features, 3), Linking(0.1, k=3))
    wide = mutual_links(neighbors(features, 9), Linking(0.1, k=3))
    assert np.array_equal(narrow.first, wide.first)
    assert np.array_equal(narrow.second, wide.second)


@pytest.mark.parametrize(("threshold", "k"), [(0.5, 0), (1.1, 5), (-1.1, 5), (float("nan"), 5)])
def test_settings_out_of_range(threshold, k):
    with pytest.raises(ValueError, match=r"k must be|threshold is a cosine"):
        Linking(threshold, k)


def test_links_beyond_the_rows():
    links = Links(np.array([0]), np.array([3]), np.array([0.9], np.float32))
    with pytest.raises(ValueError, match="beyond the 3 rows"):
        join_rows(links, np.full(3, NO_MOMENT))


def test_moments_below_none():
    nothing = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="below -1"):
        join_rows(Links(nothing, nothing, nothing.astype(np.float32)), np.array([-2]))


def drawn_verdicts(rng, n):
    """Verdicts on `n` rows of a few people, as someone gives them who knows these."""
    person = rng.integers(0, max(2, n // 3), n)
    pairs = rng.integers(0, n, (max(1, n // 3), 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    alike = person[pairs[:, 0]] == person[pairs[:, 1]]
    return Verdicts(pairs[alike], pairs[~alike])


@given(small, st.integers(1, 6), st.sampled_from([-1.0, 0.0625]), st.integers(0, 2**32 - 1))
def test_groups_with_verdicts_are_those_of_the_loop(features, k, threshold, seed):
    rng = np.random.default_rng(seed)
    moments, verdicts = rng.integers(-1, 6, len(features)), drawn_verdicts(rng, len(features))
    links = mutual_links(neighbors(features, k), Linking(threshold, k))
    groups = join_rows(links, moments, verdicts=verdicts)
    told = {"same": verdicts.same.tolist(), "different": verdicts.different.tolist()}
    expected, refused = oracles.linked_groups(features, moments, k, threshold, **told)
    assert groups.group.tolist() == expected
    assert groups.refused == refused
    for verdict, together in (("same", True), ("different", False)):
        for a, b in told[verdict]:
            assert (groups.group[a] == groups.group[b]) == together


def test_a_verdict_joins_rows_without_a_link_and_of_one_moment():
    nothing = Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    groups = join_rows(nothing, np.array([7, 7, 8]), verdicts=Verdicts([[0, 1]]))
    assert groups.group.tolist() == [0, 0, 2]
    assert np.isnan(groups.strongest).all()


def test_verdicts_that_contradict_each_other_or_name_no_row():
    nothing = Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    moments = np.full(3, NO_MOMENT)
    with pytest.raises(ValueError, match=r"rows \(0, 2\) are both same and different"):
        join_rows(nothing, moments, verdicts=Verdicts([[0, 1], [1, 2]], [[0, 2]]))
    for wrong in (Verdicts([[1, 3]]), Verdicts([], [[-1, 2]])):
        with pytest.raises(ValueError, match="verdicts name rows beyond the 3"):
            join_rows(nothing, moments, verdicts=wrong)
