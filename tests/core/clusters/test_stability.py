import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.clusters.dbscan import dbscan
from pipeline.core.clusters.stability import EpsGrid, choose_eps
from tests.core.clusters.test_dbscan import pairs_of


def choice_by_loops(clusters, largest, window):
    """The place of the chosen eps: every window, then every run of the least change."""
    half, changes = window // 2, {}
    for place in range(half, len(clusters) - half):
        around = range(place - half, place + half + 1)
        if all(clusters[e] >= 2 and largest[e] <= 0.5 for e in around):
            some = [clusters[e] for e in around]
            changes[place] = (max(some) - min(some)) / max(some)
    if not changes:
        return clusters.index(max(clusters))
    least, best, run = min(changes.values()), [], []
    for place in range(len(clusters) + 1):
        if changes.get(place) == least:
            run.append(place)
            best = list(run) if len(run) > len(best) else best
        else:
            run = []
    return best[(len(best) - 1) // 2]


@st.composite
def places(draw):
    """Points in some heaps on a line; their distances are whole 32nds."""
    n, seed = draw(st.integers(0, 60)), draw(st.integers(0, 9999))
    rng = np.random.default_rng(seed)
    heaps = rng.integers(0, 200, draw(st.integers(1, 12)))
    found = rng.choice(heaps, n) + rng.integers(0, draw(st.sampled_from([2, 8])), n)
    return np.minimum(np.abs(found[:, None] - found) / 32.0, 1.0)


@settings(max_examples=25)
@given(places(), st.integers(1, 5), st.sampled_from([3, 5]))
def test_counts_are_those_of_dbscan_at_every_eps_and_the_choice_that_of_loops(
    distances, min_samples, window
):
    grid = EpsGrid(0.0, 0.75, 13, window)
    found = choose_eps(pairs_of(distances.copy(), 0.75), min_samples, grid)
    n = len(distances)
    for place, eps in enumerate(found.grid):
        near = pairs_of(distances.copy(), eps)
        labels = dbscan(near, min_samples)
        core = np.diff(near.starts) + 1 >= min_samples
        assert found.clusters[place] == labels.max(initial=-1) + 1
        assert found.noise[place] == (np.sum(labels < 0) / n if n else 0)
        sizes = np.bincount(labels[core])
        assert found.largest[place] == (sizes.max() / core.sum() if core.any() else 0)
    place = choice_by_loops(found.clusters, found.largest, window)
    assert found.eps == found.grid[place]


def test_the_middle_of_the_longest_stable_run_is_chosen():
    # Four heaps of three: apart up to 0.5, and two and two of them together from there on.
    starts = np.array([0, 10, 50, 60]) * 3
    points = np.concatenate([start + np.array([0, 1, 2]) for start in starts])
    distances = np.minimum(np.abs(np.subtract.outer(points, points)) / 60.0, 1.0)
    found = choose_eps(pairs_of(distances, 0.75), 3, EpsGrid(0.0, 0.7, 15, 3))
    assert found.clusters == (0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2)
    # From 0.1 to 0.4 no neighbor differs; 0.25 lies in the middle. Later, each holds half.
    assert found.eps == 0.25
    assert found.changes[1] is None and found.changes[9:11] == (0.5, 0.5)
    assert found.noise[:2] == (1.0, 0.0)


def test_one_cluster_alone_is_no_reason_and_the_most_clusters_are_taken():
    distances = np.ones((6, 6)) - np.eye(6)
    distances[:3, :3] = distances[3:, 3:] = 0.3
    distances[0, 3] = distances[3, 0] = 0.36
    np.fill_diagonal(distances, 0)
    found = choose_eps(pairs_of(distances, 0.6), 2, EpsGrid(0.2, 0.6, 9, 3))
    assert found.clusters == (0, 0, 2, 2, 1, 1, 1, 1, 1)
    assert set(found.changes) == {None}
    assert found.eps == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsGrid(0.5, 0.5), "eps ascend within 0 to below 1, not from 0.5 to 0.5"),
        (lambda: EpsGrid(0.5, 1.0), "eps ascend within 0 to below 1, not from 0.5 to 1.0"),
        (lambda: EpsGrid(window=4), "an odd number from 3 to the 15 eps, not 4"),
        (lambda: EpsGrid(window=1), "an odd number from 3 to the 15 eps, not 1"),
        (lambda: EpsGrid(count=3), "an odd number from 3 to the 3 eps, not 5"),
        (
            lambda: choose_eps(pairs_of(np.zeros((2, 2)), 0.5), 0),
            "min_samples must be 1 or more, not 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
