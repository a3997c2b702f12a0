"""Commits: units and rejects in, rows out, one version each."""

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, RunError
from pipeline.gallery.files import objects, storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import read_unit
from pipeline.gallery.log import changes
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from tests.gallery.making import (
    contents,
    expected,
    new_gallery,
    path_of,
    reject_paths,
    rejects_table,
    unit,
)


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
    with pytest.raises(RunError, match=r"version 2 came after version 1.*run the command"):
        gallery.commit([], run_id="y", removes=[4])
    assert Gallery.open(gallery.location).version == later.version


def test_a_commit_that_slips_in_is_noticed(gallery, monkeypatch):
    """By a writer that ignores the lock, between our check and our commit."""

    real = Gallery.check_latest
    with hold(gallery.location, "ours") as ours:
        monkeypatch.setattr("pipeline.gallery.opening.lock_gallery", lambda *_: nullcontext(ours))

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


@pytest.fixture(params=["disk", "s3"])
def started(request, tmp_path):
    """A gallery of rows 0 to 5, with rows 6 to 19 in units that are written and not committed."""
    where = tmp_path / "g" if request.param == "disk" else request.getfixturevalue("bucket")
    made = new_gallery(where)
    made = made.commit([unit(made.target, range(6), rejected=[2])], run_id="first")
    runs = (range(6, 10), range(10, 15), range(15, 20))
    bad = {7, *range(15, 20)}
    return made, [unit(made.target, ids, rejected=bad & set(ids)) for ids in runs]


def members(ids):
    return pa.chunked_array([[path_of(each) for each in ids]])


def test_paths_that_the_caller_knows_make_the_same_version(started, monkeypatch):
    made, units = started
    monkeypatch.setattr(objects, "_PAGE", 2)
    if isinstance(made._root, objects.ObjectPlace):  # one listing says that the files are there
        monkeypatch.setattr(changes, "read_unit", lambda root, name, *_a, **_k: read(root, name))

    def read(root, name):
        assert name.startswith("_units/000000000015")  # a unit of rejects only
        return read_unit(root, name, made.target)

    old = rejects_table([path_of(21), path_of(2)])
    later = made.commit(units, run_id="x", paths=members([*range(19, 5, -1)]), rejects=old)
    assert contents(later) == expected({*range(15)} - {2, 7})
    assert reject_paths(later) == sorted(map(path_of, [2, 7, *range(15, 20), 21]))


def test_a_file_is_what_its_record_says_where_paths_are_known(started):
    made, units = started
    path = made._root / units[1].path
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    with pytest.raises(GalleryDamagedError):
        made.commit(units, run_id="x", paths=members(range(6, 20)))
    path.unlink()
    with pytest.raises(GalleryDamagedError, match="the file is gone"):
        made.commit(units, run_id="x", paths=members(range(6, 20)))


def test_paths_are_those_of_all_members(started):
    made, units = started
    with pytest.raises(InputError, match="13 paths for the 14 members"):
        made.commit(units, run_id="x", paths=members(range(6, 19)))
    with pytest.raises(InputError, match="two of its members have the same path"):
        made.commit(units, run_id="x", paths=members([6, *range(6, 19)]))
    with pytest.raises(InputError, match="two of its members have the same path"):
        listed = rejects_table([path_of(9)])
        made.commit(units, run_id="x", paths=members(range(6, 20)), rejects=listed)


@pytest.mark.parametrize("removes", [np.array([1.5]), ["a"], np.array(["3"])])
def test_removes_are_row_ids(gallery, removes):
    with pytest.raises((TypeError, ValueError)):
        gallery.commit([], run_id="x", removes=removes)


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
