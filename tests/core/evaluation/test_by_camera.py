import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation.by_camera import (
    CameraFigures,
    PairFigures,
    by_camera_pair,
    by_query_camera,
    count_within_cameras,
)
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.metrics import summarize
from pipeline.core.evaluation.ranking import matches, rank_counts
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows
from tests.examples import FEW


def sides(case):
    return case.queries, case.query_labels, case.gallery, case.gallery_labels


def pairs_of(case, **options):
    found = matches(*sides(case))
    within = count_within_cameras(*sides(case), found, **options)
    return by_camera_pair(found, within, case.query_labels, case.gallery_labels)


@settings(max_examples=40)
@given(cases(), tilings)
def test_pairs_equal_the_naive_loop_in_every_tiling(case, tiling):
    found = pairs_of(case, tiling=tiling)
    expected = oracles.camera_pair_ranks(*sides(case))
    assert [(each.query_camera, each.gallery_camera) for each in found] == sorted(expected)
    for each in found:
        ranks = expected[each.query_camera, each.gallery_camera]
        assert each.valid == len(ranks)
        assert each.rank1 == pytest.approx(np.mean([first == 1 for first, *_ in ranks]))
        assert each.mean_ap == pytest.approx(np.mean([*map(oracles.average_precision, ranks)]))


@FEW
@given(cases(min_gallery=2), st.data())
def test_counts_of_parts_add_in_any_order(case, data):
    found = matches(*sides(case))
    size = data.draw(st.integers(1, len(case.gallery)))
    parts = data.draw(st.permutations(list(blocks(len(case.gallery), size))))
    added = sum(count_within_cameras(*sides(case), found, part=part) for part in parts)
    assert added.tolist() == count_within_cameras(*sides(case), found).tolist()


@pytest.mark.parametrize(
    ("block", "count"),  # blocks of one row are slow: few rows have many of them
    [(1, 60), (7, 400), (64, 400), (9999, 400)],
)
def test_real_features_count_alike_in_every_tiling(block, count):
    gallery, queries = unit_rows(count, 100, clusters=20), unit_rows(30, 100, seed=9, clusters=20)
    rng = np.random.default_rng(3)
    q = Labels(rng.integers(0, 20, 30), rng.integers(0, 5, 30))
    g = Labels(rng.integers(0, 20, count), rng.integers(0, 5, count))
    found = matches(queries, q, gallery, g)
    whole = count_within_cameras(queries, q, gallery, g, found)
    tiled = count_within_cameras(queries, q, gallery, g, found, tiling=Tiling(block, block))
    assert tiled.tolist() == whole.tolist()
    assert (whole <= rank_counts(queries, q, gallery, g, found=found).ahead).all()


@settings(max_examples=30)
@given(cases())
def test_cameras_of_queries_equal_the_naive_loop(case):
    ranks = oracles.hit_ranks(*sides(case))
    summary = summarize(rank_counts(*sides(case)), len(case.gallery))
    found = by_query_camera(summary, case.query_labels)
    assert [each.camera for each in found] == np.unique(case.query_labels.camera).tolist()
    for each in found:
        theirs = [ranks[i] for i in np.flatnonzero(case.query_labels.camera == each.camera)]
        valid = [r for r in theirs if r]
        assert (each.queries, each.valid) == (len(theirs), len(valid))
        if valid:
            assert each.rank1 == pytest.approx(np.mean([r[0] == 1 for r in valid]))
            aps = [oracles.average_precision(r) for r in valid]
            assert each.mean_ap == pytest.approx(np.mean(aps))
        else:
            assert np.isnan([each.rank1, each.mean_ap]).all()


def test_a_case_worked_by_hand():
    """From camera 0: in camera 1 a stranger stands first, in camera 2 the match does."""
    line = np.array([[1.0], [0.9], [0.8], [0.7], [0.6], [0.5]], np.float32)
    queries = Labels(np.array([5, 9, 5]), np.array([0, 0, 2]))
    gallery = Labels(np.array([5, 6, 5, 5, 0, 5]), np.array([0, 1, 1, 2, 2, 1]))
    found = matches(line[:3], queries, line, gallery)
    within = count_within_cameras(line[:3], queries, line, gallery, found)
    assert by_camera_pair(found, within, queries, gallery) == [
        PairFigures(0, 1, 1, 0.0, (1 / 2 + 2 / 3) / 2),
        PairFigures(0, 2, 1, 1.0, 1.0),
        PairFigures(2, 0, 1, 1.0, 1.0),
        PairFigures(2, 1, 1, 0.0, (1 / 2 + 2 / 3) / 2),
    ]
    summary = summarize(rank_counts(line[:3], queries, line, gallery), 6)
    first, second = by_query_camera(summary, queries)
    assert first == CameraFigures(0, 2, 1, 0.0, (1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert (second.camera, second.queries, second.valid, second.rank1) == (2, 1, 1, 1.0)


def test_without_a_match_there_is_no_pair():
    one = np.ones((1, 1), np.float32)
    labels = Labels(np.array([1]), np.array([0])), Labels(np.array([2]), np.array([1]))
    found = matches(one, labels[0], one, labels[1])
    within = count_within_cameras(one, labels[0], one, labels[1], found)
    assert by_camera_pair(found, within, *labels) == []


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ((3, 4, 0.5, 0.5), "camera c1: 4 valid of 3 queries"),
        ((3, 0, 0.5, 0.5), "NaN exactly where no query is valid"),
        ((3, 1, np.nan, 0.5), "NaN exactly where no query is valid"),
        ((3, 1, np.nan, np.nan), "NaN exactly where no query is valid"),
    ],
)
def test_figures_that_are_none_are_refused(figures, message):
    with pytest.raises(ValueError, match=message):
        CameraFigures("c1", *figures)


def test_a_pair_of_cameras_without_a_match_is_refused():
    with pytest.raises(ValueError, match="cameras c1 and None: no query has a match"):
        PairFigures("c1", None, 0, 0.5, 0.5)
