"""Compaction: the same rows in fewer files, by camera."""

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import compact as compaction
from pipeline.gallery.upkeep.compact import compact, plan_files
from tests.gallery.making import contents, new_gallery, unit

ROW = 32  # bytes of a feature here


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(compaction, "LEAST_BYTES", 1)


@pytest.fixture
def gallery(tmp_path):
    """Ids 0 to 59 in six units, less 3; row i is of camera i % 3."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(s, s + 10), rejected=[3]) for s in range(0, 60, 10)]
    return gallery.commit(units, run_id="first")


def cameras_by_file(gallery):
    uris = DeltaTable(gallery.location).file_uris
    return {c: len(uris(file_pruning_predicate=f"camera = '{c}'")) for c in ("c0", "c1", "c2")}


def test_a_camera_is_in_its_own_files(gallery):
    assert cameras_by_file(gallery) == {"c0": 6, "c1": 6, "c2": 6}
    before, rows, rejects = contents(gallery), gallery.rows(), gallery.rejects()
    after = compact(gallery, 10 * ROW)
    assert (after.version, len(after.snapshot.files)) == (2, 6)
    assert cameras_by_file(after) == {"c0": 2, "c1": 2, "c2": 2}
    assert contents(after) == before
    assert after.rows().equals(rows)
    assert after.rejects().equals(rejects)
    assert after.next_row_id == gallery.next_row_id
    assert contents(gallery) == contents(Gallery.open(gallery.location, 1)) == before
    assert after.history()[-1].reject_count == 1
    assert after.history()[-1].rows_added == 0


def test_a_second_compaction_changes_nothing(gallery):
    after = compact(gallery, 10 * ROW)
    assert compact(after, 10 * ROW) is after


def test_small_cameras_share_a_file(gallery):
    after = compact(gallery, 1000 * ROW)
    assert len(after.snapshot.files) == 1
    assert compact(after, 1000 * ROW) is after


def test_only_what_is_new_is_written_again(gallery):
    after = compact(gallery, 20 * ROW)
    assert len(after.snapshot.files) == 3
    added = after.commit([unit(after.target, range(60, 75))], run_id="more")
    again = compact(added, 20 * ROW)
    assert {f.path for f in after.snapshot.files} < {f.path for f in again.snapshot.files}
    assert len(again.snapshot.files) == 4
    assert contents(again) == contents(added)


def test_a_commit_on_compacted_files(gallery):
    after = compact(gallery, 10 * ROW).commit([], run_id="x", removes=[0, 4, 5, 59])
    assert after.row_ids().tolist() == [i for i in range(60) if i not in (0, 3, 4, 5, 59)]
    assert contents(compact(after, 10 * ROW)) == contents(after)


def test_stored_bytes_stay_as_they_are(tmp_path):
    """float16 is renormalized when read: written back so, it would move."""
    gallery = new_gallery(tmp_path / "g", dtype="float16")
    units = [unit(gallery.target, range(s, s + 10)) for s in range(0, 30, 10)]
    gallery = gallery.commit(units, run_id="first")
    positions = np.arange(30)
    before = gallery.features().stored(positions)
    assert before.dtype == np.float16
    after = compact(gallery, 5 * ROW)
    assert len(after.snapshot.files) == 3
    assert after.features().stored(positions).tobytes() == before.tobytes()


def test_an_empty_gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    assert compact(gallery, 10 * ROW) is gallery


def test_files_too_small(gallery, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(InputError, match="files of 1000 bytes are too small"):
        compact(gallery, 1000)


def test_the_lock(gallery):
    with hold(gallery.location, "x") as lock:
        with pytest.raises(InputError, match="changed by 'x'"):
            compact(gallery, 10 * ROW)
        assert compact(gallery, 10 * ROW, lock).version == 2


def test_cameras_come_by_name_and_unknown_ones_last():
    names = [None, "b", "a" * 50, None, "b", "c"]
    assert compaction._codes(pa_strings(names)).tolist() == [3, 1, 0, 3, 1, 2]
    assert compaction._codes(pa_strings([None])).tolist() == [0]


def pa_strings(values):
    return pa.chunked_array([pa.array(values, pa.string())])


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=80),
    target=st.integers(1, 30),
)
def test_plans(rows, target):
    """Every row in one file; no file far too large, or small without need; nothing twice."""
    cameras = np.array([camera for camera, _ in rows], np.int64)
    files = np.array([file for _, file in rows], np.int64)
    if len(files):
        files = np.unique(files, return_inverse=True)[1]
    groups = plan_files(cameras, files, target)
    written = np.full(len(rows), -1)
    for number, group in enumerate(groups):
        assert (np.diff(group) > 0).all()
        assert (written[group] == -1).all()
        written[group] = number
        assert len(group) <= 1.5 * target + 1
    moved = np.unique(files[written >= 0])
    for file in moved:
        assert (written[files == file] >= 0).all(), "a file is taken whole or not at all"
    after = np.where(written >= 0, written + (files.max(initial=-1) + 1), files)
    after = np.unique(after, return_inverse=True)[1]
    assert plan_files(cameras, after, target) == []
    for camera in range(4):
        of_camera = np.bincount(after[cameras == camera]) if (cameras == camera).any() else []
        pure = [f for f in range(len(of_camera)) if (cameras[after == f] == camera).all()]
        if len(of_camera) and sum(of_camera) - sum(of_camera[pure]) >= 1.5 * target:
            raise AssertionError("a camera with rows enough shares its files")
