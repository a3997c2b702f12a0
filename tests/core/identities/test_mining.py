import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.identities.linking import NO_MOMENT, Linking, Links, mutual_links
from pipeline.core.identities.mining import propose_pairs
from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.neighbors.pairs import neighbors
from tests.core.identities.test_linking import drawn_verdicts, small


def groups_of(pairs, moments, different, n):
    """Sets of rows, joined pair by pair; one that is forced comes with no score."""
    groups = [{row} for row in range(n)]
    joined = {}
    for score, i, j in pairs:
        first = next(group for group in groups if i in group)
        second = next(group for group in groups if j in group)
        if first is second or (
            score is not None and keeps_apart(first, second, moments, different)
        ):
            continue
        joined[i, j] = len(first) * len(second)
        groups = [group for group in groups if group not in (first, second)] + [first | second]
    return groups, joined


def keeps_apart(first, second, moments, different):
    ours, theirs = ({moments[row] for row in each} - {NO_MOMENT} for each in (first, second))
    told = any((a in first and b in second) or (b in first and a in second) for a, b in different)
    return told or bool(ours & theirs)


def proposed(links, moments, cameras, threshold, most, verdicts, width):
    """The definition, pair by pair."""
    listed = [
        (float(score), i, j)
        for i, j, score in zip(
            links.first.tolist(), links.second.tolist(), links.scores, strict=True
        )
    ]
    different = verdicts.different.tolist()
    forced = [(None, i, j) for i, j in verdicts.same.tolist()]
    reached = [each for each in listed if each[0] >= threshold]
    groups, joined = groups_of([*forced, *reached], moments, different, len(moments))
    sizes = {(i, j): joined[i, j] for _, i, j in reached if (i, j) in joined}
    for _, i, j in forced:
        sizes.pop((i, j), None)
    met = []
    for score, i, j in listed:
        first = next(group for group in groups if i in group)
        second = next(group for group in groups if j in group)
        pair = {min(first), min(second)}
        if score < threshold and first is not second and pair not in met:
            met.append(pair)
            if not keeps_apart(first, second, moments, different):
                sizes[i, j] = len(first) * len(second)
    left = {
        (i, j): np.sqrt(sizes[i, j]) / (1 + np.exp(abs(score - threshold) / width))
        for score, i, j in listed
        if (i, j) in sizes
    }
    chosen, taken = [], {}

    def value(pair):
        ends = tuple(sorted(cameras[row] for row in pair))
        return left[pair] / (1 + taken.get(ends, 0))

    while left and len(chosen) < most:
        pair = max(left, key=lambda pair: (round(value(pair), 9), round(left[pair], 9)))
        chosen.append((*pair, left[pair]))
        ends = tuple(sorted(cameras[row] for row in pair))
        taken[ends] = taken.get(ends, 0) + 1
        del left[pair]
    return chosen


@given(small, st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_proposals_are_those_of_the_definition(features, k, most, seed):
    rng = np.random.default_rng(seed)
    n = len(features)
    # Other scores than the features', so that two values are never as good as equal.
    links = mutual_links(neighbors(features, k), Linking(-1.0, k))
    scores = np.sort(rng.random(len(links)).astype(np.float32))[::-1]
    links = Links(links.first, links.second, scores)
    moments, cameras = rng.integers(-1, 12, n), rng.integers(0, 3, n)
    verdicts = drawn_verdicts(rng, n) if seed % 2 else Verdicts()
    told = (moments, cameras, 0.5, most)
    found = propose_pairs(links, *told, verdicts=verdicts, width=0.1)
    expected = proposed(links, *told, verdicts, 0.1)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [
        (i, j) for i, j, _ in expected
    ]
    assert found.change == pytest.approx([change for *_, change in expected])
    given = {tuple(pair) for pair in [*verdicts.same.tolist(), *verdicts.different.tolist()]}
    assert not given & {(i, j) for i, j, _ in expected}


def test_pairs_are_spread_over_cameras():
    first = np.arange(0, 12, 2)
    links = Links(first, first + 1, np.linspace(0.51, 0.55, 6, dtype=np.float32)[::-1].copy())
    cameras = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 2])
    found = propose_pairs(links, np.full(12, NO_MOMENT), cameras, 0.5, 4, width=0.05)
    assert found.first.tolist() == [10, 6, 8, 4]


def test_the_merger_of_large_groups_comes_first():
    # 0-1-2 and 3-4-5 are groups; 6 is alone. Both links below are as near to the threshold.
    links = Links(
        np.array([0, 1, 3, 4, 2, 5]), np.array([1, 2, 4, 5, 3, 6]),
        np.array([0.9, 0.9, 0.9, 0.9, 0.45, 0.45], np.float32),
    )  # fmt: skip
    found = propose_pairs(links, np.full(7, NO_MOMENT), np.zeros(7, np.int64), 0.5, 1, width=0.05)
    assert (found.first[0], found.second[0]) == (2, 3)
    assert found.change[0] == pytest.approx(3 / (1 + np.exp(0.05 / 0.05)), rel=1e-5)


def test_nothing_to_propose_and_no_width():
    nothing = Links(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    empty = np.full(3, NO_MOMENT), np.zeros(3, np.int64)
    assert len(propose_pairs(nothing, *empty, 0.5, 5, width=0.05)) == 0
    with pytest.raises(ValueError, match="the width must be above 0, not 0"):
        propose_pairs(nothing, *empty, 0.5, 5, width=0)
