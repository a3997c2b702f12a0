"""The whole way on real pedestrian crops, with two real networks."""

import numpy as np
import pytest

from pipeline.core.evaluation.labels import Labels
from pipeline.gallery.table import Gallery
from tests import oracles
from tests.jobs.running import result
from tests.jobs.test_evaluate import figures

RETAIL = ("--channels", "bgr", "--pixel-range", 255, "--mean", 0, 0, 0, "--std", 1, 1, 1)
NETWORKS = ("osnet", "retail")

# Plain NumPy, OpenCV's bicubic resize: rank-1, mAP, mAP after joint expansion (k 10, alpha 3).
REFERENCE = {"osnet": (0.683, 0.612, 0.675), "retail": (0.794, 0.701, 0.729)}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=NETWORKS)
def made(request, tmp_path_factory, pedestrians):
    """Query set and gallery of one network, extracted by the plain loop."""
    network = request.getfixturevalue(request.param)
    return request.param, network, tmp_path_factory.mktemp(request.param)


def extracted(capsys, made, pedestrians, actors=0, *sides):
    name, network, folder = made
    flags = RETAIL if name == "retail" else ()
    places = []
    for side, source in sides or (("query", "query"), ("gallery", "bounding_box_test")):
        place = folder / f"{side}-{actors}"
        arguments = ("--gallery", place, "--model", network, "--layout", "market1501", *flags)
        if not place.exists():
            told = result(
                capsys, "extract", pedestrians / source, *arguments,
                "--actors", actors, "--unit-size", 128,
            )  # fmt: skip
            assert told["rows"] == told["images"]
        places.append(place)
    return places


def evaluated(capsys, places, out, *flags):
    arguments = ("--query", places[0], "--gallery", places[1], "--out", out, "--aqe", "joint")
    return result(capsys, "evaluate", *arguments, *flags)["report"]


@pytest.fixture(scope="module")
def reports():
    """The report of each network in blocks of the usual size, once it is made."""
    return {}


def usual_report(capsys, made, pedestrians, reports):
    if made[0] not in reports:
        places = extracted(capsys, made, pedestrians)
        reports[made[0]] = evaluated(capsys, places, made[2] / "report")
    return reports[made[0]]


def test_figures_are_those_of_the_reference(capsys, made, pedestrians, reports):
    baseline, expanded = usual_report(capsys, made, pedestrians, reports)["results"]
    rank1, mean_ap, mean_ap_expanded = REFERENCE[made[0]]
    assert baseline["rank"]["1"] == pytest.approx(rank1, abs=0.03)
    assert baseline["mAP"] == pytest.approx(mean_ap, abs=0.01)
    assert expanded["mAP"] == pytest.approx(mean_ap_expanded, abs=0.01)
    assert expanded["mAP"] > baseline["mAP"] + 0.02


def test_normalized_by_camera_figures_are_those_of_the_naive_loops(
    capsys, made, pedestrians, tmp_path
):
    places = extracted(capsys, made, pedestrians)
    flags = ("--camera-normalize", "mean", "--camera-normalize", "zscore", "--no-camera-pairs")
    results = evaluated(capsys, places, tmp_path, *flags)["results"]
    tables = [Gallery.open(str(place)) for place in places]
    columns = [table.rows(["identity", "camera"]).to_pandas() for table in tables]
    labels = [Labels(c.identity.to_numpy(), c.camera.astype(np.int64).to_numpy()) for c in columns]
    query, gallery = (table.features().read(0, table.count) for table in tables)
    for mode, found in (("mean", results[2]), ("zscore", results[4])):
        q, g = (
            oracles.camera_normalized(rows, of.camera, gallery, labels[1].camera, mode, 16)
            for rows, of in ((query, labels[0]), (gallery, labels[1]))
        )
        ranks = [each for each in oracles.hit_ranks(q, labels[0], g, labels[1]) if each]
        wanted = np.mean([oracles.average_precision(each) for each in ranks])
        assert found["name"] == f"camera {mode}"
        assert found["mAP"] == pytest.approx(wanted, abs=1e-4)


def test_blocks_change_nothing(capsys, made, pedestrians, reports, tmp_path):
    """Smaller blocks cost more: tests of the folds have them, of a single row, too."""
    places = extracted(capsys, made, pedestrians)
    reference = figures(usual_report(capsys, made, pedestrians, reports))
    block = 64 if made[0] == "osnet" else 37
    flags = ("--query-block", block, "--gallery-block", block)
    assert figures(evaluated(capsys, places, tmp_path, *flags)) == reference


@pytest.mark.ray
def test_a_worker_gives_the_features_of_the_plain_loop(
    capsys, retail, pedestrians, tmp_path, cluster
):
    """The cheaper network, and few crops: what runs it, and how often, makes no difference here."""
    found = []
    (tmp_path / "crops").mkdir()
    for crop in sorted((pedestrians / "query").iterdir())[::4]:
        (tmp_path / "crops" / crop.name).symlink_to(crop)
    for actors in (0, 1):
        side = ("query", tmp_path / "crops")
        (place,) = extracted(capsys, ("retail", retail, tmp_path), pedestrians, actors, side)
        rows = Gallery.open(str(place)).features()
        found.append(rows.read(0, len(rows)))
    assert np.array_equal(*found)


LINKED = {"osnet": (0.8, 0.795), "retail": (0.6, 0.829)}
"""A threshold, and B-cubed F at it."""


def test_people_are_found_without_their_labels(capsys, made, pedestrians, tmp_path):
    _, gallery = extracted(capsys, made, pedestrians)
    threshold, f_score = LINKED[made[0]]
    flags = ("--gallery", gallery, "--out", tmp_path / "i.parquet", "--threshold", threshold)
    told = result(capsys, "link", *flags)["agreement"]
    assert told["f_score"] == pytest.approx(f_score, abs=0.03)
    assert (told["rows_labeled"], told["identities"]) == (576, 10)
