"""A real video with boxes: figures of plain NumPy, and the same from every form and any worker."""

import csv
import json

import numpy as np
import pytest

from pipeline.gallery.table import Gallery
from pipeline.model.functions import NetworkFunction
from pipeline.runs.extraction import extract
from pipeline.runs.settings import ActorSettings, WorkSettings
from pipeline.runs.tracklets import update_tracklets

MEANS = NetworkFunction(lambda crops: [[*crop.mean((0, 1)), 1.0] for crop in crops], "means")

# Outside this project, with osnet_x0_25_msmt17 by plain NumPy: rank-1, mAP, mINP.
OF_CROPS, OF_TRACKLETS = (0.714, 0.616, 0.252), (0.930, 0.900, 0.801)


def figures(query, gallery):
    """Of (feature, identity, camera), rows of the query's own identity and camera left out."""
    found = []
    for feature, identity, camera in zip(*query, strict=True):
        features, identities, cameras = gallery
        kept = (identities != identity) | (cameras != camera)
        order = np.argsort(-features[kept] @ feature, kind="stable")
        ranks = np.flatnonzero((identities[kept] == identity)[order]) + 1
        if identity > 0 and len(ranks):
            precision = np.arange(1, len(ranks) + 1) / ranks
            found.append((ranks[0] == 1, precision.mean(), len(ranks) / ranks[-1]))
    return len(found), np.mean(found, axis=0)


def features_of(location):
    gallery = Gallery.open(str(location))
    return dict(zip(gallery.rows()["path"].to_pylist(), map(bytes, gallery.array()), strict=True))


@pytest.mark.slow
def test_figures_are_those_of_plain_numpy(tmp_path, pedestrian_video, osnet):
    extract(str(pedestrian_video / "boxes.csv"), str(tmp_path / "g"), str(osnet))
    gallery = Gallery.open(str(tmp_path / "g"))
    rows = {name: np.array(gallery.rows()[name].to_pylist())
            for name in ("path", "identity", "camera", "tracklet")}  # fmt: skip
    with (pedestrian_video / "boxes.csv").open() as file:
        crops = {
            f"vtest.avi#f={row['frame']}&b={row['x']},{row['y']},{row['width']},{row['height']}":
            row["crop"] for row in csv.DictReader(file)
        }  # fmt: skip
    assert sorted(crops) == sorted(rows["path"])
    is_query = np.array([crops[path].startswith("query/") for path in rows["path"]])
    labels = (gallery.array(), rows["identity"], rows["camera"])
    queries, found = figures([each[is_query] for each in labels],
                             [each[~is_query] for each in labels])  # fmt: skip
    assert queries == 63
    np.testing.assert_allclose(found, OF_CROPS, atol=0.02)
    assert update_tracklets(gallery, str(tmp_path / "t")).rows == 80
    tracklets = Gallery.open(str(tmp_path / "t"))
    columns = tracklets.rows(["identity", "camera"])
    labels = [tracklets.array(), *(np.array(each.to_pylist()) for each in columns.columns)]
    queries, found = figures(labels, labels)
    assert queries == 71
    np.testing.assert_allclose(found, OF_TRACKLETS, atol=0.02)


@pytest.mark.ray
def test_the_same_rows_from_mot_coco_and_table_here_and_by_two_workers(
    tmp_path, pedestrian_video, cluster
):
    video = pedestrian_video / "vtest.avi"
    with (pedestrian_video / "boxes.csv").open() as file:
        boxes = list(csv.DictReader(file))
    (tmp_path / "vtest.avi").symlink_to(video)
    coco = {
        "videos": [{"id": 1, "name": "vtest.avi"}],
        "images": [{"id": n, "video_id": 1, "frame_id": n, "file_name": ""} for n in range(795)],
        "annotations": [
            {"image_id": int(row["frame"]), "track_id": row["track"], "camera": row["camera"],
             "bbox": [int(row[name]) for name in ("x", "y", "width", "height")]}
            for row in boxes
        ],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "boxes.csv").write_text((pedestrian_video / "boxes.csv").read_text())
    lines = [f"vtest.avi,{n},{pedestrian_video}/camera{n}.mot.txt" for n in (1, 2, 3)]
    (tmp_path / "mot.csv").write_text("\n".join(["video,camera,boxes", *lines]))
    of_table = extract(str(tmp_path / "boxes.csv"), str(tmp_path / "table"), MEANS)
    assert (of_table.rows, of_table.rejects) == (len(boxes), {})
    expected = features_of(tmp_path / "table")
    for name, actors in (("coco.json", 0), ("mot.csv", 2)):
        extract(
            str(tmp_path / name), str(tmp_path / "g" / name), MEANS,
            actors=ActorSettings(actors=actors), work=WorkSettings(unit_size=100),
        )  # fmt: skip
        assert features_of(tmp_path / "g" / name) == expected
    names = ["path", "camera", "tracklet"]
    places = [str(tmp_path / each) for each in ("table", "g/coco.json", "g/mot.csv")]
    tables = [Gallery.open(each).rows(names).sort_by("path") for each in places]
    tables = [each.replace_schema_metadata(None) for each in tables]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


class StoppedError(Exception):
    """Stands for a kill: nothing of the run is cleaned up."""


def test_after_a_kill_finished_units_are_kept(tmp_path, pedestrian_video):
    source, place = str(pedestrian_video / "boxes.csv"), str(tmp_path / "g")
    work = WorkSettings(unit_size=100)
    whole = extract(source, str(tmp_path / "whole"), MEANS, work=work)

    steps = iter(range(10))

    def stop(images):
        if next(steps, None) is None:
            raise StoppedError

    with pytest.raises(StoppedError):
        extract(source, place, MEANS, work=work, progress=lambda *_: stop)
    again = extract(source, place, MEANS, work=work)
    assert 0 < again.units_resumed < whole.units
    assert features_of(place) == features_of(tmp_path / "whole")
