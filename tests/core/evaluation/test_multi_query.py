"""Several images as one query, against loops over all pairs."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.multi_query import QueryGroups, best_counts, best_lists, best_matches
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.neighbors.topk import search
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows
from tests.examples import FEW


def groups_by_loop(labels):
    """The images of each query, in the order of their first images."""
    found = {}
    for row in range(len(labels)):
        key = labels.identity[row], labels.camera[row]
        known = key[0] > 0 and key[1] >= 0
        found.setdefault(key if known else ("alone", row), []).append(row)
    return list(found.values())


def members(groups):
    return [groups.order[a:b].tolist() for a, b in pairwise(groups.starts.tolist())]


def best_similarities(case, images):
    """The similarity of the best of some images to every gallery row, in float64."""
    return np.max([case.gallery.astype(np.float64) @ case.queries[i] for i in images], axis=0)


def ranks_by_query(counts):
    ranks = counts.ranks()
    return [ranks[a:b].tolist() for a, b in pairwise(counts.offsets.tolist())]


@given(cases())
def test_an_identity_under_a_camera_is_one_query(case):
    assert members(QueryGroups.of(case.query_labels)) == groups_by_loop(case.query_labels)


def test_clothes_divide_queries_where_they_count():
    labels = Labels(np.array([4, 4, 4, 4]), np.zeros(4, np.int64), np.array([1, 2, 1, -1]))
    assert members(QueryGroups.of(labels)) == [[0, 2], [1], [3]]


@FEW
@given(cases(), tilings)
def test_counts_by_the_best_image_are_those_of_the_naive_loop(case, tiling):
    groups = QueryGroups.of(case.query_labels)
    labels = case.query_labels.take(groups.first)
    sides = (case.queries, groups, labels, case.gallery, case.gallery_labels)
    found = best_matches(*sides, tiling=tiling)
    total = found
    for part in blocks(len(case.gallery), 7):
        total += best_counts(*sides, found=found, part=part, tiling=tiling)
    wanted = []
    for q, images in enumerate(members(groups)):
        scores = best_similarities(case, images)
        kept, matching = oracles.kept_rows(
            labels.identity[q], labels.camera[q], case.gallery_labels
        )
        order = oracles.sorted_rows(scores, kept)
        wanted.append([place + 1 for place, row in enumerate(order) if row in matching])
    assert ranks_by_query(total) == wanted
    assert ranks_by_query(best_counts(*sides, tiling=tiling)) == wanted


@given(cases(min_gallery=1), st.integers(1, 9))
def test_lists_by_the_best_image_are_those_of_the_naive_loop(case, k):
    groups = QueryGroups.of(case.query_labels)
    labels = case.query_labels.take(groups.first)
    lists = best_lists(case.queries, groups, labels, case.gallery, case.gallery_labels, k)
    best = groups.best(search(case.queries, case.gallery, k))
    for q, images in enumerate(members(groups)):
        scores = best_similarities(case, images)
        kept, _ = oracles.kept_rows(labels.identity[q], labels.camera[q], case.gallery_labels)
        wanted = oracles.sorted_rows(scores, kept)[:k]
        assert [row for row in lists.rows[q].tolist() if row >= 0] == wanted
        every = oracles.sorted_rows(scores, range(len(case.gallery)))[:k]
        assert best.rows[q].tolist()[: len(every)] == every


@pytest.mark.parametrize("tiling", [Tiling(threads=1), Tiling(40, 300, 2)])
def test_near_ties_are_settled_by_the_score(tiling):
    """Rows of small clusters: float32 products alone would confuse their order."""
    rows = unit_rows(700, 96, clusters=3)
    rng = np.random.default_rng(1)
    labels = Labels(rng.integers(0, 8, 700), rng.integers(0, 3, 700))
    mine, theirs = np.arange(120), np.arange(120, 700)
    groups = QueryGroups.of(labels.take(mine))
    asked = labels.take(mine).take(groups.first)
    sides = (rows[:120], groups, asked, rows[120:], labels.take(theirs))
    found = best_counts(*sides, tiling=tiling)
    scores = np.full((len(groups), 580), -np.inf, np.float32)
    single = search(rows[:120], rows[120:], 580)
    for q, images in enumerate(members(groups)):
        for image in images:
            every = np.empty(580, np.float32)
            every[single.rows[image]] = single.scores[image]
            scores[q] = np.maximum(scores[q], every)
    for q, ranks in enumerate(ranks_by_query(found)):
        kept, matching = oracles.kept_rows(asked.identity[q], asked.camera[q], sides[-1])
        order = sorted(kept, key=lambda row: (-scores[q, row], row))
        assert ranks == [place + 1 for place, row in enumerate(order) if row in matching]


def test_a_copy_of_a_match_stands_before_it_by_its_row():
    """However the products of the two are rounded."""
    images = unit_rows(150, 512)
    matches = images + 0.3 * unit_rows(150, 512, seed=1)
    matches = (matches / np.linalg.norm(matches, axis=1, keepdims=True)).astype(np.float32)
    identity, here = np.arange(1, 151), np.zeros(150, np.int64)
    labels = Labels(np.concatenate([np.zeros(150, np.int64), identity]), np.ones(300, np.int64))
    queries = Labels(identity, here)
    found = best_counts(
        images, QueryGroups.of(queries), queries, np.concatenate([matches, matches]), labels
    )
    assert ranks_by_query(found) == [[2]] * 150


def test_queries_of_one_image_are_ranked_as_ever():
    rows = unit_rows(90, 16)
    labels = Labels(np.arange(90) % 7, np.arange(90) % 4)
    groups = QueryGroups(np.arange(30), np.arange(31))
    mine, theirs = labels.take(np.arange(30)), labels.take(np.arange(30, 90))
    one = best_counts(rows[:30], groups, mine, rows[30:], theirs)
    other = rank_counts(rows[:30], mine, rows[30:], theirs)
    assert one.ahead.tolist() == other.ahead.tolist()
    np.testing.assert_allclose(groups.mean(rows[:30]).read(0, 30), rows[:30], atol=1e-6)


def test_the_mean_is_the_unit_mean_of_each_query():
    rows = unit_rows(40, 8)
    groups = QueryGroups.of(Labels(np.arange(40) % 5 + 1, np.arange(40) % 2))
    for q, images in enumerate(members(groups)):
        mean = rows[images].astype(np.float64).mean(0)
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(groups.mean(rows).read(q, q + 1)[0], expected, atol=1e-6)


def test_the_images_of_some_queries():
    groups = QueryGroups.of(Labels(np.array([5, 6, 5, 6, 7]), np.zeros(5, np.int64)))
    images, taken = groups.take(np.array([1, 0]))
    assert images.tolist() == [1, 3, 0, 2]
    assert members(taken) == [[0, 1], [2, 3]]


def test_what_are_no_groups_of_queries_is_refused():
    with pytest.raises(ValueError, match="every image once"):
        QueryGroups(np.array([0, 0]), np.array([0, 2]))
    for starts in ([0, 1], [0, 0, 2], [1, 2]):
        with pytest.raises(ValueError, match="every query has an image"):
            QueryGroups(np.arange(2), np.array(starts))
