import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.clusters.dbscan import NOISE, dbscan
from pipeline.core.clusters.jaccard import JaccardPairs
from tests.core.clusters import dense


def pairs_of(distances, eps):
    near = distances <= eps
    np.fill_diagonal(near, False)
    return JaccardPairs(
        np.append(0, np.cumsum(near.sum(axis=1))),
        np.nonzero(near)[1].astype(np.int32),
        distances[near].astype(np.float32),
    )


@st.composite
def distance_matrices(draw):
    """Distances of points on a line, with many ties."""
    n, seed = draw(st.integers(0, 40)), draw(st.integers(0, 9999))
    places = np.random.default_rng(seed).integers(0, draw(st.sampled_from([15, 60])), n)
    return np.abs(places[:, None] - places) / 64.0


@given(distance_matrices(), st.integers(1, 6), st.sampled_from([0, 1 / 64, 3 / 64]))
def test_labels_are_those_of_the_naive_form(distances, min_samples, eps):
    found = dbscan(pairs_of(distances, eps), min_samples)
    assert found.tolist() == dense.dbscan(distances, eps, min_samples).tolist()


@given(distance_matrices(), st.integers(1, 5), st.data())
def test_links_are_kept_and_clusters_stay_what_they_are(distances, min_samples, data):
    n = len(distances)
    if n < 2:
        return
    rows = st.integers(0, n - 1)
    links = st.lists(st.tuples(rows, rows).filter(lambda ab: ab[0] != ab[1]), max_size=6)
    must, cannot = (np.array(data.draw(links), np.int64).reshape(-1, 2) for _ in range(2))
    pairs = pairs_of(distances, 2 / 64)
    try:
        found = dbscan(pairs, min_samples, must=must, cannot=cannot)
    except ValueError as error:
        assert "must-links join them" in str(error)
        return
    assert all(found[a] == found[b] != NOISE for a, b in must)
    assert all(found[a] != found[b] or found[a] == NOISE for a, b in cannot)
    # Numbers have no gaps, and no pair within reach of two core rows is apart without a reason.
    assert sorted(set(found.tolist()) - {NOISE}) == list(range(found.max() + 1))
    if not len(cannot):
        core = np.diff(pairs.starts) + 1 >= min_samples
        near = distances <= 2 / 64
        assert all(found[i] == found[j] for i, j in np.argwhere(near) if core[i] and core[j])
    # A smaller share of the links is kept by the same clusters, whatever their order.
    order = np.random.default_rng(n).permutation(len(cannot))
    again = dbscan(pairs, min_samples, must=must[::-1, ::-1], cannot=cannot[order])
    assert again.tolist() == found.tolist()


def test_the_nearest_pairs_join_first_where_not_all_may():
    # 0 and 3 must not meet; 1 is nearer to 0 than 2, and 2 is nearer to 3.
    distances = np.abs(np.subtract.outer([0, 1, 3, 4], [0, 1, 3, 4])) / 8.0
    found = dbscan(pairs_of(distances, 0.25), 2, cannot=np.array([[0, 3]]))
    assert found.tolist() == [0, 0, 1, 1]


def test_a_border_row_joins_a_cluster_that_it_may_join():
    # Row 2 lies between two clusters; the second core row of each reaches it.
    distances = np.full((9, 9), 1.0)
    for group in ((0, 1, 3, 4), (5, 6, 7, 8)):
        distances[np.ix_(group, group)] = 0.1
    distances[2, [1, 6]] = distances[[1, 6], 2] = 0.2
    np.fill_diagonal(distances, 0)
    pairs = pairs_of(distances, 0.2)
    assert dbscan(pairs, 4).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert dbscan(pairs, 4, cannot=np.array([[2, 3]])).tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 1]
    both = np.array([[2, 3], [2, 8]])
    assert dbscan(pairs, 4, cannot=both).tolist() == [0, 0, NOISE, 0, 0, 1, 1, 1, 1]


def test_rows_that_are_linked_by_a_person_are_a_cluster_of_their_own():
    distances = np.ones((4, 4)) - np.eye(4)
    assert dbscan(pairs_of(distances, 0.5), 4, must=np.array([[1, 3]])).tolist() == [-1, 0, -1, 0]


def test_a_linked_row_counts_among_those_within_reach():
    distances = np.ones((4, 4)) - np.eye(4)
    distances[0, 1] = distances[1, 0] = 0.1
    pairs = pairs_of(distances, 0.5)
    assert dbscan(pairs, 3).tolist() == [NOISE] * 4
    # Row 0 has three rows now, itself among them, so row 1 is on its border.
    assert dbscan(pairs, 3, must=np.array([[0, 3]])).tolist() == [0, 0, NOISE, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_samples": 0}, "min_samples must be 1 or more, not 0"),
        ({"must": np.array([[0, 3]])}, "must: a link is two different rows from 0 to 2"),
        ({"cannot": np.array([[1, 1]])}, "cannot: a link is two different rows from 0 to 2"),
        (
            {"must": np.array([[0, 1], [1, 2]]), "cannot": np.array([[0, 2]])},
            "rows 0 and 2 must not be of one cluster, but must-links join them",
        ),
    ],
)
def test_links_that_cannot_be_kept_are_refused(options, message):
    pairs = pairs_of(np.ones((3, 3)) - np.eye(3), 0.5)
    with pytest.raises(ValueError, match=re.escape(message)):
        dbscan(pairs, **options)
