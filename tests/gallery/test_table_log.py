"""A gallery's log of another format, damaged, cut short, or with checkpoints."""

import logging
import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.errors import InputError
from pipeline.gallery import chain
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import entries as log_files
from pipeline.gallery.log import transactions as log
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, expected, unit


def change_property(gallery, name, value):
    table = DeltaTable(gallery.location)
    table.alter.set_table_properties({f"regallery.{name}": value}, raise_if_not_exists=False)


def test_a_newer_format(empty):
    change_property(empty, "format", "3")
    with pytest.raises(InputError, match=r"format 3 .*reads format 2 .*upgrade"):
        Gallery.open(empty.location)
    assert Gallery.open(empty.location, 0).version == 0


def test_an_earlier_format(empty):
    """Those had no checksums of the log, nor a record of them."""
    edit_entry(empty, 0, 'regallery.format":"2', 'regallery.format":"1')
    shutil.rmtree(empty._root / "_checksums")
    with pytest.raises(InputError, match=r"format 1, which has no checksums.*extract it again"):
        Gallery.open(empty.location)


def log_entry(gallery, version):
    return gallery._root / "_delta_log" / f"{version:020d}.json"


def edit_entry(gallery, version, old, new):
    path = log_entry(gallery, version)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if version == chain.read_log_record(gallery._root).newest:
        chain.note_entry(gallery._root, version)  # as if it had been written so


@pytest.mark.parametrize("name", ["recipe", "fingerprint", "dimension", "dtype"])
def test_a_log_that_lost_a_property(empty, name):
    edit_entry(empty, 0, f"regallery.{name}", f"regallery.{name}-lost")
    with pytest.raises(GalleryDamagedError, match=f"does not have its {name}"):
        Gallery.open(empty.location)


def test_a_log_that_lost_the_next_row_id(empty):
    edit_entry(empty, 0, "regallery.next_row_id", "regallery.other")
    with pytest.raises(GalleryDamagedError, match="lost the gallery's next row id"):
        Gallery.open(empty.location)


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
    with pytest.raises(GalleryDamagedError, match=r"00001\.json: this entry of the log is not as"):
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
    told = r"checkpoint\.parquet: .* not those that were written.*delete it and _last_checkpoint"
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


def test_a_commit_of_many_files_is_followed_by_a_checkpoint(empty, monkeypatch):
    monkeypatch.setattr(log, "_LARGE_ENTRY", 1000)
    record = unit(empty.target, range(3))
    gallery = empty.commit([record], run_id="x")
    folder = gallery._root / "_delta_log"
    assert [path.name[:20] for path in folder.glob("*.checkpoint.parquet")] == [f"{1:020d}"]
    assert contents(Gallery.open(gallery.location)) == expected(range(3))
    assert not verify(gallery).findings


def test_a_checkpoint_that_fails_is_told_and_the_version_stays(empty, monkeypatch, caplog):
    monkeypatch.setattr(log, "CHECKPOINT_INTERVAL", 1)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(log_files.DeltaTable, "create_checkpoint", fail)
    with caplog.at_level(logging.WARNING):
        gallery = empty.commit([unit(empty.target, range(3))], run_id="x")
    assert "the checkpoint of version 1 cannot be written (no space left on device)" in caplog.text
    assert contents(gallery) == expected(range(3))
