"""Galleries made and opened."""

import json

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.errors import InputError
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.lock import hold
from pipeline.gallery.opening import check_location, exists, lock_gallery
from pipeline.gallery.table import Gallery
from tests.gallery.making import (
    FINGERPRINT,
    contents,
    expected,
    new_gallery,
    path_of,
    reject_paths,
    unit,
)


def test_a_new_gallery(empty):
    assert (empty.version, empty.count, empty.next_row_id) == (0, 0, 0)
    assert (empty.dimension, empty.dtype, empty.fingerprint) == (8, "float32", FINGERPRINT)
    assert empty.recipe_json == '{"height": 256}'
    assert empty.properties["source"] == "/archive"
    assert empty.properties["layout"] == "market1501"
    assert empty.rows().num_rows == 0
    assert empty.features().read(0, 0).shape == (0, 8)
    assert reject_paths(empty) == []
    assert empty.target == UnitTarget(empty.location, FINGERPRINT, 8, "float32")


@pytest.mark.parametrize("name", ["a b", "50% off", "a#b?c=d", "ü-人", "a=1", "[x]*"])
def test_any_name_of_a_folder(tmp_path, name):
    gallery = new_gallery(tmp_path / name)
    gallery = gallery.commit([unit(gallery.target, range(4), rejected=[2])], run_id="x")
    gallery = gallery.commit([], run_id="y", removes=[1])
    assert contents(Gallery.open(str(tmp_path / name))) == expected([0, 3])
    assert gallery.select("camera = 'c0'").tolist() == [0, 3]
    assert reject_paths(gallery) == [path_of(2)]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_deltalake_would_decode(tmp_path):
    with pytest.raises(InputError, match="% with two digits"):
        new_gallery(tmp_path / "50%20off")
    with pytest.raises(InputError, match="% with two digits"):
        Gallery.open(str(tmp_path / "50%20off"))
    assert list(tmp_path.iterdir()) == []


def test_a_relative_location_holds_wherever_it_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Gallery.create(
        "g", recipe_json="", fingerprint=FINGERPRINT, dimension=8, source="", layout=""
    )
    monkeypatch.chdir("/")
    made = made.commit([unit(made.target, range(3))], run_id="x")
    assert made.location == str(tmp_path / "g")
    assert contents(made) == expected(range(3))


def test_a_derived_gallery_names_where_it_came_from(tmp_path):
    derived = {"gallery": "/g", "version": 3, "mode": "database", "k": 10, "alpha": 3.0}
    made = Gallery.create(
        str(tmp_path / "g"),
        recipe_json="{}",
        fingerprint="a",
        dimension=4,
        source="",
        layout="",
        derived=derived,
    )
    assert json.loads(made.properties["derived"]) == derived


def test_exists(tmp_path, empty):
    assert exists(empty.location)
    assert not exists(str(tmp_path / "h"))


def test_a_gallery_is_made_once(empty):
    with pytest.raises(InputError, match="there is a gallery already"):
        new_gallery(empty.location)


def test_two_processes_that_make_the_same_gallery(tmp_path, monkeypatch):
    """The second one sees the first one's table only when it has the lock."""
    seen = iter([False, False, False, True])
    monkeypatch.setattr(log, "is_log", lambda _: next(seen))
    with pytest.raises(InputError, match="there is a gallery already"):
        new_gallery(tmp_path / "g")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_text("x")
    for refused in (
        lambda: new_gallery(tmp_path),
        lambda: check_location(str(tmp_path)),
        lambda: lock_gallery(str(tmp_path), "extract"),
    ):
        with pytest.raises(InputError, match=r"other files \(photo\.jpg\)"):
            refused()
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_file_is_no_place_for_a_gallery(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="this is a file"):
        new_gallery(tmp_path / "f")


def test_a_half_made_gallery_can_be_made(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    with hold(str(tmp_path), "extract") as lock:
        assert (
            Gallery.create(
                str(tmp_path),
                recipe_json="",
                fingerprint="",
                dimension=4,
                source="",
                layout="",
                lock=lock,
            ).version
            == 0
        )


def test_a_form_that_cannot_be_kept_makes_nothing(tmp_path):
    with pytest.raises(InputError, match="float8"):
        new_gallery(tmp_path / "g", dtype="float8")
    assert not (tmp_path / "g").exists()


def test_no_gallery(tmp_path):
    with pytest.raises(InputError, match="the folder does not exist"):
        Gallery.open(str(tmp_path / "g"))
    assert not (tmp_path / "g").exists()
    with pytest.raises(InputError, match="not a gallery"):
        Gallery.open(str(tmp_path))


def test_a_delta_table_that_is_no_gallery(tmp_path):
    DeltaTable.create(str(tmp_path), pa.schema([pa.field("x", pa.int64())]))
    with pytest.raises(InputError, match="Delta table is not a gallery"):
        Gallery.open(str(tmp_path))


def test_a_version_that_does_not_exist(gallery):
    with pytest.raises(InputError, match="version 2 does not exist: the latest is 1"):
        Gallery.open(gallery.location, 2)
    with pytest.raises(InputError, match="version -1 does not exist"):
        Gallery.open(gallery.location, -1)


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a\\b", "a\x7f", "a\udcff"])
def test_a_name_that_deltalake_cannot_have(tmp_path, name):
    with pytest.raises(InputError, match="holds a control character, a backslash"):
        new_gallery(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
