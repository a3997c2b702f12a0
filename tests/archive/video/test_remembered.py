"""Notes of what videos hold: the same as reading them, and never those of another file."""

import os
from dataclasses import fields

import numpy as np
import pytest

from pipeline.archive.video import remembered
from pipeline.archive.video.index import FrameRuns, index_video
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.remembered import remembered_index
from pipeline.archive.video.sources import file_facts
from tests.archive.video.making import mot, save_codec, save_video


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remembered._forget_old.cache_clear()
    return tmp_path / "cache/regallery/videos"


@pytest.fixture
def reads(monkeypatch):
    """The videos that are read."""
    found = []

    def read(root, file):
        found.append(file)
        return index_video(root, file)

    monkeypatch.setattr(remembered, "index_video", read)
    return found


def look(folder, name, **how):
    return remembered_index(str(folder), name, *file_facts(str(folder), name), **how)


def assert_equal(one, other):
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, FrameRuns):
            assert_equal(mine, theirs)
        elif isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        else:
            assert mine == theirs


@pytest.mark.parametrize("name", ["h264.mp4", "mjpeg.avi", "bare.h264"])
def test_a_note_says_what_the_video_holds(tmp_path, reads, name):
    save_codec(tmp_path, name, frames=60)
    first, second = look(tmp_path, name), look(tmp_path, name)
    assert reads == [name]
    assert_equal(first, second)
    assert_equal(second, index_video(str(tmp_path), name))


def test_a_changed_or_damaged_video_is_read_again(tmp_path, reads, notes):
    path = save_video(tmp_path / "a.mp4", frames=20)
    look(tmp_path, "a.mp4")
    os.utime(path, (2_000_000_000, 2_000_000_000))
    look(tmp_path, "a.mp4")
    assert len(reads) == 2
    save_video(path, frames=30)
    os.utime(path, (2_000_000_000, 2_000_000_000))
    assert len(look(tmp_path, "a.mp4").packet) == 30  # of the same time, and another size
    look(tmp_path, "a.mp4", afresh=True)
    assert len(reads) == 4
    for note in notes.glob("*/*"):
        note.write_bytes(note.read_bytes()[:-40])
    assert len(look(tmp_path, "a.mp4").packet) == 30
    assert len(reads) == 5 and len(look(tmp_path, "a.mp4").packet) == 30
    assert len(reads) == 5


def test_nothing_is_kept_of_a_video_that_is_being_written(tmp_path, monkeypatch, notes, caplog):
    path = save_video(tmp_path / "a.mp4", frames=20)

    def read(root, file):
        found = index_video(root, file)
        os.utime(path, (2_000_000_000, 2_000_000_000))
        return found

    monkeypatch.setattr(remembered, "index_video", read)
    look(tmp_path, "a.mp4")
    assert "is being written" in caplog.text and not list(notes.glob("*/*"))


def test_notes_that_cannot_be_written_change_nothing(tmp_path, monkeypatch, reads):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    save_video(tmp_path / "a.mp4", frames=20)
    assert len(look(tmp_path, "a.mp4").packet) == len(look(tmp_path, "a.mp4").packet) == 20
    assert len(reads) == 2


def test_old_notes_are_deleted_and_used_ones_stay(tmp_path, notes):
    save_video(tmp_path / "a.mp4", frames=20)
    look(tmp_path, "a.mp4")
    (note,) = notes.glob("*/*")
    old = note.with_name("old.npz")
    old.touch()
    for each in (note, old):
        os.utime(each, (1, 1))
    look(tmp_path, "a.mp4")
    save_video(tmp_path / "b.mp4", frames=20)
    remembered._forget_old.cache_clear()
    look(tmp_path, "b.mp4")
    assert note.exists() and not old.exists()


def test_an_unchanged_archive_is_listed_without_reading_its_videos(tmp_path, reads):
    for name in ("a", "b"):
        save_video(tmp_path / "v" / f"{name}.mp4", frames=20)
        (tmp_path / "v" / f"{name}.txt").write_text(mot([(3, 1, 1, 1, 9, 9), (25, 1, 1, 1, 9, 9)]))
    first = list_archive(str(tmp_path / "v"))
    again = list_archive(str(tmp_path / "v"))
    assert sorted(reads) == ["a.mp4", "b.mp4"]
    assert first.images.equals(again.images) and first.rejects.equals(again.rejects)
    list_archive(str(tmp_path / "v"), afresh=True)
    assert len(reads) == 4
