"""The progress of a run in the storage of its gallery, and what other processes make of it."""

import dataclasses
import logging
import threading

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.progress import read_progress, write_progress
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.leftovers import unfinished_files
from pipeline.gallery.upkeep.verify import verify
from pipeline.runs import reporting
from pipeline.runs.outcomes import GalleryStatus
from pipeline.runs.reporting import reported
from pipeline.runs.status import gallery_status
from tests.gallery.making import new_gallery


@pytest.fixture
def place(tmp_path):
    return str(new_gallery(tmp_path / "g").location)


def silent(name, length):
    return lambda steps: None


def test_a_gallery_that_nobody_changes_is_idle(place, tmp_path):
    assert gallery_status(place) == GalleryStatus(place, "idle")
    with pytest.raises(InputError, match="there is no gallery"):
        gallery_status(str(tmp_path / "nowhere"))


def test_a_run_is_seen_from_its_first_step_to_its_end(place, monkeypatch):
    monkeypatch.setattr(reporting, "RENEWAL_SECONDS", 0.0)
    passed = []
    with hold(place, "extract somewhere") as lock:
        assert gallery_status(place).progress is None
        with reported(lock, lambda name, length: passed.append) as report:
            report.count(0, 3, 1)
            step = report.start("extracting", 30)
            first = gallery_status(place)
            step(12)
            report.count(1, 3, 2)
            second = gallery_status(place)
        assert gallery_status(place).progress is None
    assert passed == [12]
    assert (first.state, first.purpose) == ("running", "extract somewhere")
    assert (first.progress.done, first.progress.units_done, first.progress.rejected) == (0, 0, 1)
    seen = second.progress
    assert (seen.step, seen.done, seen.total) == ("extracting", 12, 30)
    assert (seen.units_done, seen.units, seen.rejected) == (1, 3, 2)
    assert gallery_status(place) == GalleryStatus(place, "idle")


def test_it_is_stored_every_few_seconds_only(place, monkeypatch):
    stored = []
    monkeypatch.setattr(reporting, "write_progress", lambda *about: stored.append(about))
    with hold(place, "x") as lock, reported(lock, silent) as report:
        step = report.start("extracting", 1000)
        for _ in range(1000):
            step(1)
        assert len(stored) == 1
        report._next = 0
        threads = [threading.Thread(target=step, args=(1,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(stored) == 2


def test_a_run_that_fails_leaves_word_how_far_it_came(place):
    with (
        pytest.raises(RunError, match="too many"),
        hold(place, "x") as lock,
        reported(lock, silent) as report,
    ):
        report.start("extracting", 10)(7)
        raise RunError("too many")
    left = gallery_status(place)
    assert (left.state, left.progress.done, left.host) == ("interrupted", 7, None)
    assert [path.name for path in unfinished_files_of(place)] == ["_progress.json"]
    with hold(place, "y"):
        assert gallery_status(place).progress is None  # another run's


def unfinished_files_of(place):
    from pathlib import Path

    return unfinished_files(Path(place))


def test_wrong_input_before_the_first_step_leaves_nothing(place):
    with pytest.raises(InputError), hold(place, "x") as lock, reported(lock, silent):
        raise InputError("wrong")
    assert gallery_status(place) == GalleryStatus(place, "idle")


def test_a_run_goes_on_where_its_progress_cannot_be_stored(place, monkeypatch, caplog):
    def full(location, progress):
        raise RunError("no space left")

    monkeypatch.setattr(reporting, "write_progress", full)
    monkeypatch.setattr(reporting, "RENEWAL_SECONDS", 0.0)
    with (
        caplog.at_level(logging.WARNING),
        hold(place, "x") as lock,
        reported(lock, silent) as report,
    ):
        step = report.start("extracting", 2)
        step(1)
        step(1)
    assert [record.getMessage() for record in caplog.records] == [
        "the progress of this run cannot be stored, and it goes on: no space left"
    ]


def test_progress_is_whole_or_told_damaged(place, tmp_path):
    with hold(place, "x") as lock, reported(lock, silent) as report:
        report.start("extracting", 2)
        stored = read_progress(place)
        assert verify(Gallery.open(place)).findings == ()
        write_progress(place, dataclasses.replace(stored, done=1))
        assert read_progress(place).done == 1
        file = tmp_path / "g" / "_progress.json"
        file.write_text(file.read_text().replace('"done": 1', '"done": 2'))
        with pytest.raises(GalleryDamagedError, match=r"_progress\.json"):
            read_progress(place)


def test_a_run_is_seen_in_an_object_store(bucket, monkeypatch):
    monkeypatch.setattr(reporting, "RENEWAL_SECONDS", 0.0)
    place = new_gallery(f"{bucket}/g").location
    assert gallery_status(place) == GalleryStatus(place, "idle")
    with hold(place, "extract somewhere") as lock, reported(lock, silent) as report:
        report.start("extracting", 30)(12)
        seen = gallery_status(place)
    assert (seen.state, seen.purpose, seen.progress.done) == ("running", "extract somewhere", 12)
    assert gallery_status(place) == GalleryStatus(place, "idle")
