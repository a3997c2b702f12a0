from pathlib import Path

import numpy as np
import pytest

from jobs import demo_network
from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.labels import Labels
from pipeline.core.expansion import Expansion, expand
from pipeline.gallery.derived import derivation
from pipeline.gallery.files.storage import delete_files
from pipeline.gallery.sidecars.camera_statistics import read_camera_sums
from pipeline.gallery.table import Gallery
from pipeline.runs import cameras
from tests import oracles
from tests.gallery.making import new_gallery, unit
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import save_network, save_source

MODEL = Path(demo_network.__file__).with_name("demo.onnx")


@pytest.fixture
def parent(tmp_path):
    """A gallery of 20 rows by three cameras."""
    gallery = new_gallery(tmp_path / "parent")
    return gallery.commit([unit(gallery.target, range(20))], run_id="a")


def command(tmp_path, *flags, out="expanded"):
    return ("expand", "--gallery", tmp_path / "parent", "--out", tmp_path / out, *flags)


ZSCORE = ("-k", 1, "--camera-normalize", "zscore", "--camera-rows", 7)


def normalized(gallery, mode, least_rows):
    rows = gallery.features().read(0, gallery.count)
    camera = np.array([int(name[1:]) for name in gallery.rows(["camera"])["camera"].to_pylist()])
    return oracles.camera_normalized(rows, camera, rows, camera, mode, least_rows)


def read(folder):
    gallery = Gallery.open(str(folder))
    return gallery.features().read(0, gallery.count)


@pytest.mark.parametrize("mode", ["mean", "zscore"])
def test_expand_takes_normalized_features(capsys, tmp_path, parent, mode):
    flags = ("-k", 4, "--camera-normalize", mode, "--camera-rows", 2)
    told = result(capsys, *command(tmp_path, *flags))
    assert told["parameters"] == {
        "mode": "database", "k": 4, "alpha": 3.0, "times": 1,
        "camera_normalize": mode, "camera_rows": 2,
    }  # fmt: skip
    made = Gallery.open(str(tmp_path / "expanded"))
    assert derivation(made).parameters == told["parameters"]
    assert cameras.normalization_of(made) == CameraNormalization(mode, 2)
    rows = normalized(parent, mode, 2).astype(np.float32)
    (wanted,) = expand(rows, rows, Expansion("database", 4), self_offset=0)
    np.testing.assert_allclose(read(tmp_path / "expanded"), wanted, atol=1e-5)


def test_statistics_are_made_once_and_go_with_what_is_derived(
    capsys, tmp_path, parent, monkeypatch
):
    result(capsys, *command(tmp_path, *ZSCORE))
    names, sums = read_camera_sums(parent)
    assert names == ["c0", "c1", "c2"]
    assert sums.rows.tolist() == [7, 7, 6, 0]
    monkeypatch.setattr(cameras, "sum_cameras", None)
    result(capsys, *command(tmp_path, "--camera-normalize", "mean", out="other"))
    for out in ("expanded", "other"):
        kept = read_camera_sums(Gallery.open(str(tmp_path / out)))
        assert kept[1].squares.tobytes() == sums.squares.tobytes()
    monkeypatch.undo()
    parent.commit([unit(parent.target, range(20, 24))], run_id="b")
    told = result(capsys, *command(tmp_path, *ZSCORE))
    assert (told["version"], told["is_new_version"]) == (2, True)
    np.testing.assert_allclose(
        read(tmp_path / "expanded"),
        normalized(Gallery.open(parent.location), "zscore", 7),
        atol=1e-5,
    )


def test_rows_without_statistics_of_their_own_are_told(capsys, tmp_path, parent):
    told = run(capsys, *command(tmp_path, *ZSCORE))[2]
    assert "camera zscore: 6 of 20 rows use the statistics of all rows" in told
    assert "fewer than 7 rows" in told


def test_a_gallery_that_may_not_be_written_to_is_read(capsys, tmp_path, parent):
    (tmp_path / "parent" / "_cameras").write_text("in the way")
    told = run(capsys, *command(tmp_path, *ZSCORE))
    assert told[0] == 0
    assert "the statistics of the cameras are not stored" in told[2]
    np.testing.assert_allclose(
        read(tmp_path / "expanded"), normalized(parent, "zscore", 7), atol=1e-5
    )


def test_cut_off_after_the_commit_the_same_command_goes_on(capsys, tmp_path, parent, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cameras.Cameras, "keep_with", cut_off)
    assert run(capsys, *command(tmp_path, *ZSCORE))[0] != 0
    made = Gallery.open(str(tmp_path / "expanded"))
    assert made.version == 1
    assert read_camera_sums(made) is None
    monkeypatch.undo()
    assert result(capsys, *command(tmp_path, *ZSCORE))["is_new_version"] is False
    assert read_camera_sums(made)[0] == ["c0", "c1", "c2"]


def test_what_does_not_fit_is_told(capsys, tmp_path, parent):
    line = refused(capsys, *command(tmp_path, "--camera-normalize", "mean", "--camera-rows", 0))
    assert "least_rows must be at least 1" in line
    result(capsys, *command(tmp_path, *ZSCORE))
    line = refused(capsys, *command(tmp_path, "-k", 1))
    assert "camera_normalize zscore" in line
    image = tmp_path / "image.png"
    line = refused(capsys, "search", image, "--gallery", tmp_path / "expanded", "--model", MODEL)
    assert "an image to search for has no camera" in line


@pytest.fixture
def sides(capsys, tmp_path):
    """Queries and a gallery of five identities by three cameras, extracted."""
    network = save_network(tmp_path).path
    for side, count in (("query", 9), ("gallery", 60)):
        source = save_source(tmp_path / f"{side}-source", count)
        flags = ("--gallery", tmp_path / side, "--model", network, *SIZE)
        result(capsys, "extract", source, *flags)
    return tmp_path / "query", tmp_path / "gallery"


PLAINLY = ("--replicates", 0, "--no-open-set", "--no-camera-pairs")


def evaluated(capsys, query, gallery, out, *flags):
    arguments = ("--query", query, "--gallery", gallery, "--out", out)
    return result(capsys, "evaluate", *arguments, *PLAINLY, *flags)


FIGURES = ("rank", "cmc", "mAP", "mAP_trapezoid", "mINP", "valid")


def figures(told, name):
    (found,) = [each for each in told["report"]["results"] if each["name"] == name]
    return {key: found[key] for key in FIGURES}


def test_evaluate_ranks_normalized_features_beside_the_plain_ones(capsys, sides, tmp_path):
    query, gallery = sides
    flags = ("--aqe", "database", "--k", 4, "--camera-normalize", "mean", "--camera-rows", 5)
    told = evaluated(capsys, query, gallery, tmp_path, *flags, "--camera-normalize", "zscore")
    results = {each["name"]: each for each in told["report"]["results"]}
    assert list(results) == [
        "baseline", "aqe database", "camera mean", "camera mean + aqe database",
        "camera zscore", "camera zscore + aqe database",
    ]  # fmt: skip
    assert results["camera mean"]["parameters"] == {"camera_normalize": "mean", "camera_rows": 5}
    assert results["camera mean"]["mode"] is None
    assert results["camera zscore + aqe database"]["mode"] == "database"
    assert 'id="def-camera"' in Path(told["report_html"]).read_text()
    assert "--camera-normalize=mean --camera-normalize=zscore" in told["report"]["command"]
    ours, theirs = (Gallery.open(str(each)) for each in (query, gallery))
    rows = theirs.features().read(0, theirs.count)
    asked = ours.features().read(0, ours.count)
    columns = [each.rows(["identity", "camera"]).to_pydict() for each in (ours, theirs)]
    identity = [np.array(each["identity"]) for each in columns]
    camera = [np.array([int(name) for name in each["camera"]]) for each in columns]
    normal = [
        oracles.camera_normalized(x, c, rows, camera[1], "zscore", 5)
        for x, c in ((asked, camera[0]), (rows, camera[1]))
    ]
    labels = [Labels(*each) for each in zip(identity, camera, strict=True)]
    ranks = oracles.hit_ranks(normal[0], labels[0], normal[1], labels[1])
    wanted = np.mean([oracles.average_precision(each) for each in ranks if each])
    assert results["camera zscore"]["mAP"] == pytest.approx(wanted)
    assert read_camera_sums(theirs)[0] == ["1", "2", "3"]


def test_queries_follow_a_gallery_that_was_normalized(capsys, sides, tmp_path):
    query, gallery = sides
    made = tmp_path / "made"
    flags = ("--camera-normalize", "zscore", "--camera-rows", 5)
    result(capsys, "expand", "--gallery", gallery, "--out", made, "-k", 4, *flags)
    wanted = evaluated(
        capsys, query, gallery, tmp_path / "1", "--aqe", "database", "--k", 4, *flags
    )
    found = evaluated(capsys, query, made, tmp_path / "2")
    assert figures(found, "baseline") == figures(wanted, "camera zscore + aqe database")
    assert figures(found, "baseline") != figures(wanted, "aqe database")
    arguments = ("evaluate", "--query", query, "--gallery", made, "--out", tmp_path / "3")
    assert "normalized already" in refused(capsys, *arguments, "--camera-normalize", "mean")
    for kept in (made / "_cameras").iterdir():
        delete_files([kept])
    assert "run its expand again" in refused(capsys, *arguments)
