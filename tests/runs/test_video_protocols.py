"""The protocols of MARS and DukeMTMC-VideoReID, on folders with the names that they publish."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.io

from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.functions import NetworkFunction
from pipeline.runs import query_list
from pipeline.runs.evaluating import evaluate_to_report
from pipeline.runs.extraction import extract
from pipeline.runs.measuring import evaluate
from pipeline.runs.query_list import query_rows
from pipeline.runs.settings import EvaluationSettings, FigureSettings
from pipeline.runs.tracklets import update_tracklets
from tests import oracles
from tests.stages.making import save_crop

MEANS = NetworkFunction(
    lambda crops: [[*crop[:9].mean((0, 1)), *crop[9:].mean((0, 1)), 1.0] for crop in crops], "means"
)
PLAIN = FigureSettings(replicates=0, open_set=False, camera_pairs=False)


def tracklets_of(folder, out):
    extract(str(folder), f"{out}-boxes", MEANS, layout=LAYOUTS[folder.parent.name])
    return Gallery.open(update_tracklets(Gallery.open(f"{out}-boxes"), str(out)).gallery)


LAYOUTS = {"mars": "mars", "duke": "dukemtmc-videoreid"}
# Identity, camera, number and images of each tracklet, in the order of MARS' own list.
TRACKS = [
    (-1, 1, 1, 2), (-1, 3, 2, 1), (0, 2, 1, 3), (0, 5, 2, 1), (2, 1, 1, 3), (2, 1, 2, 2),
    (2, 2, 3, 4), (2, 6, 4, 1), (7, 1, 1, 2), (7, 3, 2, 2), (7, 3, 3, 3), (9, 4, 1, 2),
]  # fmt: skip
QUERIES = [5, 8, 9, 12]  # from 1, as in MATLAB


@pytest.fixture(scope="module")
def mars(tmp_path_factory):
    """The test half of MARS in small: images, and the files of its folder info."""
    root = tmp_path_factory.mktemp("published") / "mars"
    names, tracks = [], []
    for identity, camera, number, images in TRACKS:
        person = "00-1" if identity < 0 else f"{identity:04d}"
        tracks.append((len(names) + 1, len(names) + images, identity, camera))
        for frame in range(1, images + 1):
            name = f"{person}C{camera}T{number:04d}F{frame:03d}.jpg"
            save_crop(root / "bbox_test" / person / name, 31 * len(names) + 5)
            names.append(name)
    info = root / "info"
    info.mkdir()
    (info / "test_name.txt").write_text("\n".join(names) + "\n")
    held = {"track_test_info": np.array(tracks, np.int32)}
    scipy.io.savemat(info / "tracks_test_info.mat", held)
    scipy.io.savemat(info / "query_IDX.mat", {"query_IDX": np.array([QUERIES], np.uint16)})
    return info, tracklets_of(root / "bbox_test", root.parent / "m")


def by_the_official_code(boxes, info):
    """AP (trapezoid) and rank-1 by the steps of evaluation_mars.m, with mean pooling."""
    tracks = scipy.io.loadmat(info / "tracks_test_info.mat")["track_test_info"]
    names = (info / "test_name.txt").read_text().split()
    feature = {
        path.rpartition("/")[2]: row.astype(np.float64)
        for path, row in zip(boxes.rows(["path"])["path"].to_pylist(), boxes.array(), strict=True)
    }
    videos = []
    for first, last, *_ in tracks:
        mean = np.mean([feature[name] for name in names[first - 1 : last]], axis=0)
        videos.append(mean / np.linalg.norm(mean))
    videos, (label, camera) = np.array(videos), tracks[:, 2:].T
    found = []
    for query in np.array(QUERIES) - 1:
        positive = label == label[query]
        good, junk = positive & (camera != camera[query]), positive & (camera == camera[query])
        order = np.argsort(-(videos @ videos[query]), kind="stable")
        kept = [row for row in order if not junk[row] and label[row] != -1]
        ranks = [place + 1 for place, row in enumerate(kept) if good[row]]
        if ranks:
            found.append((oracles.average_precision_trapezoid(ranks), ranks[0] == 1))
    return np.array(found, float)


def test_mars_is_evaluated_as_by_its_own_code(mars, tmp_path):
    info, tracklets = mars
    boxes = Gallery.open(f"{tracklets.location}-boxes")
    assert (tracklets.count, boxes.count) == (len(TRACKS), sum(each[3] for each in TRACKS))
    named = {row["path"]: row for row in tracklets.rows().to_pylist()}
    assert [named["0002C2T0003"][name] for name in ("identity", "camera", "boxes")] == [2, "2", 4]
    assert named["00-1C1T0001"]["identity"] == -1
    wanted = by_the_official_code(boxes, info)
    queries = info / "query_IDX.mat"
    found = evaluate(tracklets, tracklets, queries=queries, figures=PLAIN).baseline.summary
    assert (found.queries, found.valid) == (4, 3) == (len(QUERIES), len(wanted))
    assert found.mean_ap_trapezoid == pytest.approx(wanted[:, 0].mean())
    assert found.cmc[0] == pytest.approx(wanted[:, 1].mean())
    settings = EvaluationSettings(PLAIN)
    made = evaluate_to_report(tracklets, tracklets, tmp_path / "r", settings, queries=queries)
    assert made.report.results[0].mean_ap_trapezoid == found.mean_ap_trapezoid
    assert f"--queries {queries}" in made.report.command
    assert made.report.settings["queries"] == str(queries)


def test_a_list_of_names_is_as_good(mars, tmp_path):
    info, tracklets = mars
    names = [f"{i:04d}C{c}T{t:04d}" for i, c, t, _ in (TRACKS[q - 1] for q in QUERIES)]
    (tmp_path / "q.txt").write_text("\n".join(names) + "\n\n")
    of_list = query_rows(tracklets, tmp_path / "q.txt").tolist()
    assert of_list == query_rows(tracklets, info / "query_IDX.mat").tolist()
    paths = tracklets.rows(["path"])["path"].to_pylist()
    assert {paths[row] for row in of_list} == set(names)


def test_lists_that_do_not_fit_are_refused(mars, tmp_path, monkeypatch):
    info, tracklets = mars
    (tmp_path / "q.txt").write_text("0002C1T0001\n0002C1T0099\n")
    with pytest.raises(InputError, match=r"1 of 2 names are no rows of .*such as 0002C1T0099"):
        query_rows(tracklets, tmp_path / "q.txt")
    (tmp_path / "q.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no name"):
        query_rows(tracklets, tmp_path / "q.txt")
    whole = scipy.io.loadmat(info / "tracks_test_info.mat")["track_test_info"]
    names = (info / "test_name.txt").read_text()

    def refusal(queries=QUERIES, tracks=whole, lines=names):
        held = {"query_IDX": np.array(queries), "track_test_info": tracks}
        monkeypatch.setattr(query_list, "read_arrays", lambda _file, _names: held)
        (tmp_path / "test_name.txt").write_text(lines)
        with pytest.raises(InputError) as error:
            query_rows(tracklets, tmp_path / "query_IDX.mat")
        return str(error.value)

    assert "a query has a number outside of 1 to 12" in refusal(queries=[0, 3])
    assert "an image has a number outside of 1 to" in refusal(tracks=whole + 20)
    assert "is of shape (12, 3), not [N, 4]" in refusal(tracks=whole[:, :3])
    assert "are not of one tracklet" in refusal(tracks=whole + np.array([0, 0, 0, 1]))
    assert "does not fit layout mars" in refusal(lines=names.replace("0002C", "two_C"))


def test_dukemtmc_videoreid_is_evaluated_by_its_folders(tmp_path):
    """A query tracklet of each person; the others, and people seen once, are the gallery."""
    rng = np.random.default_rng(0)
    for person in range(1, 6):
        for number in range(1, 5 if person < 4 else 2):
            split = "query" if number == 1 and person < 4 else "gallery"
            camera = number if number < 4 else 1  # a second tracklet under the query's camera
            kind = "X" if person < 4 else "D"
            for frame in range(1, 3 + int(rng.integers(0, 2))):
                name = f"{person:04d}_C{camera}_F{frame:04d}_{kind}{12 * frame:05d}.jpg"
                folder = tmp_path / "duke" / split / f"{person:04d}" / f"{number:04d}"
                save_crop(folder / name, 100 * person + 7 * number + frame)
    query, gallery = (
        tracklets_of(tmp_path / "duke" / split, tmp_path / split) for split in ("query", "gallery")
    )
    assert query.rows(["path"])["path"].to_pylist() == ["0001/0001", "0002/0001", "0003/0001"]
    assert (query.count, gallery.count) == (3, 11)
    found = evaluate(query, gallery, figures=PLAIN).baseline.summary
    labels = query.labels(gallery), gallery.labels(query)
    ranks = oracles.hit_ranks(query.array(), labels[0], gallery.array(), labels[1])
    assert [len(each) for each in ranks] == [2, 2, 2]
    wanted = [oracles.average_precision(each) for each in ranks]
    assert found.mean_ap == pytest.approx(np.mean(wanted))
    assert all(a < b for each in ranks for a, b in pairwise(each))
