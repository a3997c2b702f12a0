import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.kernels import pair_scores
from pipeline.core.ranking import Labels, RankCounts, matches, rank_counts
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows


def ranks_by_query(counts):
    ranks = counts.ranks()
    return [
        ranks[a:b].tolist() for a, b in zip(counts.offsets[:-1], counts.offsets[1:], strict=True)
    ]


def count(case, **options):
    return rank_counts(
        case.queries, case.query_labels, case.gallery, case.gallery_labels, **options
    )


def oracle(case):
    return oracles.hit_ranks(case.queries, case.query_labels, case.gallery, case.gallery_labels)


@given(cases(), tilings)
def test_equals_the_naive_loop_in_every_tiling(case, tiling):
    assert ranks_by_query(count(case, tiling=tiling)) == oracle(case)


@given(cases(min_gallery=2), st.data())
def test_parts_add_in_any_order(case, data):
    size = data.draw(st.integers(1, len(case.gallery)))
    parts = data.draw(st.permutations(list(blocks(len(case.gallery), size))))
    found = matches(case.queries, case.query_labels, case.gallery, case.gallery_labels)
    total = found
    for part in parts:
        total = count(case, found=found, part=part) + total
    assert ranks_by_query(total) == oracle(case)


@pytest.mark.parametrize("tiling", [Tiling(1, 1), Tiling(7, 7), Tiling(64, 64), Tiling(999, 9999)])
def test_real_features_rank_alike_in_every_tiling(tiling):
    rng = np.random.default_rng(3)
    gallery, queries = unit_rows(500, 100, clusters=30), unit_rows(40, 100, seed=9, clusters=30)
    labels = Labels(rng.integers(-1, 30, 540), rng.integers(0, 4, 540))
    q = Labels(labels.identity[:40], labels.camera[:40])
    g = Labels(labels.identity[40:], labels.camera[40:])
    reference = rank_counts(queries, q, gallery, g)
    found = rank_counts(queries, q, gallery, g, tiling=tiling)
    assert found.scores.tobytes() == reference.scores.tobytes()
    assert found.ahead.tolist() == reference.ahead.tolist()


def test_ids_beyond_float32_stay_apart():
    features = np.array([[1, 0], [1, 0]], np.float32)
    query = Labels(np.array([16_777_217]), np.array([0]))
    gallery = Labels(np.array([16_777_216, 16_777_217]), np.array([1, 1]))
    assert matches(features[:1], query, features, gallery).rows.tolist() == [1]


def test_ties_are_broken_by_row():
    features = np.ones((4, 2), np.float32)
    query = Labels(np.array([5]), np.array([0]))
    for place in range(4):
        identity = np.full(4, 9)
        identity[place] = 5
        gallery = Labels(identity, np.ones(4, np.int64))
        found = rank_counts(features[:1], query, features, gallery)
        assert found.ranks().tolist() == [place + 1]


def test_junk_is_left_out_and_distractors_are_kept():
    line = np.array([[1.0], [0.9], [0.8], [0.7], [0.6]], np.float32)
    query = Labels(np.array([5]), np.array([0]))
    # junk, own camera, distractor, unknown camera of another person, then the match
    gallery = Labels(np.array([-1, 5, 0, 6, 5]), np.array([1, 0, 1, -1, 1]))
    assert rank_counts(line[:1], query, line, gallery).ranks().tolist() == [3]


def test_queries_of_no_identity_have_no_match():
    line = np.ones((3, 2), np.float32)
    labels = Labels(np.array([-1, 0, 7]), np.array([0, 0, 0]))
    gallery = Labels(np.array([-1, 0, 7]), np.array([1, 1, 1]))
    assert ranks_by_query(rank_counts(line, labels, line, gallery)) == [[], [], [2]]


def test_unknown_cameras_equal_no_camera():
    line = np.ones((2, 2), np.float32)
    unknown = Labels(np.array([7, 7]), np.array([-1, -1]))
    assert len(matches(line, unknown, line, unknown).rows) == 4


@pytest.mark.parametrize(
    ("identity", "camera", "message"),
    [
        (np.zeros(2), np.zeros(2, np.int64), "identity must be int64"),
        (np.zeros(2, np.int64), np.zeros((2, 1), np.int64), "camera must be int64"),
        (np.zeros(2, np.int64), np.zeros(3, np.int64), "do not go with"),
        (np.full(2, -2), np.zeros(2, np.int64), "below -1"),
    ],
)
def test_wrong_labels_are_told(identity, camera, message):
    with pytest.raises(ValueError, match=message):
        Labels(identity, camera)


def test_wrong_arguments_are_told():
    two = Labels(np.array([1, 2]), np.array([0, 0]))
    with pytest.raises(ValueError, match="3 gallery features do not go with 2 labels"):
        matches(unit_rows(2, 4), two, unit_rows(3, 4), two)
    with pytest.raises(ValueError, match="4 dimensions, the gallery 5"):
        matches(unit_rows(2, 4), two, unit_rows(2, 5), two)


def test_wrong_counts_cannot_be_made_or_added():
    ends, rows = np.array([0, 2]), np.array([3, 4])
    good = RankCounts(ends, rows, np.array([0.9, 0.8], np.float32), np.array([0, 1]))
    with pytest.raises(ValueError, match="out of order"):
        RankCounts(ends, rows, good.scores[::-1], good.ahead)
    with pytest.raises(ValueError, match="fewer rows before it"):
        RankCounts(ends, rows, good.scores, good.ahead[::-1])
    with pytest.raises(ValueError, match="need as many"):
        RankCounts(ends, rows[:1], good.scores, good.ahead)
    with pytest.raises(ValueError, match="different matches"):
        good + RankCounts(ends, rows + 1, good.scores, good.ahead)


def test_what_a_product_would_count_wrongly_is_counted_by_score():
    """Rows a rounding apart: the product of blocks alone, without its slack, fails here."""
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((2000, 512)).astype(np.float32) * 2e-8
    query, columns = unit_rows(1, 512, seed=5), np.arange(2000)
    labels = Labels(np.where(columns % 50 == 0, 5, 9), np.ones(2000, np.int64))
    exact = pair_scores(query, rows, np.zeros(2000, np.int64), columns)
    order = oracles.sorted_rows(exact, columns)
    found = rank_counts(query, Labels(np.array([5]), np.array([0])), rows, labels)
    expected = [place + 1 for place, row in enumerate(order) if row % 50 == 0]
    assert found.ranks().tolist() == expected
