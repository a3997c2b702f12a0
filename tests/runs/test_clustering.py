import numpy as np
import pytest

import regallery
from pipeline.core.blocks import ArrayRows
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.errors import InputError
from pipeline.runs.clustering import ClusterSettings, cluster_gallery, cluster_rows
from pipeline.runs.settings import FoldSettings
from pipeline.runs.split_graph import build_split_graph
from pipeline.stages import neighbors as stage
from pipeline.stages.execution import Execution
from tests.core.clusters import dense
from tests.core.clusters.test_encoding import order_of
from tests.core.strategies import unit_rows
from tests.jobs.labeled import labeled_gallery

ROWS = unit_rows(120, 16, seed=4, clusters=9)
CAMERAS = np.random.default_rng(5).integers(0, 3, len(ROWS))


def test_labels_are_those_of_dense_matrices():
    weights = dense.plain_weights(ROWS, order_of(ROWS), 30, 6)
    wanted = dense.dbscan(dense.jaccard(weights), 0.6, 4)
    assert regallery.jaccard_clusters(ROWS).tolist() == wanted.tolist()
    assert 3 < wanted.max() + 1 < 30
    settings = regallery.CameraEncoding()
    weights = dense.camera_weights(ROWS, order_of(ROWS), CAMERAS, settings)
    wanted = dense.dbscan(dense.jaccard(weights), 0.5, 4)
    names = [f"gate {camera}" for camera in CAMERAS]
    assert regallery.jaccard_clusters(ROWS, names, eps=0.5).tolist() == wanted.tolist()


def test_eps_is_chosen_where_the_number_of_clusters_is_most_stable():
    grid = regallery.EpsGrid(0.2, 0.7, 11, 3)
    counts = [regallery.jaccard_clusters(ROWS, eps=eps).max() + 1 for eps in grid.values()]
    assert counts == 7 * [9] + 4 * [8]
    found = regallery.jaccard_clusters(ROWS, eps=grid)  # from 0.25 to 0.45 no neighbor differs
    assert found.tolist() == regallery.jaccard_clusters(ROWS, eps=0.35).tolist()


def test_what_people_said_is_kept():
    plain = regallery.jaccard_clusters(3 * ROWS, normalize=True)
    a, b = np.flatnonzero(plain == 0)[[0, -1]]
    c = np.flatnonzero(plain == 1)[0]
    found = regallery.jaccard_clusters(ROWS, must=[[a, c]], cannot=[[a, b]])
    assert found[a] == found[c] != found[b]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cameras": [1, 2]}, "a camera is needed for each of 120 rows, and 2 given"),
        ({"encoding": regallery.CameraEncoding()}, "each of 120 rows, and none given"),
        ({"eps": 1}, "eps must be 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        regallery.jaccard_clusters(ROWS, **options)
    with pytest.raises(ValueError, match="length"):
        regallery.jaccard_clusters(2 * ROWS)


GRID = regallery.EpsGrid(0.2, 0.7, 11, 3)


@pytest.mark.parametrize("memory", [120_000, 1 << 30])
@pytest.mark.parametrize("same", [1, 50])
def test_split_graphs_of_any_blocks_give_the_bits_of_the_whole(tmp_path, monkeypatch, memory, same):
    monkeypatch.setattr(stage, "_SMALLEST_BLOCK", 1)
    cameras = np.where(np.arange(len(ROWS)) == 7, 9, CAMERAS)  # one camera has one row
    cameras[[3, 50]] = -1
    seen = []
    execution = Execution(memory=memory, progress=lambda *_: seen.append)
    found = build_split_graph(ArrayRows(ROWS), cameras, same, 21, tmp_path, execution=execution)
    assert sum(seen) == 2 * len(ROWS)
    for mine, wanted in zip(found, neighbors_by_camera(ROWS, cameras, same, 21), strict=True):
        assert mine.rows.tolist() == wanted.rows.tolist()
        known = wanted.rows >= 0
        assert mine.scores[known].tobytes() == wanted.scores[known].tobytes()
    assert len(list(tmp_path.glob("own-*"))) == 3


@pytest.mark.parametrize("cameras", [None, CAMERAS])
@pytest.mark.parametrize("eps", [None, 0.5])
def test_clusters_of_blocks_are_those_of_arrays(tmp_path, cameras, eps):
    settings = ClusterSettings(eps, GRID, 3)
    found = cluster_rows(ArrayRows(ROWS), tmp_path, settings, cameras=cameras, must=[[0, 1]])
    wanted = regallery.jaccard_clusters(
        ROWS, cameras, eps=GRID if eps is None else eps, min_samples=3, must=[[0, 1]]
    )
    assert found.labels.tolist() == wanted.tolist()
    assert (found.count, found.noise) == (wanted.max() + 1, (wanted < 0).mean())
    if eps is None:
        assert found.choice.eps == found.eps in GRID.values()
    else:
        assert (found.choice, found.eps) == (None, 0.5)


def test_a_gallery_is_clustered_by_its_cameras(tmp_path):
    names = [f"gate {camera}" for camera in CAMERAS]
    gallery = labeled_gallery(tmp_path / "g", ROWS, len(ROWS) * [None], names)
    settings = ClusterSettings(0.5)
    on = FoldSettings(scratch=tmp_path)
    plain = regallery.jaccard_clusters(ROWS, names, eps=0.5)
    assert cluster_gallery(gallery, settings, on=on).labels.tolist() == plain.tolist()
    a, b = np.flatnonzero(plain == 0)[[0, -1]]
    found = cluster_gallery(gallery, settings, cannot=[[a, b]], on=on).labels
    assert found.tolist() == regallery.jaccard_clusters(
        ROWS, names, eps=0.5, cannot=[[a, b]]
    ).tolist()  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
    with pytest.raises(InputError, match="has no row 500, which a link names"):
        cluster_gallery(gallery, must=[[0, 500]])
    with pytest.raises(InputError, match="rows 0 and 1 must not be of one cluster"):
        cluster_gallery(gallery, must=[[0, 1]], cannot=[[0, 1]])


def test_a_gallery_without_cameras_is_clustered_plainly(tmp_path):
    gallery = labeled_gallery(tmp_path / "g", ROWS, len(ROWS) * [None], len(ROWS) * [None])
    found = cluster_gallery(gallery, ClusterSettings(0.6)).labels
    assert found.tolist() == regallery.jaccard_clusters(ROWS).tolist()
    with pytest.raises(InputError, match="has no row of a camera: use `PlainEncoding`"):
        cluster_gallery(gallery, ClusterSettings(encoding=regallery.CameraEncoding()))
    for options, message in (({"eps": 1}, "`eps` lies from 0"), ({"min_samples": 0}, "at least 1")):
        with pytest.raises(InputError, match=message):
            ClusterSettings(**options)


def test_no_row_and_one_row_are_no_cluster(tmp_path):
    for count in (0, 1):
        rows = ArrayRows(ROWS[:count])
        for cameras in (None, CAMERAS[:count]):
            found = cluster_rows(rows, tmp_path / f"{count}", cameras=cameras)
            assert found.labels.tolist() == count * [-1]
            assert (found.count, found.noise, found.eps) == (0, count, 0.4)
    with pytest.raises(ValueError, match="a number from -1 for each of 1 rows"):
        build_split_graph(rows, CAMERAS, 1, 1, tmp_path)
    with pytest.raises(ValueError, match="a camera-aware encoding needs cameras"):
        cluster_rows(rows, tmp_path, ClusterSettings(encoding=regallery.CameraEncoding()))
