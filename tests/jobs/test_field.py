"""Situations that people reported of other tools: each folder with its right result."""

import json
import re
import runpy

import pytest

from pipeline.archive.layouts.named import layout
from pipeline.gallery.table import Gallery
from tests.conftest import SHARED
from tests.jobs.running import refused, result, run
from tests.stages.making import save_network

FIELD = SHARED / "field"

pytestmark = pytest.mark.skipif(not FIELD.exists(), reason=f"needs {FIELD}")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("network")).path


@pytest.fixture
def extract(capsys, network, tmp_path):
    """Extract a source into a gallery of that name; gives its folder and what was told."""

    def made(source, name, *flags):
        place = tmp_path / name
        arguments = ("--gallery", place, "--model", network, "--height", 32, "--width", 16)
        return place, result(capsys, "extract", source, *arguments, "--actors", 0, *flags)

    return made


def evaluate(capsys, query, gallery, out, *flags):
    places = ("--query", query, "--gallery", gallery, "--out", out)
    report = result(capsys, "evaluate", *places, "--no-open-set", "--replicates", 0, *flags)
    return report["report"]["results"][0]


def figures(found):
    return found["valid"], found["mAP"], found["rank"]


def rows(place, *names):
    return Gallery.open(str(place)).rows(list(names)).to_pylist()


MADE = {  # what a folder of 03 holds, and the layout that is right for it
    "ltcc": "ltcc", "prcc": "prcc", "celeb": "celeb-reid", "viper": "viper", "grid": "grid",
    "mars": "mars", "dukevid": "dukemtmc-videoreid", "dukevid_old": "dukemtmc-videoreid",
    "agreid": "ag-reid", "sysu": "sysu-mm01", "regdb": "regdb", "occreid": "occluded-reid",
    "vric": "vric", "prid": "prid", "entireid": "entire-id", "cuhk03raw": "cuhk03-images",
    "p_duke": "p-dukemtmc",
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory, pedestrians):
    """The folders of many data sets as they are published, with a few images each."""
    folder = tmp_path_factory.mktemp("field")
    (folder / "in").mkdir()
    (folder / "shared").symlink_to(SHARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "in")
        runpy.run_path(str(FIELD / "03-advised-image-folder" / "make.py"))
    return folder / "in" / "lay"


@pytest.mark.parametrize(("folder", "name"), MADE.items())
def test_03_data_sets_are_read_by_their_names(extract, published, tmp_path, folder, name):
    place, told = extract(published / folder, "g", "--layout", name)
    assert told["rejects"] == {}
    labels = rows(place, "path", "identity")
    known = layout(name, str(published / folder))
    assert all(row["identity"] == known.parse(row["path"]).identity for row in labels)
    assert all(-2 < row["identity"] < 2_000_000 for row in labels)  # no name was hashed


@pytest.mark.parametrize("folder", ["ltcc", "celeb", "viper", "grid", "mars", "cuhk03raw"])
def test_03_a_layout_that_fits_by_depth_alone_is_not_recommended(
    capsys, published, network, tmp_path, folder
):
    arguments = ("--gallery", tmp_path / "g", "--model", network, "--layout", "market1501")
    line = refused(capsys, "extract", published / folder, *arguments)
    assert "image-folder" not in line
    assert MADE[folder] in line


def test_03_labels_by_depth_are_shown_and_names_of_splits_are_told(
    capsys, published, network, tmp_path
):
    arguments = ("--gallery", tmp_path / "g", "--model", network, "--height", 32, "--width", 16)
    flags = ("--layout", "image-folder", "--actors", 0, "--dry-run")
    status, out, err = run(capsys, "extract", published / "ltcc", *arguments, *flags)
    assert status == 0
    assert "labels: 2 identities (" in out
    assert "query/000_1_c11_015833.png is identity " in out
    assert "folders called query, test are read as labels" in " ".join(err.split())


def test_places_and_clothes_say_what_a_match_is(capsys, extract, published, tmp_path):
    place, _ = extract(published / "ltcc", "g", "--layout", "ltcc")
    valid = {
        flags: evaluate(capsys, place, place, tmp_path / "r", *flags)["valid"]
        for flags in ((), ("--clothes-changed",), ("--clothes-changed", "--same-place", "1,5"))
    }
    assert list(valid.values()) == [4, 4, 2]  # the second person was seen at one place alone
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["settings"] | {"same_place": "1,5", "clothes_changed": True} == report["settings"]
    assert "--clothes-changed" in report["command"]
    assert "--same-place=1,5" in report["command"]


def test_04_float_cameras_are_the_cameras_that_they_are(capsys, extract, pedestrians, tmp_path):
    folder = FIELD / "04-float-camera"
    gallery, _ = extract(pedestrians / "bounding_box_test", "t", "--layout", "market1501")
    found = []
    for name in ("q_float", "q_int"):
        query, told = extract(folder / f"{name}.csv", name)
        assert told["labels"]["first_cameras"] == ["1", "2", "3"]
        found.append(figures(evaluate(capsys, query, gallery, tmp_path / "r")))
    assert found[0] == found[1]


def test_06_unknown_animals_are_nobody(capsys, extract, tmp_path):
    place, told = extract(FIELD / "06-unknown-identity" / "unk.csv", "g")
    assert [row["identity"] is None for row in rows(place, "identity")].count(True) == 2
    assert (told["labels"]["identities"], told["labels"]["unknown"]) == (1, 2)
    arguments = ("--query", place, "--gallery", place, "--out", tmp_path / "r")
    assert "no query has a match" in refused(capsys, "evaluate", *arguments)


def test_07_the_junk_of_mars_is_junk(extract):
    template = "{identity}C{camera}T{any}F{frame}.jpg"
    for number, name in enumerate((template, "mars")):
        place, told = extract(FIELD / "07-mars-junk", f"g{number}", "--layout", name)
        found = {row["path"]: row["identity"] for row in rows(place, "path", "identity")}
        assert found["bbox_test/00-1/00-1C1T0003F045.jpg"] == -1
        assert sorted(found.values()) == [-1, 0, 2, 2]
        assert (told["labels"]["junk"], told["labels"]["distractors"]) == (1, 1)


def test_08_people_that_are_counted_from_0_are_people(capsys, extract, tmp_path):
    folder = FIELD / "08-zero-based-identities"
    found = {}
    for name, flags in (("one", ()), ("zero", ("--first-identity", 0))):
        query, told = extract(folder / f"{name}_q.csv", f"{name}q", *flags)
        gallery, _ = extract(folder / f"{name}_g.csv", f"{name}g", *flags)
        assert (told["labels"]["identities"], told["labels"]["distractors"]) == (10, 0)
        found[name] = figures(evaluate(capsys, query, gallery, tmp_path / "r"))
    assert found["zero"] == found["one"]
    assert found["one"][0] == 63


def test_08_as_they_are_they_are_reported(extract, caplog):
    extract(FIELD / "08-zero-based-identities" / "zero_q.csv", "g")
    assert re.search(r"7 images of identity 0 are distractors.*`first_identity` 0", caplog.text)


def test_13_every_image_is_a_row_or_a_reject(extract):
    place, told = extract(FIELD / "13-skipped-images", "g")
    assert {row["path"] for row in rows(place, "path")} == {"base.jpg", "x.avif", "stereo.mpo"}
    assert told["rejects"] == {"unsupported": 1}
    assert told["skipped"] == {".md": 1}
    (reject,) = Gallery.open(str(place)).rejects().to_pylist()
    assert reject["path"] == "IMG_0042.HEIC"
    assert "convert it to JPEG or PNG" in reject["detail"]


def test_14_an_address_of_the_environment_is_named(
    capsys, network, pedestrians, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    arguments = ("--gallery", tmp_path / "g", "--model", network, "--actors", 1)
    line = refused(capsys, "extract", pedestrians / "query", *arguments)
    assert "comes from the environment variable RAY_ADDRESS: unset it" in line


def test_15_a_manifest_whose_labels_are_called_otherwise(
    extract, network, tmp_path, capsys, caplog
):
    images = FIELD / "06-unknown-identity" / "images"
    for name in ("oml.csv", "metadata.csv", "cased.csv"):
        (tmp_path / name).write_bytes((FIELD / "15-manifest-columns" / name).read_bytes())
    (tmp_path / "images").symlink_to(images)
    extract(tmp_path / "oml.csv", "plain")
    assert "has no identity; its column label may be meant" in caplog.text
    flags = ("--columns", "identity=label", "--only", "split=validation", "is_query=true")
    place, _ = extract(tmp_path / "oml.csv", "named", *flags)
    assert rows(place, "identity") == [{"identity": 5}]
    place, _ = extract(tmp_path / "metadata.csv", "dated", "--columns", "captured_at=date")
    times = [row["captured_at"] for row in rows(place, "captured_at")]
    assert [when and when.year for when in times] == [None, 2018, None]
    assert "1 times in date cannot be read and are unknown: 2018" in caplog.text
    arguments = ("--gallery", tmp_path / "cased", "--model", network, "--actors", 0)
    line = refused(capsys, "extract", tmp_path / "cased.csv", *arguments)
    assert "its column Path may be meant: give --columns path=Path" in line
    flags = ("--columns", "path=Path", "identity=Identity", "camera=Camera")
    place, _ = extract(tmp_path / "cased.csv", "cased", *flags)
    assert rows(place, "identity", "camera") == [{"identity": 7, "camera": "1"}]


def test_16_thermal_counts_are_told_and_can_be_stretched(extract, caplog):
    folder = FIELD / "16-thermal-16-bit"
    _, _ = extract(folder / "eight", "eight", "--layout", "market1501")
    assert "hardly differ" not in caplog.text
    as_they_are, _ = extract(folder / "crops", "thermal", "--layout", "market1501")
    assert "7 of 7 images use less than 5 % of the range of levels" in caplog.text
    assert "counts from 7000 to 7600: `stretch` LOW HIGH" in caplog.text
    caplog.clear()
    flags = ("--layout", "market1501", "--stretch", 7000, 7600)
    stretched, _ = extract(folder / "crops", "stretched", *flags)
    assert "hardly differ" not in caplog.text
    recipes = [Gallery.open(str(place)).recipe_json for place in (as_they_are, stretched)]
    assert "stretch" not in recipes[0]
    assert '"stretch":[7000.0,7600.0]' in recipes[1]


def test_16_what_the_camera_saw_is_found_again_by_a_real_network(
    capsys, tmp_path, osnet, monkeypatch
):
    """Cosines of the seven people to the first: near 1 as they are, and apart when stretched."""
    folder = FIELD / "16-thermal-16-bit"
    least = {}
    for name, flags in (("gray", ()), ("stretched", ("--stretch", 7000, 7600))):
        arguments = ("--gallery", tmp_path / name, "--model", osnet, "--layout", "market1501")
        result(capsys, "extract", folder / "crops", *arguments, "--actors", 0, *flags)
        features = Gallery.open(str(tmp_path / name)).features().read(0, 7)
        least[name] = float((features[1:] @ features[0]).max())
    assert least["gray"] > 0.95
    assert least["stretched"] < 0.75
