"""Galleries of tracklets: what their rows are, and that they follow their parent."""

import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows
from pipeline.core.tracklets import groups, mean_features
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify
from pipeline.model.functions import NetworkFunction
from pipeline.runs.extraction import extract
from pipeline.runs.settings import UpdateSettings
from pipeline.runs.tracklets import update_tracklets
from tests.archive.video.making import mot, save_video
from tests.jobs.running import result

MEANS = NetworkFunction(lambda crops: [[*crop.mean((0, 1)), 1.0] for crop in crops], "means")


def boxes(last=40):
    return [(frame, frame % 3, 5 * (frame % 3), 9, 20, 30) for frame in range(last)]


@pytest.fixture
def parent(tmp_path):
    save_video(tmp_path / "v" / "a.mp4", frames=50)
    (tmp_path / "v" / "a.txt").write_text(mot([*boxes(), (3, -1, 1, 1, 9, 9)]))
    (tmp_path / "v.csv").write_text(
        "video,camera,boxes,started_at\nv/a.mp4,7,v/a.txt,2024-05-01T08:00:00Z\n"
    )
    extract(str(tmp_path / "v.csv"), str(tmp_path / "g"), MEANS)
    return Gallery.open(str(tmp_path / "g"))


def expected(gallery):
    """By the letter: the unit mean of each tracklet's rows."""
    rows, features = gallery.rows().to_pylist(), gallery.array().astype(np.float64)
    found = {}
    for name in {row["tracklet"] for row in rows} - {None}:
        places = [place for place, row in enumerate(rows) if row["tracklet"] == name]
        mean = features[places].mean(0)
        times = [rows[place]["captured_at"] for place in places]
        row_id = min(rows[place]["row_id"] for place in places)
        found[name] = (len(places), min(times), max(times), row_id, mean / np.linalg.norm(mean))
    return found


def assert_follows(tracklets, parent):
    wanted = expected(parent)
    rows = tracklets.rows().to_pylist()
    assert [row["path"] for row in rows] == [row["tracklet"] for row in rows]
    assert {row["path"] for row in rows} == set(wanted)
    for row, feature in zip(rows, tracklets.array(), strict=True):
        count, first, last, row_id, mean = wanted[row["path"]]
        assert (row["boxes"], row["captured_at"], row["captured_until"]) == (count, first, last)
        assert (row["row_id"], row["camera"], row["size"]) == (row_id, "7", None)
        np.testing.assert_allclose(feature, mean, atol=1e-6)


def test_tracklets_follow_their_parent(tmp_path, parent):
    made = update_tracklets(parent, str(tmp_path / "t"))
    assert (made.rows, made.boxes, made.without_tracklet, made.is_new_version) == (3, 40, 1, True)
    assert_follows(Gallery.open(str(tmp_path / "t")), parent)
    assert not update_tracklets(parent, str(tmp_path / "t")).is_new_version
    (tmp_path / "v" / "a.txt").write_text(mot([each for each in boxes(50) if each[0] > 5]))
    extract(str(tmp_path / "v.csv"), parent.location, MEANS,
            update=UpdateSettings(delete_missing=True, max_missing=1))  # fmt: skip
    parent = Gallery.open(parent.location)
    assert update_tracklets(parent, str(tmp_path / "t")).is_new_version
    tracklets = Gallery.open(str(tmp_path / "t"))
    assert_follows(tracklets, parent)
    assert not verify(tracklets).findings


def test_a_medoid_is_a_row_of_its_tracklet(tmp_path, parent):
    update_tracklets(parent, str(tmp_path / "t"), "medoid")
    features, rows = parent.array(), parent.rows()["tracklet"].to_pylist()
    medoids = Gallery.open(str(tmp_path / "t"))
    for name, feature in zip(medoids.rows()["path"].to_pylist(), medoids.array(), strict=True):
        own = features[[each == name for each in rows]]
        np.testing.assert_array_equal(feature, own[np.argmax((own @ own.T).sum(1))])
    with pytest.raises(InputError, match="not made"):
        update_tracklets(parent, str(tmp_path / "t"), "mean")


def test_verbs_work_on_tracklets(tmp_path, parent, capsys):
    tracklets = tmp_path / "t"
    assert (
        result(capsys, "tracklets", "--gallery", parent.location, "--out", tracklets)["rows"] == 3
    )
    assert "made (tracklets mean)" in result(capsys, "info", tracklets)["derived"]
    assert result(capsys, "verify", tracklets)["findings"] == []
    again = result(capsys, "expand", "--gallery", tracklets, "--out", tmp_path / "e", "-k", 2)
    assert again["rows"] == 3
    out = tmp_path / "links.csv"
    linked = result(capsys, "link", tracklets, "--out", out, "--threshold", 0.5, "-k", 2)
    assert linked["rows_linked"] == 3
    erase = ("erase", parent.location, "--where", "frame < 30")
    result(capsys, *erase, "--purge", "--everywhere", "--yes")
    assert_follows(Gallery.open(str(tracklets)), Gallery.open(parent.location))


def test_what_has_no_tracklets_is_told(tmp_path, parent):
    update_tracklets(parent, str(tmp_path / "t"))
    with pytest.raises(InputError, match="give the gallery of the boxes"):
        update_tracklets(Gallery.open(str(tmp_path / "t")), str(tmp_path / "u"))
    (tmp_path / "v" / "a.txt").write_text(mot([(3, -1, 1, 1, 9, 9)]))
    extract(str(tmp_path / "v.csv"), str(tmp_path / "n"), MEANS)
    with pytest.raises(InputError, match="has no row of a tracklet"):
        update_tracklets(Gallery.open(str(tmp_path / "n")), str(tmp_path / "u"))


def test_means_are_weighted_and_opposite_rows_have_a_medoid():
    rows = np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    rows[3] *= -1
    order, starts = groups(np.array([0, 0, 1, 1]))
    weights = np.array([3.0, 1, 1, 1])
    found = np.concatenate(list(mean_features(ArrayRows(rows), order, starts, weights)))
    np.testing.assert_allclose(found[0], np.array([3, 1, 0, 0]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_array_equal(found[1], rows[2])
