import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.evaluation.labels import Labels
from pipeline.gallery.table import Gallery
from pipeline.runs.thresholds import thresholds_of
from tests import oracles
from tests.jobs.labeled import add_rows, labeled_gallery, people
from tests.jobs.running import refused, result, run


@pytest.fixture(scope="module")
def galleries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    for name, rows, seed in (("q", 60, 7), ("g", 240, 8)):
        labeled_gallery(folder / name, *people(20, rows, seed=seed))
    return folder / "q", folder / "g"


def pairs_of(first, second):
    """All positive and all negative similarities, by the loop."""
    sides = []
    for place in (first, second):
        gallery = Gallery.open(str(place))
        rows = gallery.rows(["identity", "camera"]).to_pydict()
        camera = [int(name[1:]) for name in rows["camera"]]
        sides += [gallery.features().read(0, gallery.count)]
        sides += [Labels(np.array(rows["identity"]), np.array(camera))]
    return (np.concatenate(each) for each in oracles.pair_scores(*sides))


FEW = ("--replicates", 20)


def test_the_threshold_is_that_of_the_loop_and_is_kept(capsys, galleries):
    query, gallery = galleries
    told = result(
        capsys, "calibrate", "--gallery", gallery, "--query", query, "--far", 0.01, *FEW
    )  # fmt: skip
    positives, negatives = pairs_of(query, gallery)
    figures = told["figures"]
    assert figures["false_matches"] == (negatives >= told["threshold"]).sum()
    assert figures["false_matches"] == int(0.01 * len(negatives))
    assert figures["tar"] == pytest.approx((positives >= told["threshold"]).mean())
    kept = json.loads(Path(told["file"]).read_text())
    assert kept["threshold"] == told["threshold"]
    assert kept["fingerprint"] == Gallery.open(str(gallery)).fingerprint
    assert (kept["version"], kept["rule"], kept["parameters"]) == (1, "far", {"far": 0.01})
    assert (kept["query"], kept["query_version"]) == (str(query), 1)
    assert kept["resampling"] == {"replicates": 20, "level": 0.95, "seed": 0}
    assert Gallery.open(str(gallery)).count == 240  # the table is as it was


def test_a_gallery_against_itself(capsys, galleries):
    _, gallery = galleries
    told = result(capsys, "calibrate", "--gallery", gallery, "--far", 0.01, *FEW)
    positives, negatives = pairs_of(gallery, gallery)
    assert (told["figures"]["positives"], told["figures"]["negatives"]) == (
        len(positives), len(negatives),
    )  # fmt: skip
    assert told["query"] is None


def test_fewer_queries_are_whole_identities(capsys, galleries):
    _, gallery = galleries
    flags = ("calibrate", "--gallery", gallery, "--far", 0.05, "--query-rows", 40, *FEW)
    told = result(capsys, *flags)
    assert told["query_rows"] <= 40
    assert told["figures"]["identities"] < 20
    assert result(capsys, *flags, "--seed", 1)["threshold"] != told["threshold"]


def test_the_percentile_rule(capsys, galleries):
    query, gallery = galleries
    told = result(
        capsys, "calibrate", "--gallery", gallery, "--query", query, "--rule", "percentile",
        "--percentile", 90, "--factor", 0.9, *FEW,
    )  # fmt: skip
    positives, _ = pairs_of(query, gallery)
    distance = np.percentile(np.sqrt(2 - 2 * positives), 90, method="inverted_cdf") * 0.9
    assert told["threshold"] == pytest.approx(1 - distance**2 / 2, abs=1e-6)


def test_pairs_of_cameras(capsys, galleries):
    _, gallery = galleries
    flags = ("calibrate", "--gallery", gallery, "--by-camera", "--far", 0.02, *FEW)
    told = result(capsys, *flags)["by_camera"]
    assert [(each["query_camera"], each["gallery_camera"]) for each in told] == [
        (a, b) for a in ("c0", "c1", "c2") for b in ("c0", "c1", "c2") if a != b
    ]
    assert sum(each["positives"] for each in told) == len(next(pairs_of(gallery, gallery)))
    for each in told:
        assert each["figures"]["false_matches"] == int(0.02 * each["negatives"])
    _, out, _ = run(capsys, *flags)
    assert "gallery camera" in out
    told = result(capsys, *flags[:-4], "--far", 0.001, *FEW)["by_camera"]
    assert {each["figures"] for each in told} == {None}
    _, out, _ = run(capsys, *flags[:-4], "--far", 0.001, *FEW)
    assert out.count("too few") == 6


def test_rows_without_a_camera_are_in_no_pair_of_cameras(capsys, tmp_path):
    features, identity, camera = people(10, 120)
    labeled_gallery(tmp_path / "g", features, identity, [*camera[:60], *[None] * 60])
    told = result(
        capsys, "calibrate", "--gallery", tmp_path / "g", "--by-camera", "--far", 0.1, *FEW
    )
    assert {each["query_camera"] for each in told["by_camera"]} == {"c0", "c1", "c2"}
    assert sum(each["positives"] for each in told["by_camera"]) < told["figures"]["positives"]


def test_few_false_matches_are_told_and_do_not_replace_many(capsys, tmp_path):
    labeled_gallery(tmp_path / "g", *people(20, 240, seed=8))
    flags = ("calibrate", "--gallery", tmp_path / "g", *FEW)
    weak = (*flags, "--far", 0.0001)
    status, out, err = run(capsys, *weak)
    assert status == 0
    assert "rests on few false matches (4; at least 30 make it reliable)" in err
    assert f"{tmp_path / 'g'}, version 1: stored as _calibrations/000000000001.json" in out
    assert result(capsys, *weak)  # the next one of its kind takes its place
    firm = result(capsys, *flags, "--far", 0.01)
    line = refused(capsys, *weak)
    many = firm["figures"]["false_matches"]
    assert f"rests on {many:,} false matches and is kept: this one would rest on 4" in line
    assert json.loads(Path(firm["file"]).read_text())["threshold"] == firm["threshold"]
    assert f"or delete {firm['file']} and its record" in line
    result(capsys, *flags, "--rule", "percentile", "--factor", 0.1)  # another rule is another wish


def test_few_positive_pairs_are_told(capsys, tmp_path):
    features, identity, camera = people(3, 12)
    labeled_gallery(tmp_path / "g", features, identity, camera)
    _, _, err = run(capsys, "calibrate", "--gallery", tmp_path / "g", "--rule", "percentile", *FEW)
    assert "rests on few positive pairs" in err


def test_a_later_version_keeps_the_threshold_until_it_has_its_own(capsys, tmp_path):
    gallery = labeled_gallery(tmp_path / "g", *people(10, 100))
    first = result(capsys, "calibrate", "--gallery", tmp_path / "g", "--far", 0.01, *FEW)
    add_rows(gallery, *people(10, 50, seed=3))

    def holds(*version):
        table = Gallery.open(str(tmp_path / "g"), *version)
        held = result(capsys, "info", tmp_path / "g", "--version", table.version)["calibration"]
        assert thresholds_of(table, None).general == held["threshold"]
        return held["version"], held["threshold"], held["fits"]

    assert holds() == (1, first["threshold"], False)
    second = result(capsys, "calibrate", "--gallery", tmp_path / "g", "--far", 0.1, *FEW)
    assert second["threshold"] < first["threshold"]
    assert holds() == (2, second["threshold"], True)
    assert holds(1) == (1, first["threshold"], True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--far", 0), "false-match rate lies between 0 and 1"),
        (("--far", 1e-9), "needs at least 1,000,000,000 negative pairs"),
        (("--percentile", 90), "--percentile does not go with --rule far"),
        (("--rule", "percentile", "--far", 0.1), "--far does not go with --rule percentile"),
        (("--rule", "percentile", "--factor", 0), "factor must be positive"),
        (("--replicates", 0), "replicates must be at least 1"),
        (("--query-rows", 0), "--query-rows must be at least 1"),
        (("--query-version", 1), "--query-version goes with --query"),
    ],
)
def test_wrong_arguments(capsys, galleries, flags, message):
    assert message in refused(capsys, "calibrate", "--gallery", galleries[1], *flags)


def test_rows_without_identities(capsys, tmp_path):
    features, _, camera = people(5, 20)
    labeled_gallery(tmp_path / "g", features, [None] * 20, camera)
    line = refused(capsys, "calibrate", "--gallery", tmp_path / "g")
    assert "has no identities, which a calibration needs" in line
    labeled_gallery(tmp_path / "h", features, range(1, 21), camera)
    line = refused(capsys, "calibrate", "--gallery", tmp_path / "h")
    assert "has 0 pairs of one identity from two cameras and 380 of two identities" in line


def test_another_recipe_is_refused(capsys, galleries, tmp_path):
    labeled_gallery(tmp_path / "q", *people(20, 60), weights="1" * 64)
    line = refused(capsys, "calibrate", "--gallery", galleries[1], "--query", tmp_path / "q")
    assert "features of two recipes are never compared" in line
