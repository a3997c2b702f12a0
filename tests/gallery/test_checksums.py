"""Records of checksums: cut off at any instant, the file is the old one, the new one, or gone."""

import os
from pathlib import Path

import pytest

from pipeline.gallery import checksum_checks, checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError, record_of
from tests.gallery.crashing import interrupted


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def crash():
    raise Crash


def write(path, data):
    checksums.write_recorded(path, lambda temporary: temporary.write_bytes(data))


def findings(root):
    return list(checksum_checks.changed_files(root, lambda _: False))


def listing(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def path(tmp_path):
    (tmp_path / "_cameras").mkdir()
    return tmp_path / "_cameras" / "7.parquet"


def test_what_is_written_is_read(path, tmp_path):
    assert checksums.read_recorded(path) is None
    for data in (b"one", b"two"):
        write(path, data)
        assert checksums.read_recorded(path) == data
        checksums.check_unchanged(path)
    assert findings(tmp_path) == []
    assert checksums.recorded(path.parent) == {"7.parquet"}
    storage.delete_files([path, path])
    assert checksums.read_recorded(path) is None
    assert checksums.recorded(path.parent) == set()
    assert listing(tmp_path) == ["_checksums/_lock"]


def test_a_record_that_a_writer_renames_before_it_is_read_is_no_damage(path, tmp_path, monkeypatch):
    write(path, b"one")
    record = record_of(path)
    coming = record.rename(record.with_suffix(storage.NEXT_SUFFIX))
    read_bytes, late = Path.read_bytes, []

    def read_late(self):
        if self == coming and coming.exists():
            late.append(coming.rename(record))
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    assert findings(tmp_path) == []
    assert late == [record]


def test_a_file_that_a_writer_renames_while_the_files_are_listed_is_no_damage(
    path, tmp_path, monkeypatch
):
    write(path, b"one")
    temporary = storage.temporary_name(path.parent, path.name)
    temporary.write_bytes(b"two")
    lstat = Path.lstat

    def lstat_late(self):
        temporary.unlink(missing_ok=True)
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", lstat_late)
    assert findings(tmp_path) == []
    assert not temporary.exists()


@pytest.mark.parametrize("what", ["write", "replace", "link", "delete"])
def test_cut_off_at_every_operation(path, tmp_path, what):
    temporary = path.with_name("half")

    def change():
        if what == "write":
            write(path, b"new")
        elif what == "delete":
            storage.delete_files([path])
        else:
            temporary.write_bytes(b"new")
            {"replace": checksums.replace, "link": checksums.link_recorded}[what](temporary, path)

    old, new = (None if what == "link" else b"old"), (None if what == "delete" else b"new")

    def begin():
        storage.delete_files([path])
        temporary.unlink(missing_ok=True)
        if old:
            write(path, old)

    begin()
    change()  # now the folders are there
    begin()
    with interrupted(-1, crash) as operations:
        change()
    assert len(operations) > 2
    for number in range(len(operations)):
        begin()
        with interrupted(number, crash, dead=True), pytest.raises(Crash):
            change()
        temporary.unlink(missing_ok=True)
        assert findings(tmp_path) == [], operations[number]
        assert checksums.read_recorded(path) in (old, new)
        checksums.sweep_writers(tmp_path)
        is_there = checksums.read_recorded(path) is not None
        names = [str(each.relative_to(tmp_path)) for each in (record_of(path), path)]
        left = [name for name in listing(tmp_path) if not name.endswith(".tmp")]
        assert left == sorted(["_checksums/_lock", *(names if is_there else [])])
        change()
        temporary.unlink(missing_ok=True)
        assert checksums.read_recorded(path) == new
        assert findings(tmp_path) == []


def test_nothing_is_left_of_a_file_that_is_deleted_after_a_cut(path, tmp_path):
    write(path, b"old")
    with interrupted(-1, crash) as operations:
        write(path, b"new")
    for number in range(len(operations)):
        with interrupted(number, crash, dead=True), pytest.raises(Crash):
            write(path, b"new")
        storage.delete_files([path])
        storage.drop_cut_off(path.parent, path.name)
        checksums.sweep_writers(tmp_path)
        assert listing(tmp_path) == ["_checksums/_lock"]
        write(path, b"old")


PLANTED = {
    "an empty file": lambda record, _: b"",
    "a damaged record": lambda record, _: record.read_bytes()[:-9],
    "the record of another file": lambda record, other: other.read_bytes(),
    "a copy of its own record": lambda record, _: record.read_bytes(),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("is_recorded", [True, False])
def test_no_planted_record_deletes_a_file(path, tmp_path, caplog, planted, is_recorded):
    write(path, b"good")
    write(path.with_name("8.parquet"), b"other")
    record = record_of(path)
    going = record.with_suffix(".going")
    going.write_bytes(planted(record, record_of(path.with_name("8.parquet"))))
    if not is_recorded:
        record.unlink()
    if not is_recorded and planted is PLANTED["a copy of its own record"]:
        return  # this is what a delete that was cut off leaves
    named = "_checksums/_cameras/7.parquet.going"
    assert named in [name for name, _ in findings(tmp_path)]
    checksums.sweep_writers(tmp_path)
    assert path.read_bytes() == b"good"
    assert f"{path} was to be deleted, but it is not a valid record" in caplog.text
    assert named in [name for name, _ in findings(tmp_path)]


def test_a_delete_that_was_cut_off_keeps_a_file_that_was_changed_since(path, tmp_path):
    write(path, b"good")
    record_of(path).rename(record_of(path).with_suffix(".going"))
    path.write_bytes(b"changed")
    checksums.sweep_writers(tmp_path)
    assert path.read_bytes() == b"changed"
    assert "_cameras/7.parquet" in [name for name, _ in findings(tmp_path)]


@pytest.mark.parametrize("make", [Path.mkdir, lambda lock: lock.symlink_to("/dev/null")])
def test_a_lock_that_is_no_regular_file(path, tmp_path, make):
    lock = tmp_path / "_checksums" / "_lock"
    lock.parent.mkdir(exist_ok=True)
    lock.unlink(missing_ok=True)
    make(lock)
    with pytest.raises(GalleryDamagedError, match="_checksums/_lock: this is not a regular file"):
        write(path, b"new")


def test_the_first_writer_of_a_name_stays(path, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert checksums.link_recorded(one, path)
    assert not checksums.link_recorded(two, path)
    assert checksums.read_recorded(path) == b"1"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.write_bytes(b"x"), "its bytes are not those that were written"),
        (lambda path: path.unlink(), "the file is gone"),
        (lambda path: record_of(path).unlink(), "it has no valid checksum in .*7.parquet.json"),
        (lambda path: record_of(path).write_bytes(b"x"), "it has no valid checksum in"),
    ],
)
def test_damage_is_named_by_readers(path, tmp_path, harm, told):
    write(path, b"good")
    harm(path)
    with pytest.raises(GalleryDamagedError, match=f"7.parquet: .*{told}.*and make it anew"):
        checksums.read_recorded(path, "make it anew")
    with pytest.raises(GalleryDamagedError, match=f"7.parquet: .*{told}"):
        checksums.check_unchanged(path)
    assert "_cameras/7.parquet" in [name for name, _ in findings(tmp_path)]


def test_a_file_that_cannot_be_read(path):
    path.mkdir()
    with pytest.raises(
        GalleryDamagedError,
        match=r"7\.parquet: this is not a regular",
    ):
        checksums.read_recorded(path)


def test_a_file_that_must_be_there(path):
    with pytest.raises(GalleryDamagedError, match=r"7\.parquet: the file is gone"):
        checksums.check_unchanged(path)


def test_a_change_with_the_time_set_back_is_noticed(path):
    write(path, b"rows")
    checksums.check_unchanged(path)
    about = path.stat()
    path.write_bytes(b"rowz")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(GalleryDamagedError, match="its bytes are not those that were written"):
        checksums.check_unchanged(path)


def test_a_reader_waits_for_a_writer_that_is_at_work(path, monkeypatch):
    """The record was read, then the file was replaced."""
    write(path, b"old")
    real = checksums.expected

    def read_before_the_file_changes(each):
        found = real(each)
        monkeypatch.undo()
        write(path, b"new")
        return found

    monkeypatch.setattr(checksums, "expected", read_before_the_file_changes)
    assert checksums.read_recorded(path) == b"new"
