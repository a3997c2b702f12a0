"""What a listing tells of its labels."""

import pytest

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.source import list_source
from pipeline.errors import InputError
from tests.archive.listing.test_tars import save_tar
from tests.archive.sources import fill

FOLDERS = "{identity}/{any}.jpg"


def test_identities_and_cameras_are_counted_with_the_first_few_and_an_example(tmp_path):
    fill(tmp_path, *(f"c{n}/{person}/x.jpg" for n in (10, 2) for person in (7, 0, -1, "unk")))
    found = list_source(str(tmp_path), "image-folder").found
    assert (found.identities, found.first_identities) == (1, (7,))
    assert (found.cameras, found.first_cameras) == (2, ("2", "10"))
    assert (found.junk, found.distractors, found.unknown) == (2, 2, 2)
    labels = (found.example, found.example_identity, found.example_camera)
    assert labels == ("c10/-1/x.jpg", -1, "10")


def test_the_first_five_stand_for_all(tmp_path):
    fill(tmp_path, *(f"{n}/x.jpg" for n in range(1, 21)))
    found = list_source(str(tmp_path), "image-folder").found
    assert (found.identities, found.first_identities) == (20, (1, 2, 3, 4, 5))
    assert found.cameras == 0


def test_a_source_without_labels_has_none(tmp_path):
    fill(tmp_path, "a.jpg")
    assert list_source(str(tmp_path)).found is None


def test_folders_of_splits_and_cameras_that_are_read_as_labels_are_named(tmp_path, caplog):
    fill(tmp_path, "query/1.jpg", "cam_a/2.jpg", "alice/3.jpg")
    list_source(str(tmp_path), "image-folder")
    assert "folders called cam_a, query are read as labels by layout image-folder" in caplog.text
    caplog.clear()
    fill(tmp_path / "ok", "north/0007/1.jpg", "south/0007/1.jpg", "south/alice/1.jpg")
    list_source(str(tmp_path / "ok"), "image-folder")
    assert caplog.text == ""


def test_a_dataset_is_not_warned_of(tmp_path, caplog):
    fill(tmp_path, "query/0000_c1s1_000451_03.jpg", "query/0001_c1s1_000451_03.jpg")
    list_source(str(tmp_path), "market1501")
    assert caplog.text == ""


@pytest.mark.parametrize("first", [1, 0])
def test_people_that_are_counted_from_0_are_reported(tmp_path, caplog, first):
    fill(tmp_path, "0/a.jpg", "0/b.jpg", "1/a.jpg", "2/a.jpg")
    listing = list_source(str(tmp_path), FOLDERS, LabelSettings(first_identity=first))
    told = "2 images of identity 0 are distractors, which match nobody"
    assert (told in caplog.text) == (first == 1)
    assert listing.found.distractors == (2 if first else 0)
    assert listing.found.identities == (2 if first else 3)


def test_folders_that_look_like_numbers_are_named(tmp_path, caplog):
    fill(tmp_path, "1,5/a.jpg", "7./a.jpg", "00-1/a.jpg", "\uff17/b.jpg")
    listing = list_source(str(tmp_path), FOLDERS)
    assert sorted(listing.images["identity"].to_pylist())[:3] == [-1, 7, 7]
    assert "1 identities look like numbers" in caplog.text
    assert "for a name: 1,5" in caplog.text


@pytest.mark.parametrize("settings", [{"columns": ("identity=a",)}, {"only": ("split=a",)}])
def test_settings_of_manifests_are_refused_for_folders(tmp_path, settings):
    fill(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=r"is for manifests, and .* is none"):
        list_source(str(tmp_path), settings=LabelSettings(**settings))


def test_labels_that_a_layout_tells_are_compared_with_a_gallery(tmp_path):
    fill(tmp_path, "7/a.jpg")
    assert list_source(str(tmp_path)).label_names == ()
    told = ("identity", "camera", "captured_at")
    assert list_source(str(tmp_path), "image-folder").label_names == told
    (tmp_path / "m.csv").write_text("path,frame\n7/a.jpg,3\n")
    assert list_source(str(tmp_path / "m.csv"), FOLDERS).label_names == (*told, "frame")
    assert list_source(str(tmp_path / "m.csv")).label_names == ("frame",)


def test_the_name_of_a_tar_that_is_the_source_is_no_label(tmp_path, caplog):
    members = [(f"{person}/x.jpg", b"x") for person in (7, 8)]
    listing = list_source(str(save_tar(tmp_path / "train.tar", members)), "image-folder")
    assert (listing.found.identities, listing.found.cameras) == (2, 0)
    assert caplog.text == ""
    list_source(str(tmp_path), "image-folder")
    assert "folders called train are read as labels" in caplog.text
