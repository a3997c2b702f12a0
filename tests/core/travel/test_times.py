import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.identities.linking import Links, join_rows
from pipeline.core.neighbors.topk import TopK, merge
from pipeline.core.travel.conflicts import Conflicts
from pipeline.core.travel.nearby import count_allowed, nearby
from pipeline.core.travel.times import NO_CAMERA, NO_TIME, SECOND, Sightings, TravelTimes
from tests import oracles
from tests.core.neighbors.test_topk import as_lists
from tests.core.strategies import cases

INF = float("inf")
WINDOWS = [(-INF, INF), (INF, INF), (0.0, 0.0), (0.0, 9.0), (-3.0, 4.5), (2.5, 7.0), (6.0, INF)]


def drawn(seed, rows, cameras=3):
    """Sightings, some unknown, and travel times of every kind."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, len(WINDOWS), (cameras, cameras))
    least, most = (np.array([[WINDOWS[n][end] for n in row] for row in kinds]) for end in (0, 1))
    camera = rng.integers(-1, cameras, rows)
    time = rng.integers(0, 24, rows) * (SECOND // 2)
    time[rng.random(rows) < 0.1] = NO_TIME
    return Sightings(camera, time), TravelTimes(least, most)


def may_meet(seen, travel, i, j):
    """Whether two rows can be one person, by the definition."""
    if NO_CAMERA in (seen.camera[i], seen.camera[j]) or NO_TIME in (seen.time[i], seen.time[j]):
        return True
    a, b, later = seen.camera[i], seen.camera[j], (seen.time[j] - seen.time[i]) / SECOND
    ways = (
        (travel.least[a, b], later, travel.most[a, b]),
        (travel.least[b, a], -later, travel.most[b, a]),
    )
    return any(least <= gap <= most and least < INF for least, gap, most in ways)


@given(st.integers(0, 999), st.integers(0, 30))
def test_what_is_allowed_is_what_the_definition_says(seed, rows):
    seen, travel = drawn(seed, rows)
    i, j = (each.ravel() for each in np.indices((rows, rows)))
    expected = [may_meet(seen, travel, a, b) for a, b in zip(i, j, strict=True)]
    assert travel.allow(seen.take(i), seen.take(j)).tolist() == expected
    assert count_allowed(seen, seen, travel) == sum(expected)


@given(cases(), st.integers(1, 6), st.integers(1, 2), st.integers(0, 999))
def test_the_nearest_are_those_of_a_loop_over_what_is_allowed(case, k, threads, seed):
    rows = case.gallery[case.gallery.any(axis=1)]
    seen, travel = drawn(seed, len(rows))
    found, scored = nearby(rows, seen, rows, seen, travel, k, tiling=Tiling(threads=threads))
    expected = oracles.top_k(rows, rows, k, 0, lambda i, j: may_meet(seen, travel, i, j))
    assert [[pair for pair in pairs if pair[1] >= 0] for pairs in as_lists(found)] == expected
    assert scored == sum(
        may_meet(seen, travel, i, j)
        for i in range(len(rows)) for j in range(len(rows)) if i != j
    )  # fmt: skip
    cut = seed % (len(rows) + 1)
    parts = []
    for start, stop in ((0, cut), (cut, len(rows))):
        held = np.arange(start, stop)
        near, _ = nearby(
            rows, seen, rows[start:stop], seen.take(held), travel, k, first_row=start,
            known=parts[-1] if parts and cut % 2 else None,
        )  # fmt: skip
        parts.append(near)
    whole = parts[-1] if cut % 2 else merge(parts, k)
    assert as_lists(whole) == as_lists(found)


@given(st.integers(0, 999), st.integers(2, 25))
def test_groups_hold_no_two_rows_in_conflict(seed, rows):
    """As a loop over links that looks at all pairs of the two groups."""
    rng = np.random.default_rng(seed)
    seen, travel = drawn(seed, rows)
    pairs = np.array([(i, j) for i in range(rows) for j in range(i + 1, rows)])
    chosen = pairs[rng.permutation(len(pairs))[: 2 * rows]]
    links = Links(*chosen.T, np.linspace(0.9, 0.1, len(chosen)).astype(np.float32))

    def conflict(i, j):
        return not may_meet(seen, travel, i, j)

    groups = [{row} for row in range(rows)]
    refused = 0
    for i, j in chosen.tolist():
        one = next(group for group in groups if i in group)
        other = next(group for group in groups if j in group)
        if one is not other and any(conflict(a, b) for a in one for b in other):
            refused += 1
        elif one is not other:
            groups = [group for group in groups if group is not one and group is not other]
            groups.append(one | other)
    smallest = {row: min(group) for group in groups for row in group}
    found = join_rows(links, np.full(rows, -1), Conflicts.of(seen, travel))
    assert found.group.tolist() == [smallest[row] for row in range(rows)]
    assert found.refused == refused


def test_wrong_values():
    nothing = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="do not go with"):
        Sightings(np.zeros(1, np.int64), nothing)
    with pytest.raises(ValueError, match="cameras below -1"):
        Sightings(np.array([-2]), np.array([0]))
    with pytest.raises(ValueError, match="of one shape"):
        TravelTimes(np.zeros((2, 2)), np.zeros((2, 3)))
    for least, most in ((2.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="more than its most"):
            TravelTimes(np.full((1, 1), least), np.full((1, 1), most))
    seen, travel = Sightings(nothing, nothing), TravelTimes.unknown(0)
    with pytest.raises(ValueError, match="do not compare"):
        nearby(np.ones((1, 2), np.float32), seen, np.ones((1, 3), np.float32), seen, travel, 1)
    assert travel.allow(seen, seen).tolist() == []
    assert np.isposinf(np.diag(TravelTimes.unknown(2).apart().least)).all()
    with pytest.raises(ValueError, match="0 sightings do not go with 1 rows"):
        join_rows(Links(nothing, nothing, nothing.astype(np.float32)), np.array([-1]),
                  Conflicts.of(seen, travel))  # fmt: skip
    one = Sightings(np.array([-1]), np.array([NO_TIME]))
    rows = np.ones((1, 1), np.float32)
    assert nearby(rows, one, rows, one, travel, 1)[0].rows.item() == -1
    known = TopK(np.array([[0.5]], np.float32), np.array([[9]]))
    assert nearby(rows, one, rows, one, travel, 1, known=known)[0].rows.item() == 9
