import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.identities.linking import NO_MOMENT, Linking, Links, join_rows, mutual_links
from pipeline.core.identities.precision import estimate_precision, least_threshold
from pipeline.core.neighbors.pairs import neighbors


def estimated_by_loops(group, moments):
    """The precision, pairs and pairs in one group, by the definition."""
    rows = len(group)
    pairs = [
        (i, j)
        for i in range(rows)
        for j in range(i)
        if moments[i] == moments[j] and moments[i] != NO_MOMENT
    ]
    together = [(i, j) for i, j in pairs if group[i] == group[j]]
    wrong = sum((rows - 1) / list(group).count(group[i]) for i, _ in together)
    return 1 - wrong / len(pairs) if pairs else float("nan"), len(pairs), len(together)


def grouped(group):
    """A star of links from the smallest row of each group."""
    ends = [(first, row) for row, first in enumerate(group) if first != row]
    first, second = np.array(ends, np.int64).reshape(-1, 2).T
    links = Links(first, second, np.ones(len(ends), np.float32))
    return join_rows(links, np.full(len(group), NO_MOMENT))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6), st.integers(0, 9))
def test_the_estimate_is_that_of_loops(seed, rows, parts, instants):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, parts, rows)
    group = [int(np.flatnonzero(label == each)[0]) for each in label]
    moments = rng.integers(-1, instants + 1, rows)
    found = estimate_precision(grouped(group), moments)
    wanted, pairs, together = estimated_by_loops(group, moments.tolist())
    assert (found.pairs, found.together) == (pairs, together)
    assert found.precision == pytest.approx(wanted, nan_ok=True)


def test_it_comes_near_the_precision_that_it_estimates():
    """600 crops of 60 people, four of them in each picture of a camera."""
    rng = np.random.default_rng(5)
    people = np.concatenate([rng.permutation(60)[:4] for _ in range(150)])
    moments = np.repeat(np.arange(150), 4)
    faces = rng.standard_normal((60, 16))
    rows = faces[people] + 0.75 * rng.standard_normal((600, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    links = mutual_links(neighbors(rows, 10), Linking(-1, 10))
    free, seen = np.full(600, NO_MOMENT), []
    for threshold in (0.9, 0.8, 0.75, 0.7):
        groups = join_rows(links.from_score(threshold), free)
        true = np.mean(
            [(people[groups.group == groups.group[i]] == people[i]).mean() for i in range(600)]
        )
        seen.append(true)
        assert estimate_precision(groups, moments).precision == pytest.approx(true, abs=0.12)
    assert max(seen) > 0.95
    assert min(seen) < 0.6


def links_of(scores):
    """A chain: row n to row n + 1, strongest first."""
    count = len(scores)
    return Links(np.arange(count), np.arange(1, count + 1), np.array(scores, np.float32))


@pytest.mark.parametrize("good", [1, 2, 7, 40, 99])
def test_the_least_threshold_is_where_the_precision_falls(good):
    """Of 100 links with scores of their own the first `good` are right."""
    scores = np.linspace(1, 0, 100)

    def precision(groups):
        return 1.0 if (groups.group == 0).sum() <= good + 1 else 0.3

    found = least_threshold(links_of(scores), 101, 0.9, precision)
    assert found == np.float32(scores[good - 1])


def test_links_of_equal_score_go_together():
    def precision(groups):
        return 1.0 if (groups.group == 0).sum() <= 2 else 0.0

    assert least_threshold(links_of([0.9, 0.5, 0.5]), 4, 0.5, precision) == np.float32(0.9)
    assert least_threshold(links_of([0.5, 0.5]), 3, 0.5, precision) is None


def test_without_a_link_there_is_no_threshold():
    nothing = Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    assert least_threshold(nothing, 3, 0.5, lambda groups: 1.0) is None
