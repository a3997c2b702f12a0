import json

import pytest

from pipeline.gallery import checksums
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.calibrations import read_calibration, write_calibration
from pipeline.gallery.table import Gallery
from tests.gallery.making import contents, expected, new_gallery, unit


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    return gallery.commit([unit(gallery.target, range(4))], run_id="a")


def test_none_is_there_at_first(gallery):
    assert read_calibration(gallery) is None


def test_what_is_written_is_read(gallery):
    path = write_calibration(gallery, {"threshold": 0.5, "rule": "far"})
    found = read_calibration(gallery)
    assert (found["threshold"], found["rule"], found["version"]) == (0.5, "far", 1)
    assert found["fingerprint"] == gallery.fingerprint
    write_calibration(gallery, {"threshold": 0.25})
    assert read_calibration(gallery)["threshold"] == 0.25
    assert [each.name for each in path.parent.iterdir()] == ["000000000001.json"]


def test_versions_have_their_own(gallery):
    later = gallery.commit([unit(gallery.target, range(4, 8))], run_id="b")
    last = later.commit([unit(gallery.target, range(8, 12))], run_id="c")
    write_calibration(last, {"threshold": 0.75})
    assert read_calibration(gallery) is None
    write_calibration(gallery, {"threshold": 0.5})
    assert [read_calibration(each)["threshold"] for each in (gallery, later, last)] == [
        0.5, 0.5, 0.75,
    ]  # fmt: skip


def test_the_table_does_not_see_it(gallery):
    write_calibration(gallery, {"threshold": 0.5})
    again = Gallery.open(gallery.location)
    assert (again.version, contents(again)) == (1, expected(range(4)))


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "{",
        lambda about: "[]",
        lambda about: json.dumps(about | {"threshold": None}),
        lambda about: json.dumps(about | {"fingerprint": "another"}),
        lambda about: json.dumps(about | {"version": 2}),
        lambda about: json.dumps(about | {"regallery_calibration": 2}),
        lambda about: json.dumps({"threshold": 0.5}),
    ],
)
def test_damage_is_told_by_name(gallery, change):
    path = write_calibration(gallery, {"threshold": 0.5})
    text = change(json.loads(path.read_text()))
    checksums.write_recorded(path, lambda temporary: temporary.write_text(text))
    with pytest.raises(GalleryDamagedError, match=r"000000000001\.json: .* calibrate again"):
        read_calibration(gallery)


def test_a_threshold_that_was_changed_or_deleted_is_not_used(gallery):
    later = gallery.commit([unit(gallery.target, range(4, 8))], run_id="b")
    write_calibration(gallery, {"threshold": 0.5})
    path = write_calibration(later, {"threshold": 0.9})
    path.write_text(path.read_text().replace("0.9", "0.1"))
    with pytest.raises(GalleryDamagedError, match=r"0002\.json: its bytes are not .* calibrate"):
        read_calibration(later)
    path.unlink()
    with pytest.raises(GalleryDamagedError, match=r"0002\.json: the file is gone.* calibrate"):
        read_calibration(later)
    assert write_calibration(later, {"threshold": 0.8}) == path
    assert read_calibration(later)["threshold"] == 0.8
