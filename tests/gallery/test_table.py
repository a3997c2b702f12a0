"""Versions of a gallery: made, opened, committed to."""

import json
import logging
import pickle
import shutil
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, RunError
from pipeline.gallery import log, log_files, storage
from pipeline.gallery.lock import hold
from pipeline.gallery.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery, check_location, exists, lock_gallery
from pipeline.gallery.unit_files import UnitTarget
from tests.gallery.making import (
    FINGERPRINT,
    contents,
    expected,
    new_gallery,
    path_of,
    rejects_table,
    unit,
)


@pytest.fixture
def empty(tmp_path):
    return new_gallery(tmp_path / "g")


@pytest.fixture
def gallery(empty):
    """Row ids 0 to 19 in two units; 12 is a reject."""
    units = [unit(empty.target, range(10)), unit(empty.target, range(10, 20), rejected=[12])]
    return empty.commit(units, run_id="first")


def reject_paths(gallery):
    return gallery.rejects()["path"].to_pylist()


# Making and opening


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
    seen = iter([False, True])
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
    with pytest.raises(InputError, match="no such folder"):
        Gallery.open(str(tmp_path / "g"))
    assert not (tmp_path / "g").exists()
    with pytest.raises(InputError, match="not a gallery"):
        Gallery.open(str(tmp_path))


def test_a_delta_table_that_is_no_gallery(tmp_path):
    DeltaTable.create(str(tmp_path), pa.schema([pa.field("x", pa.int64())]))
    with pytest.raises(InputError, match="Delta table is not a gallery"):
        Gallery.open(str(tmp_path))


def change_property(gallery, name, value):
    table = DeltaTable(gallery.location)
    table.alter.set_table_properties({f"regallery.{name}": value}, raise_if_not_exists=False)


def test_a_newer_format(empty):
    change_property(empty, "format", "2")
    with pytest.raises(InputError, match=r"format 2 .*reads format 1 .*upgrade"):
        Gallery.open(empty.location)
    assert Gallery.open(empty.location, 0).version == 0


def test_a_newer_delta_reader(empty, monkeypatch):
    monkeypatch.setattr(log, "_READER_VERSION", 0)
    with pytest.raises(InputError, match=r"Delta reader 1.*upgrade"):
        Gallery.open(empty.location)


def log_entry(gallery, version):
    return gallery._root / "_delta_log" / f"{version:020d}.json"


def edit_entry(gallery, version, old, new):
    path = log_entry(gallery, version)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["recipe", "fingerprint", "dimension", "dtype"])
def test_a_log_that_lost_a_property(empty, name):
    edit_entry(empty, 0, f"regallery.{name}", f"regallery.{name}-lost")
    with pytest.raises(GalleryDamagedError, match=f"does not tell its {name}"):
        Gallery.open(empty.location)


def test_a_log_that_lost_the_next_row_id(empty):
    edit_entry(empty, 0, "regallery.next_row_id", "regallery.other")
    with pytest.raises(GalleryDamagedError, match="lost the gallery's next row id"):
        Gallery.open(empty.location)


def test_a_version_that_does_not_exist(gallery):
    with pytest.raises(InputError, match="version 2 does not exist: the latest is 1"):
        Gallery.open(gallery.location, 2)
    with pytest.raises(InputError, match="version -1 does not exist"):
        Gallery.open(gallery.location, -1)


@pytest.mark.parametrize("data", [b"", b'{"add":{"pa', b"\0" * 200, b'{"add":{}}\n', b"[]\n{}\n"])
def test_a_damaged_last_log_entry_is_told_by_name(gallery, data):
    log_entry(gallery, 2).write_bytes(data)
    with pytest.raises(GalleryDamagedError, match=r"00002\.json: this log entry is empty or cut"):
        Gallery.open(gallery.location)
    log_entry(gallery, 2).unlink()
    assert contents(Gallery.open(gallery.location)) == contents(gallery)


def test_a_last_log_entry_without_its_end_is_told(gallery):
    whole = log_entry(gallery, 1).read_bytes()
    log_entry(gallery, 1).write_bytes(whole.rstrip()[:-1])
    with pytest.raises(GalleryDamagedError, match=r"00001\.json: this log entry is empty or cut"):
        Gallery.open(gallery.location)


def test_entries_that_a_purge_deletes_meanwhile_do_not_disturb_a_reader(gallery, monkeypatch):
    before, glob = contents(gallery), Path.glob

    def listed_before_they_go(folder, pattern):
        found = list(glob(folder, pattern))
        if pattern == "*.json":
            patch.undo()
            log_files.forget_before(gallery._root, gallery.version)
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(log, "is_log", lambda _root: True)
        patch.setattr(Path, "glob", listed_before_they_go)
        assert contents(Gallery.open(gallery.location)) == before


def test_an_empty_entry_before_the_last_is_told_too(gallery):
    log_entry(gallery, 0).write_bytes(b"")
    with pytest.raises(GalleryDamagedError, match=r"0000\.json"):
        Gallery.open(gallery.location)


def test_a_damaged_entry_before_the_last_is_told(gallery):
    log_entry(gallery, 0).write_bytes(b"{")
    with pytest.raises(GalleryDamagedError, match="_delta_log"):
        Gallery.open(gallery.location)


def test_a_log_without_its_beginning(gallery):
    log_entry(gallery, 0).unlink()
    with pytest.raises(GalleryDamagedError, match="_delta_log"):
        Gallery.open(gallery.location)


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_checkpoint_that_a_power_cut_left_half_written_is_told_and_can_be_deleted(gallery, left):
    log_files.write_checkpoint(gallery._root, gallery.version)
    (path,) = (gallery._root / "_delta_log").glob("*.checkpoint.parquet")
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data))])
    told = r"checkpoint\.parquet: .* cut short.*delete it and _last_checkpoint beside it"
    with pytest.raises(GalleryDamagedError, match=told):
        Gallery.open(gallery.location)
    path.unlink()
    path.with_name("_last_checkpoint").unlink()
    assert contents(Gallery.open(gallery.location)) == contents(gallery)


def test_the_only_checkpoint_is_not_to_be_deleted(gallery):
    log_files.forget_before(gallery._root, gallery.version)
    (path,) = (gallery._root / "_delta_log").glob("*.checkpoint.parquet")
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(
        GalleryDamagedError, match=r"checkpoint\.parquet: .* restore it from a copy"
    ):
        Gallery.open(gallery.location)


# Reading


def test_rows_in_row_id_order(gallery):
    rows = gallery.rows()
    assert rows["row_id"].to_pylist() == [*range(12), *range(13, 20)]
    assert rows["path"].to_pylist()[12] == path_of(13)
    assert rows.schema.metadata == {
        b"location": gallery.location.encode(),
        b"version": b"1",
    }
    assert gallery.rows(["camera", "path"]).column_names == ["camera", "path"]
    assert gallery.row_ids().tolist() == rows["row_id"].to_pylist()
    assert gallery.count == 19


def test_a_column_that_is_not_there(gallery):
    for name in ("feature", "colour"):
        with pytest.raises(InputError, match=f"no column '{name}'"):
            gallery.rows(["path", name])


@pytest.mark.parametrize("how", ["gone", "cut", "shorter"])
def test_a_damaged_row_file_is_told_by_name(gallery, how):
    path = gallery._root / gallery.snapshot.files[1].path
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        shutil.copy(gallery._root / gallery.snapshot.files[0].path, path)
    with pytest.raises(GalleryDamagedError, match=path.name):
        gallery.rows()


def test_a_reading_error_of_no_file_is_told(gallery, monkeypatch):
    def fail(*_, **__):
        raise OSError("too many open files")

    monkeypatch.setattr("pipeline.gallery.table.ds.dataset", lambda *_, **__: replace_dataset(fail))
    with pytest.raises(GalleryDamagedError, match="too many open files"):
        gallery.rows()


def replace_dataset(fail):
    return type("Broken", (), {"to_table": fail})()


def test_selecting(gallery):
    assert gallery.select("camera = 'c1' and row_id > 3").tolist() == [4, 7, 10, 13, 16, 19]
    assert gallery.select("identity is null").tolist() == []
    later = gallery.commit([], run_id="x", removes=[4])
    assert 4 not in later.select("camera = 'c1'")
    assert 4 in gallery.select("camera = 'c1'")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("colour = 1", "does not work: No field named colour. Valid fields are row_id, path,"),
        ("camera =", "cannot be read to its end"),
        ("; drop table", "cannot be read to its end"),
        ("row_id", "logical boolean operation"),
        ("camera = 3", "compare text with text in quotes"),
        ("row_id > 'a'", "does not work: Cannot cast string 'a' to value of Int64"),
        ("captured_at < '2020-99-99'", "does not work: Error parsing timestamp"),
        ("sum(row_id) > 3", r"\.\.\.$"),
    ],
)
def test_a_condition_that_does_not_work(gallery, where, reason):
    with pytest.raises(InputError, match=reason):
        gallery.select(where)


@pytest.mark.parametrize(
    "rest", ["adn row_id > 4", "row_id > 4", "; x", ")", ") adn (row_id > 4", "limit 1"]
)
def test_no_end_of_a_condition_is_dropped(gallery, rest):
    with pytest.raises(InputError, match="cannot be read to its end"):
        gallery.select(f"camera = 'c1' {rest}")


def test_a_condition_opens_no_file_that_cannot_hold_its_rows(gallery):
    (gallery._root / gallery.snapshot.files[0].path).unlink()
    last = gallery.snapshot.files[-1].min_row_id
    assert gallery.select(f"row_id >= {last}").tolist() == [*range(last, gallery.next_row_id)]


def test_conditions_of_several_parts(gallery):
    assert gallery.select("camera = 'c1' -- a remark").tolist() == [1, 4, 7, 10, 13, 16, 19]
    assert gallery.select("(row_id = 3) or row_id = 5 and not camera = 'c1'").tolist() == [3, 5]


def test_history(gallery):
    later = gallery.commit([], run_id="erase 3", removes=[3, 4])
    infos = later.history()
    assert [(i.version, i.run_id, i.rows_added, i.rows_removed, i.rejects) for i in infos] == [
        (0, None, 0, 0, 0),
        (1, "first", 19, 0, 1),
        (2, "erase 3", 0, 2, 1),
    ]
    assert [i.operation for i in infos] == ["CREATE TABLE", "WRITE", "WRITE"]
    assert abs((datetime.now(UTC) - infos[2].timestamp).total_seconds()) < 600
    assert len(gallery.history()) == 2


def test_a_handle_travels(gallery):
    gallery.features()
    assert contents(pickle.loads(pickle.dumps(gallery))) == contents(gallery)


def test_readers_of_a_version_are_not_disturbed(gallery):
    before, rejects = contents(gallery), reject_paths(gallery)
    features = gallery.features()
    later = gallery.commit(
        [unit(gallery.target, range(20, 25), rejected=[21])], run_id="x", removes=[0, 13]
    )
    assert contents(gallery) == contents(Gallery.open(gallery.location, 1)) == before
    assert reject_paths(gallery) == rejects
    assert reject_paths(later) == [path_of(12), path_of(21)]
    assert (gallery.version, gallery.count, gallery.next_row_id) == (1, 19, 20)
    assert features.read(0, 19).tobytes() == gallery.features().read(0, 19).tobytes()
    assert contents(later) == expected(set(range(25)) - {0, 12, 13, 21})


# Committing


def test_a_commit_adds_rows_and_rejects(empty, gallery):
    assert contents(gallery) == expected(set(range(20)) - {12})
    assert gallery.rejects().equals(rejects_table([path_of(12)]))
    assert gallery.next_row_id == 20
    assert empty.count == 0
    assert list((gallery._root / "_units").iterdir()) == []


def test_a_unit_of_rejects_only(gallery):
    later = gallery.commit(
        [unit(gallery.target, range(20, 23), rejected=range(20, 23))], run_id="x"
    )
    assert (later.count, later.next_row_id) == (19, 23)
    assert len(reject_paths(later)) == 4
    assert later.find_units().units == ()


def test_row_ids_are_never_given_again(gallery):
    shrunk = gallery.commit([], run_id="x", removes=range(13, 20))
    assert max(shrunk.row_ids()) == 11
    assert shrunk.next_row_id == 20
    again = unit(shrunk.target, range(15, 18), unit_id="again", paths=["x", "y", "z"])
    with pytest.raises(InputError, match=r"row id 15 was given before \(the next is 20\)"):
        shrunk.commit([again], run_id="y")


def test_units_of_one_commit_do_not_share_row_ids(empty):
    units = [unit(empty.target, range(5)), unit(empty.target, range(4, 6), paths=["x", "y"])]
    with pytest.raises(InputError, match="row id 4 was given before"):
        empty.commit(units, run_id="x")


def test_a_retried_commit_is_not_applied_twice(empty, gallery):
    units = [unit(empty.target, range(10)), unit(empty.target, range(10, 20), rejected=[12])]
    assert empty.commit(units, run_id="first").version == 1
    assert gallery.commit(units, run_id="first").version == 1
    later = gallery.commit([], run_id="x", removes=[0])
    assert gallery.commit([], run_id="x", removes=[0]).version == later.version
    assert gallery.commit([], run_id="first").version == later.version


def test_a_run_id_is_for_one_commit(gallery):
    more = unit(gallery.target, range(20, 22))
    with pytest.raises(InputError, match="first was committed already, without some of these"):
        gallery.commit([more], run_id="first")


def test_a_commit_without_a_change_makes_no_version(gallery):
    assert gallery.commit([], run_id="x") is gallery
    assert gallery.commit([], run_id="x", rejects=rejects_table([path_of(12)]).slice(0)).count == 19


def test_the_same_rejects_again_change_nothing_unless_a_unit_brings_them(gallery):
    same = gallery.rejects()
    assert gallery.commit([], run_id="x", rejects=same) is gallery
    record = unit(gallery.target, range(20, 21), rejected=[20], paths=[path_of(12)])
    later = gallery.commit([record], run_id="y")
    assert (later.next_row_id, later.find_units().units) == (21, ())


def test_a_path_is_the_key(gallery):
    """New rows and rejects of a path take the place of the old ones, both ways."""
    paths = [path_of(3), path_of(12), path_of(5), "new"]
    later = gallery.commit(
        [unit(gallery.target, range(20, 24), rejected=[22], paths=paths)],
        run_id="x",
        removes=[3, 7],
    )
    found = {path: row_id for path, (row_id, _) in contents(later).items()}
    assert found == {
        **{path_of(i): i for i in range(20) if i not in (3, 5, 7, 12)},
        path_of(3): 20,
        path_of(12): 21,
        "new": 23,
    }
    assert reject_paths(later) == [path_of(5)]
    assert later.history()[-1].rows_removed == 3


def test_rejects_of_the_listing_and_forgotten_ones(gallery):
    later = gallery.commit(
        [], run_id="x", rejects=rejects_table(["odd name.jpg", path_of(1)]), forget=[path_of(12)]
    )
    assert reject_paths(later) == [path_of(1), "odd name.jpg"]
    assert later.count == 18


def test_a_path_comes_once_in_a_commit(empty):
    one = unit(empty.target, range(2), paths=["a", "b"])
    two = unit(empty.target, range(2, 4), rejected=[3], paths=["c", "a"])
    with pytest.raises(InputError, match="two of its members have the same path"):
        empty.commit([one, two], run_id="x")
    with pytest.raises(InputError, match="two of its members have the same path"):
        empty.commit([one], run_id="x", rejects=rejects_table(["a"]))
    assert Gallery.open(empty.location).version == 0


def test_rows_that_are_not_there_are_not_removed(gallery):
    with pytest.raises(InputError, match="1 of 2 rows to be removed are not in this version"):
        gallery.commit([], run_id="x", removes=[3, 12])


def test_a_file_without_rows_is_no_longer_listed(gallery):
    later = gallery.commit([], run_id="x", removes=np.arange(10))
    assert len(later.snapshot.files) == 1
    assert contents(later) == expected(set(range(10, 20)) - {12})


def test_another_recipe(gallery):
    target = replace(gallery.target, fingerprint="e" * 64)
    with pytest.raises(InputError, match=r"recipe eeee.* is not the gallery's ffff"):
        gallery.commit([unit(target, range(20, 22))], run_id="x")


def test_another_dimension(gallery):
    target = replace(gallery.target, dimension=4)
    with pytest.raises(GalleryDamagedError, match="columns are not the gallery's"):
        gallery.commit([unit(target, range(20, 22))], run_id="x")


def test_a_record_that_is_not_its_file(gallery):
    record = unit(gallery.target, range(20, 22))
    with pytest.raises(GalleryDamagedError, match="not what the record says"):
        gallery.commit([replace(record, bytes=1)], run_id="x")
    (gallery._root / record.path).unlink()
    with pytest.raises(GalleryDamagedError, match=f"{record.path}: the file is gone"):
        gallery.commit([record], run_id="x")


def test_an_old_version_is_not_committed_to(gallery):
    later = gallery.commit([], run_id="x", removes=[3])
    for attempt in (
        lambda: gallery.commit([], run_id="y", removes=[4]),
        lambda: gallery.recover(),
    ):
        with pytest.raises(RunError, match=r"version 2 came after version 1.*run the command"):
            attempt()
    assert Gallery.open(gallery.location).version == later.version


def test_a_commit_that_slips_in_is_noticed(gallery, monkeypatch):
    """By a writer that ignores the lock, between our check and our commit."""

    real = Gallery.check_latest
    with hold(gallery.location, "ours") as ours:
        monkeypatch.setattr("pipeline.gallery.table._locked", lambda *_: nullcontext(ours))

        def check_then_slip(self):
            real(self)
            monkeypatch.setattr(Gallery, "check_latest", real)
            self.commit([], run_id="other", removes=[0])

        monkeypatch.setattr(Gallery, "check_latest", check_then_slip)
        with pytest.raises(RunError, match="another commit came after version 1"):
            gallery.commit([], run_id="y", removes=[4])
    assert contents(Gallery.open(gallery.location)) == expected(set(range(1, 20)) - {12})


def test_a_commit_that_the_storage_refuses(gallery, monkeypatch):
    def fail(*_, **__):
        raise DeltaError("no space left on device\nstack of calls")

    record = unit(gallery.target, range(20, 25))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(RunError, match=r"no space left on device\); nothing was committed") as told:
        gallery.commit([record], run_id="x")
    assert "stack of calls" not in str(told.value)
    monkeypatch.undo()
    assert gallery.find_units().units == (record,)


def test_the_lock_is_needed(gallery):
    with hold(gallery.location, "extract of camera 7") as lock:
        for attempt in (
            lambda: gallery.commit([], run_id="x", removes=[3]),
            lambda: gallery.recover(),
            lambda: gallery.clear(gallery.find_units()),
        ):
            with pytest.raises(InputError, match="changed by 'extract of camera 7'"):
                attempt()
        assert gallery.commit([], run_id="x", removes=[3], lock=lock).version == 2


def test_the_lock_of_another_gallery(gallery, tmp_path):
    with (
        hold(str(tmp_path / "other"), "x") as lock,
        pytest.raises(InputError, match="the lock is that of"),
    ):
        gallery.commit([], run_id="x", removes=[3], lock=lock)


def test_a_lock_that_is_lost_before_the_commit(gallery, monkeypatch):
    with hold(gallery.location, "x") as lock:

        def lose(_):
            (gallery._root / "_lock").write_text("")

        monkeypatch.setattr(storage, "sync_folder", lose)
        with pytest.raises(RunError, match="the lock was lost to nobody"):
            gallery.commit([], run_id="x", removes=[3], lock=lock)
    assert Gallery.open(gallery.location).version == 1


@pytest.mark.parametrize("removes", [np.array([1.5]), ["a"], np.array(["3"])])
def test_removes_are_row_ids(gallery, removes):
    with pytest.raises((TypeError, ValueError)):
        gallery.commit([], run_id="x", removes=removes)


def test_a_checkpoint_every_so_often(empty, monkeypatch):
    monkeypatch.setattr(log, "CHECKPOINT_INTERVAL", 3)
    gallery = empty
    for number in range(7):
        record = unit(gallery.target, range(2 * number, 2 * number + 2))
        gallery = gallery.commit([record], run_id=f"run {number}")
    checkpoints = sorted((gallery._root / "_delta_log").glob("*.checkpoint.parquet"))
    assert [int(path.name.partition(".")[0]) for path in checkpoints] == [3, 6]
    assert contents(Gallery.open(gallery.location)) == expected(range(14))
    assert gallery.commit([], run_id="run 2").version == 7
    assert [info.rows_added for info in gallery.history()] == [0, *[2] * 7]


def test_a_checkpoint_that_fails_is_told_and_the_version_stays(empty, monkeypatch, caplog):
    monkeypatch.setattr(log, "CHECKPOINT_INTERVAL", 1)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(log, "write_checkpoint", fail)
    with caplog.at_level(logging.WARNING):
        gallery = empty.commit([unit(empty.target, range(3))], run_id="x")
    assert "no new checkpoint (no space left on device)" in caplog.text
    assert contents(gallery) == expected(range(3))


# Recovering


def test_finished_units_are_committed_by_the_next_run(gallery, caplog):
    good = unit(gallery.target, range(20, 25), rejected=[21])
    bad = unit(gallery.target, range(25, 30))
    path = gallery._root / bad.path
    path.write_bytes(path.read_bytes()[:-20])
    half = gallery._root / "_units" / ".half.tmp"
    half.write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        later, found = gallery.recover()
    assert found.units == (good,)
    assert bad.path in caplog.text
    assert "done again" in caplog.text
    assert not path.exists()
    assert list((gallery._root / "_units").iterdir()) == []
    assert contents(later) == expected(set(range(25)) - {12, 21})
    assert reject_paths(later) == [path_of(12), path_of(21)]
    again, found = later.recover()
    assert again is later
    assert found.units == found.damaged == found.orphans == ()


def test_recovered_units_replace_older_rows(gallery):
    unit(gallery.target, range(20, 22), paths=[path_of(3), path_of(12)])
    later, _ = gallery.recover()
    assert contents(later).keys() == {path_of(i) for i in range(20)}
    assert reject_paths(later) == []


def test_a_run_with_the_same_plan_takes_the_found_units(gallery):
    plan = [range(20, 30), range(30, 40), range(40, 50)]
    unit(gallery.target, plan[0])
    unit(gallery.target, plan[2])
    found = {record.first_row_id: record for record in gallery.find_units().units}
    assert sorted(found) == [20, 40]
    units = [found.get(ids.start) or unit(gallery.target, ids) for ids in plan]
    assert contents(gallery.commit(units, run_id="x")) == expected(set(range(50)) - {12})


def test_removed_rows_do_not_come_back(gallery):
    """The file of a removed row is still there, for readers of the older version."""
    later = gallery.commit([], run_id="erase", removes=[3])
    recovered, found = later.recover()
    assert found.units == ()
    assert recovered is later
    assert contents(gallery) == expected(set(range(20)) - {12})


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_series_of_commits_is_what_a_dictionary_would_be(tmp_path_factory, data):
    """Rows by path and rejects by path against a plain model, through every version."""
    gallery = new_gallery(tmp_path_factory.mktemp("g") / "g", dimension=2)
    rows, bad, versions = {}, set(), []
    for step in range(data.draw(st.integers(1, 4))):
        names = data.draw(st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=6))
        cuts = sorted({0, len(names), *data.draw(st.lists(st.integers(0, len(names)), max_size=2))})
        rejected = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
        units, start = [], gallery.next_row_id
        for low, high in pairwise(cuts):
            ids = range(start + low, start + high)
            wrong = [row_id for row_id in ids if names[row_id - start] in rejected]
            units.append(unit(gallery.target, ids, wrong, paths=names[low:high]))
        fresh = {names[row_id - start]: row_id for row_id in range(start, start + len(names))}
        removable = sorted(rows.values())
        removes = data.draw(st.lists(st.sampled_from(removable), unique=True)) if rows else []
        forget = data.draw(st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=2))
        shuffled = data.draw(st.permutations(units))
        gallery = gallery.commit(shuffled, run_id=f"{step}", removes=removes, forget=forget)

        rows = {path: i for path, i in rows.items() if i not in removes and path not in fresh}
        rows.update({path: i for path, i in fresh.items() if path not in rejected})
        bad = (bad - set(forget) - set(fresh)) | rejected
        versions.append((gallery, dict(rows), set(bad)))
    for version, model, model_bad in versions:
        reopened = Gallery.open(version.location, version.version)
        assert {path: row_id for path, (row_id, _) in contents(reopened).items()} == model
        assert set(reject_paths(reopened)) == model_bad
        assert reopened.row_ids().tolist() == sorted(model.values())
