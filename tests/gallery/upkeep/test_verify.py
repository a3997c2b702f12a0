"""Verifying: every kind of damage is told by the name of the file."""

import json
import os
import re
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.gallery.files import storage
from pipeline.gallery.files.row_files import checksum, delta_statistics, write_row_file
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import verify as verifying
from pipeline.gallery.upkeep.verify import Finding, verify
from tests.gallery.making import new_gallery, unit, unit_rows, unit_vectors


@pytest.fixture
def gallery(tmp_path):
    """Two files, ids 0 to 9 and 10 to 19 less the reject 12; version 2 lacks row 3 and has file 2
    rewritten.
    """
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), rejected=[12])]
    return gallery.commit(units, run_id="first").commit([], run_id="x", removes=[3])


def add_file(gallery, name, ids, paths, **changes):
    """Commits a file past all checks."""
    path = gallery._root / name
    write_row_file(path, unit_rows(gallery.target, ids, paths))
    statistics = delta_statistics(pq.read_metadata(path))
    file = LoggedFile(name, path.stat().st_size, statistics, checksum(path))
    change = log.Change("r", [replace(file, **changes)], [], 20, gallery.snapshot.rejects, {})
    log.append(gallery._root, gallery.version, change)
    return Gallery.open(gallery.location)


def test_a_sound_gallery(gallery):
    found = verify(gallery)
    assert found.findings == ()
    assert (found.version, found.versions_verified) == (2, 1)
    assert (found.files_verified, found.rows_verified) == (3, 18)
    assert found.bytes_verified == sum(file.bytes for file in gallery.snapshot.files)
    assert found.without_checksum == 0
    everything = verify(gallery, all_versions=True)
    assert (everything.versions_verified, everything.files_verified, everything.findings) == (
        3,
        4,
        (),
    )


def test_an_empty_gallery(tmp_path):
    assert verify(new_gallery(tmp_path / "g")).findings == ()


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_file_of_a_writer_that_is_at_work_is_no_fault(gallery):
    """It is there before the log names it, or after the log has forgotten it."""
    stray = gallery._root / "000000000099-u99x100.parquet"
    stray.write_bytes(b"rows")
    assert [each.file for each in verify(gallery).findings] == [stray.name]
    with hold(gallery.location, "extract"):
        threading.Timer(0.3, stray.unlink).start()
        assert verify(gallery).findings == ()
    assert not stray.exists()


def test_damage_that_is_found_as_a_writer_ends_is_told(gallery):
    stray, other = (gallery._root / f"{name}.parquet" for name in ("stray", "other"))
    stray.write_bytes(b"rows")
    held = threading.Event()

    def write():
        with hold(gallery.location, "extract"):
            held.set()
            time.sleep(0.3)
            stray.rename(other)

    writer = threading.Thread(target=write)
    writer.start()
    held.wait()
    assert [each.file for each in verify(gallery).findings] == [other.name]
    writer.join()


def test_damage_is_told_although_a_writer_is_at_work(gallery, monkeypatch):
    monkeypatch.setattr(verifying, "_PATIENCE_SECONDS", 0.2)
    stray = gallery._root / "000000000099-u99x100.parquet"
    stray.write_bytes(b"rows")
    with hold(gallery.location, "extract"):
        assert [each.file for each in verify(gallery).findings] == [stray.name]


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_a_lock_that_is_no_file_is_told_beside_other_damage(gallery, what):
    lock, damaged = gallery._root / storage.LOCK_FILE, gallery.snapshot.files[0].path
    flip(gallery._root / damaged, 100)
    lock.unlink()
    make = {"link": lambda: lock.symlink_to("nowhere"), "folder": lock.mkdir}
    make.get(what, lambda: os.mkfifo(lock))()
    assert {each.file for each in verify(gallery).findings} == {damaged, storage.LOCK_FILE}


DAMAGE = {
    "gone": (lambda path: path.unlink(), "is gone"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes where the log says"),
    "cut short": (cut, "bytes where the log says"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "bytes where the log says|directory"),
    "first byte": (lambda path: flip(path, 0), "SHA-256"),
    "last byte": (lambda path: flip(path, -1), "SHA-256"),
    "footer": (lambda path: flip(path, -300), "SHA-256"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_every_damaged_file_is_named(gallery, how):
    damage, told = DAMAGE[how]
    for file in gallery.snapshot.files:
        damage(gallery._root / file.path)
    found = verify(gallery).findings
    for file in gallery.snapshot.files:
        assert any(each.file == file.path and re.search(told, each.problem) for each in found)


def test_every_bit_of_a_file_counts(gallery):
    """A bit here and there, one after the other."""
    path = gallery._root / gallery.snapshot.files[0].path
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        flip(path, at)
        assert {each.file for each in verify(gallery).findings} == {path.name}, at
        path.write_bytes(good)
    assert verify(gallery).findings == ()


def test_only_an_older_version_is_damaged(gallery):
    old = Gallery.open(gallery.location, 1).snapshot.files[0].path
    cut(gallery._root / old)
    assert verify(gallery).findings == ()
    assert {each.file for each in verify(gallery, all_versions=True).findings} == {old}


def test_rejects(gallery):
    [path] = (gallery._root / "_rejects").iterdir()
    flip(path, 50)
    found = verify(gallery).findings
    assert found == (
        Finding(f"_rejects/{path.name}", "the file is not what was written; restore it"),
    )
    path.unlink()
    assert "gone" in verify(gallery).findings[0].problem


def test_a_row_id_and_a_path_twice(gallery):
    changed = add_file(gallery, "000000000001-x.parquet", [1, 3], ["a", "c2/000002.jpg"])
    assert [each.problem for each in verify(changed).findings] == [
        "the row id 1 comes 2 times",
        "the path c2/000002.jpg comes 2 times",
    ]


def test_a_row_id_that_was_never_given(gallery):
    changed = add_file(gallery, "000000000003-x.parquet", [3, 20], ["a", "b"])
    assert verify(changed).findings == (
        Finding("000000000003-x.parquet", "row id 20 was never assigned (the next is 20)"),
    )


def test_a_path_that_is_a_reject_too(gallery):
    changed = add_file(gallery, "000000000003-x.parquet", [3], ["c0/000012.jpg"])
    [found] = verify(changed).findings
    assert "c0/000012.jpg is a reject too" in found.problem


def test_other_statistics_than_the_rows_have(gallery):
    about = {"numRecords": 1, "minValues": {"row_id": 3, "camera": "a"}}
    about |= {"maxValues": {"row_id": 3, "camera": "z"}, "nullCount": {}}
    changed = add_file(gallery, "000000000003-x.parquet", [3], ["a"], statistics=json.dumps(about))
    assert [each.problem for each in verify(changed).findings] == [
        "its statistics in the log are different"
    ]


@pytest.mark.parametrize(("rows", "told"), [(3, "rows where the log"), (2, "not those in the log")])
def test_other_rows_than_the_log_counts(gallery, rows, told):
    about = {"numRecords": rows, "minValues": {"row_id": 2}, "maxValues": {"row_id": 3}}
    changed = add_file(
        gallery,
        "000000000003-x.parquet",
        [3, 4],
        ["a", "b"],
        statistics=json.dumps({**about, "nullCount": {"row_id": 0}}),
    )
    assert any(told in each.problem for each in verify(changed).findings)


def test_a_file_of_another_tool_is_read_without_a_checksum(gallery):
    DeltaTable(gallery.location).optimize.compact()
    changed = Gallery.open(gallery.location)
    found = verify(changed)
    assert (found.findings, found.without_checksum) == ((), 1)
    path = gallery._root / changed.snapshot.files[0].path
    data = bytearray(path.read_bytes())
    at = data.find(unit_vectors([7]).tobytes()[:8])
    if at < 0:  # compressed
        at = len(data) // 3
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    assert {each.file for each in verify(changed).findings} == {path.name}


def test_another_recipe(gallery, tmp_path):
    other = replace(gallery.target, fingerprint="e" * 64, location=str(tmp_path / "other"))
    record = unit(other, range(20, 22))
    shutil.copy(tmp_path / "other" / record.path, gallery._root / record.path)
    file = LoggedFile(record.path, record.bytes, record.statistics, record.sha256)
    log.append(
        gallery._root,
        gallery.version,
        log.Change("r", [file], [], 22, gallery.snapshot.rejects, {}),
    )
    [found] = verify(Gallery.open(gallery.location)).findings
    assert found.problem.startswith("features of another recipe (eeee")


def test_a_norm_that_was_never_one(gallery):
    """Written past our own check, so that every checksum is right."""
    name = "000000000003-x.parquet"
    rows = unit_rows(gallery.target, [3], ["a"])
    wrong = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), 1, [None, pa.py_buffer(np.full(8, 0.5, np.float32))]
    )
    index = rows.schema.get_field_index("feature")
    write_row_file(
        gallery._root / name,
        rows.set_column(index, rows.schema.field(index), pa.chunked_array([wrong])),
    )
    path = gallery._root / name
    file = LoggedFile(
        name, path.stat().st_size, delta_statistics(pq.read_metadata(path)), checksum(path)
    )
    log.append(
        gallery._root,
        gallery.version,
        log.Change("r", [file], [], 20, gallery.snapshot.rejects, {}),
    )
    [found] = verify(Gallery.open(gallery.location)).findings
    assert (found.file, found.problem[:29]) == (name, "a feature has norm 1.414 wher")


def test_an_entry_of_the_log(gallery):
    path = gallery._root / "_delta_log" / f"{1:020d}.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert [each.file for each in verify(gallery).findings] == [f"_delta_log/{path.name}"]
