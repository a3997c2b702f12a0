"""Camera pairs as a square of cells."""

from pipeline.core.evaluation.by_camera import CameraFigures, PairFigures
from pipeline.report.camera_grid import SHOWN, busiest, camera_grid


def pair(query, gallery, valid):
    return PairFigures(query, gallery, valid, 0.5, 0.5)


def test_a_cell_for_every_pair_and_none_elsewhere():
    pairs = [pair("c10", "c2", 3), pair("c2", None, 1), pair("c2", "c10", 2)]
    grid = camera_grid(pairs)
    assert (grid.rows, grid.columns) == (["c2", "c10"], ["c2", "c10", None])
    assert grid.cells == [[None, pairs[2], pairs[1]], [pairs[0], None, None]]
    assert grid.hidden == 0


def test_of_many_the_busiest_are_kept_and_the_rest_counted():
    pairs = [pair(f"q{n}", "g", 100 - n) for n in range(30)]
    grid = camera_grid(pairs)
    assert grid.rows == [f"q{n}" for n in range(SHOWN)]
    assert grid.hidden == 30 - SHOWN


def test_cameras_with_the_most_queries_in_natural_order():
    nan = float("nan")
    cameras = [CameraFigures(f"c{n}", n % 20, 0, nan, nan) for n in range(40)]
    shown = [each.camera for each in busiest(cameras)]
    assert shown == [f"c{n}" for n in (*range(14, 20), *range(34, 40))]


def test_no_pair_gives_an_empty_grid():
    assert camera_grid([]).rows == []
