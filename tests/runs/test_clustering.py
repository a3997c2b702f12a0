import numpy as np
import pytest

import regallery
from tests.core.clusters import dense
from tests.core.clusters.test_encoding import order_of
from tests.core.strategies import unit_rows

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
