from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranked_lists import RankedLists, examples, ranked_lists
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.products.kernels import pair_scores
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows


def sides(case):
    return case.queries, case.query_labels, case.gallery, case.gallery_labels


def expect(found, order, labels, k):
    """Hold lists against the naive ones; `order` gives each query's kept rows, best first."""
    query_labels, gallery_labels = labels
    assert len(found) == len(query_labels)
    width = min(k, int((gallery_labels.identity != -1).sum()))
    assert found.rows.shape == (len(query_labels), width)
    for q in range(len(query_labels)):
        kept, matching = oracles.kept_rows(
            query_labels.identity[q], query_labels.camera[q], gallery_labels
        )
        best = order(q, kept)[:k]
        beyond = width - len(best)
        assert found.rows[q].tolist() == best + [-1] * beyond
        assert found.hits[q].tolist() == [row in matching for row in best] + [False] * beyond
        assert found.matches[q] == len(matching)


@given(cases(), st.sampled_from([1, 2, 7, 99]), tilings)
def test_lists_equal_the_naive_loop_in_every_tiling(case, k, tiling):
    found = ranked_lists(*sides(case), k, tiling=tiling)
    scores = case.queries.astype(np.float64) @ case.gallery.T.astype(np.float64)
    expect(
        found,
        lambda q, kept: oracles.sorted_rows(scores[q], kept),
        (case.query_labels, case.gallery_labels),
        k,
    )
    for q, place in np.argwhere(found.rows >= 0):
        assert found.scores[q, place] == scores[q, found.rows[q, place]]


@given(cases())
def test_hits_stand_where_ranks_are_counted(case):
    found = ranked_lists(*sides(case), 99)
    counts = rank_counts(*sides(case))
    for q in range(len(case.queries)):
        ranks = counts.ranks()[counts.offsets[q] : counts.offsets[q + 1]]
        assert (np.flatnonzero(found.hits[q]) + 1).tolist() == ranks.tolist()
        assert found.matches[q] == len(ranks)


def test_real_features_have_the_scores_of_their_pairs():
    queries, gallery = unit_rows(20, 100, seed=1, clusters=9), unit_rows(300, 100, 2, clusters=9)
    rng = np.random.default_rng(0)
    labels = [Labels(rng.integers(-1, 9, n), rng.integers(-1, 3, n)) for n in (20, 300)]
    found = ranked_lists(queries, labels[0], gallery, labels[1], 12, tiling=Tiling(7, 64))
    owner = np.repeat(np.arange(20), 12)
    scores = pair_scores(queries, gallery, owner, found.rows.ravel())
    assert scores.tobytes() == found.scores.tobytes()


def test_a_list_is_filled_however_much_its_own_camera_saw():
    """The twenty best rows are the query's own person on its own camera."""
    line = np.linspace(1, 0.1, 30, dtype=np.float32)[:, None]
    identity = np.array([7] * 20 + [-1, 7, 0, 3, 7, 0, 0, 0, 0, 0])
    camera = np.array([0] * 20 + [1] * 10)
    query = Labels(np.array([7, 7]), np.array([0, -1]))
    found = ranked_lists(line[[0, 0]], query, line, Labels(identity, camera), 3)
    assert found.rows.tolist() == [[21, 22, 23], [0, 1, 2]]
    assert found.hits.tolist() == [[True, False, False], [True, True, True]]
    assert found.matches.tolist() == [2, 22]


def test_a_gallery_of_junk_leaves_empty_lists():
    one = np.ones((2, 1), np.float32)
    junk = Labels(np.array([-1, -1]), np.array([0, 1]))
    found = ranked_lists(one, Labels(np.array([4, 5]), np.array([0, 0])), one, junk, 5)
    assert found.rows.shape == (2, 0)
    assert found.matches.tolist() == [0, 0]


def test_no_query_and_no_gallery_row():
    none, nobody = (
        np.empty((0, 3), np.float32),
        Labels(np.empty(0, np.int64), np.empty(0, np.int64)),
    )
    one, someone = np.ones((1, 3), np.float32), Labels(np.array([4]), np.array([0]))
    assert ranked_lists(none, nobody, one, someone, 5).rows.shape == (0, 1)
    assert ranked_lists(one, someone, none, nobody, 5).rows.shape == (1, 0)


def test_lists_cannot_be_changed():
    one, someone = np.ones((1, 3), np.float32), Labels(np.array([4]), np.array([0]))
    found = ranked_lists(one, someone, one, someone, 1)
    with pytest.raises(ValueError, match="read-only"):
        found.rows[0, 0] = 3


def test_sides_that_do_not_fit_are_refused():
    one, someone = np.ones((1, 3), np.float32), Labels(np.array([4]), np.array([0]))
    two = Labels(np.array([4, 5]), np.array([0, 0]))
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        ranked_lists(one, someone, one, someone, 0)
    with pytest.raises(ValueError, match="1 query features do not go with 2 labels"):
        ranked_lists(one, two, one, someone, 1)
    with pytest.raises(ValueError, match="1 gallery features do not go with 2 labels"):
        ranked_lists(one, someone, one, two, 1)


GOOD = RankedLists(
    np.array([[4, 6, -1]]),
    np.array([[0.5, 0.5, -np.inf]], np.float32),
    np.array([[False, True, False]]),
    np.array([1]),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.array([[4, 6]])}, "must be of one shape"),
        ({"distances": np.zeros((1, 2), np.float32)}, "must be of one shape"),
        ({"matches": np.array([1, 1])}, "2 numbers of matches, 1 lists"),
        ({"rows": np.array([[4, 6, 9]])}, "beyond the end of a list"),
        ({"hits": np.array([[False, True, True]])}, "beyond the end of a list"),
        ({"hits": np.array([[True, True, False]])}, "more hits than the gallery has matches"),
        ({"rows": np.array([[6, 4, -1]])}, "out of order or repeated"),
        ({"rows": np.array([[6, 6, -1]])}, "out of order or repeated"),
        ({"distances": np.array([[0.3, 0.2, np.inf]], np.float32)}, "out of order or repeated"),
    ],
)
def test_lists_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **change)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan]), max_size=12), st.integers(1, 4))
def test_examples_are_valid_queries_and_none_twice(precision, most):
    valid = [q for q, ap in enumerate(precision) if not np.isnan(ap)]
    order = sorted(valid, key=lambda q: (-precision[q], q))
    best, median, worst = (each.tolist() for each in examples(np.array(precision, float), most))
    together = best + median + worst
    assert len(set(together)) == len(together) == min(len(valid), 3 * min(most, len(best)))
    assert best == order[: len(best)]
    assert worst == order[::-1][: len(worst)]
    if len(valid) >= 3 * most:
        assert len(best) == len(median) == len(worst) == most
        first = order.index(median[0])
        assert abs(first - (len(order) - first - most)) <= 1
