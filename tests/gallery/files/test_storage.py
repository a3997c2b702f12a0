"""File operations: atomic, and on the disk when they return."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files import storage


def test_the_first_link_wins(tmp_path):
    first, second, final = tmp_path / "a", tmp_path / "b", tmp_path / "final"
    first.write_text("first")
    second.write_text("second")
    assert storage.link_into_place(first, final)
    assert not storage.link_into_place(second, final)
    assert final.read_text() == "first"


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InputError, match="no hard links"):
        storage.link_into_place(tmp_path / "a", tmp_path / "b")


def test_other_link_errors_are_told_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.link_into_place(tmp_path / "missing", tmp_path / "b")


def test_new_folders_are_flushed_into_their_parents(tmp_path, monkeypatch):
    flushed: list[Path] = []
    monkeypatch.setattr(storage, "sync_folder", flushed.append)
    storage.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert set(flushed) == {tmp_path, tmp_path / "a"}


@pytest.mark.parametrize("below", ["f", "f/g"])
def test_a_folder_in_the_place_of_a_file(tmp_path, below):
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        storage.make_folder(tmp_path / below)


def test_a_folder_that_the_file_system_refuses():
    with pytest.raises(InputError, match="cannot be made"):
        storage.make_folder(Path("/proc/self/gallery"))


def test_deleting_what_is_gone_is_no_error(tmp_path):
    (tmp_path / "a").write_text("x")
    storage.delete_files([tmp_path / "a", tmp_path / "b"])
    assert list(tmp_path.iterdir()) == []


def test_temporary_names_are_hidden_and_distinct(tmp_path):
    names = {storage.temporary_name(tmp_path, "x").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") for name in names)


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """The second begins and ends while the first is writing."""

    def fill(path):
        path.write_text("first")
        storage.write_whole(tmp_path / "a", lambda other: other.write_text("second"))
        assert (tmp_path / "a").read_text() == "second"

    storage.write_whole(tmp_path / "a", fill)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


def test_a_whole_file_that_cannot_be_written_is_told_by_name(tmp_path):
    (tmp_path / "a").write_text("before")

    def fill(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(RunError, match=r"a: the file cannot be written .*no space left"):
        storage.write_whole(tmp_path / "a", fill)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_only_what_nobody_is_writing_is_dropped(tmp_path):
    left = storage.temporary_name(tmp_path, "a[1]")
    other = storage.temporary_name(tmp_path, "b")
    for path in (left, other, tmp_path / "a[1]"):
        path.write_text("of a killed writer")
    with storage.hidden_file(tmp_path, "a[1]") as live:
        storage.drop_cut_off(tmp_path, "a[1]")
        assert {*tmp_path.iterdir()} == {live, other, tmp_path / "a[1]"}
        storage.drop_cut_off(tmp_path)
        assert {*tmp_path.iterdir()} == {live, tmp_path / "a[1]"}
    assert [*tmp_path.iterdir()] == [tmp_path / "a[1]"]


def test_a_killed_writers_file_is_dropped_at_once(tmp_path):
    code = (
        "import os; from pathlib import Path; from pipeline.gallery.files import storage\n"
        f"storage.write_whole(Path({str(tmp_path)!r}, 'a'), lambda path: os._exit(9))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    assert done.returncode == 9
    assert len(storage.temporaries(tmp_path, "a")) == 1
    storage.drop_cut_off(tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_file_that_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """In the moment between its making and its lock."""
    real, seen = storage.fcntl.flock, []

    def flock(descriptor, operation):
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].unlink()
        real(descriptor, operation)

    monkeypatch.setattr(storage.fcntl, "flock", flock)
    with storage.hidden_file(tmp_path, "a") as path:
        assert path.exists()
        assert path != seen[0]


def test_a_file_that_is_locked_while_another_drops_leftovers_is_not_lost(tmp_path, monkeypatch):
    """A writer has made its file; another finds it unlocked; the first locks it, and goes on."""
    real_lock, real_unlink = storage.fcntl.flock, Path.unlink
    found, locked = threading.Event(), threading.Event()
    other = threading.Thread(target=storage.drop_cut_off, args=(tmp_path,))

    def flock(descriptor, operation):
        if operation == storage.fcntl.LOCK_SH and not other.ident:
            other.start()
            assert found.wait(10)
        real_lock(descriptor, operation)

    def unlink(path, missing_ok=False):
        if threading.current_thread() is other:
            found.set()
            locked.wait(0.2)  # without a lock of its own, the other lets the writer go on
        real_unlink(path, missing_ok)

    monkeypatch.setattr(storage.fcntl, "flock", flock)
    monkeypatch.setattr(Path, "unlink", unlink)
    with storage.hidden_file(tmp_path, "a") as path:
        locked.set()
        other.join()
        assert path.exists()


def test_where_there_are_no_locks_files_are_written_and_none_is_dropped(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(storage.fcntl, "flock", flock)
    storage.write_whole(tmp_path / "a", lambda path: path.write_text("whole"))
    left = storage.temporary_name(tmp_path, "a")
    left.write_text("x")
    storage.drop_cut_off(tmp_path)
    assert {*tmp_path.iterdir()} == {left, tmp_path / "a"}
