"""Cut off at any instant, the next run ends with the same gallery."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.gallery.features import GalleryFeatures
from pipeline.gallery.log.lock import holder
from pipeline.gallery.opening import exists
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify_at
from tests.gallery.crashing import BAD, DAYS, bring_up_to_date, interrupted
from tests.gallery.making import contents


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def crash():
    raise Crash


def state(gallery):
    return contents(gallery), gallery.rejects().to_pydict(), gallery.next_row_id


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """The gallery after each day without a crash: its folder, and what it holds."""
    folder = tmp_path_factory.mktemp("days")
    done = []
    for day in range(2):
        gallery = bring_up_to_date(str(folder / "g"), day)
        shutil.copytree(folder / "g", folder / f"day{day}")
        done.append((folder / f"day{day}", state(gallery)))
    return done


@pytest.fixture
def start(days, tmp_path):
    """A gallery's folder as it is before a day."""

    def start(day: int) -> Path:
        shutil.rmtree(tmp_path / "g", ignore_errors=True)
        if day:
            shutil.copytree(days[day - 1][0], tmp_path / "g")
        return tmp_path / "g"

    return start


def test_the_days_are_what_they_should_be(days):
    for day, (_, (rows, rejects, _)) in enumerate(days):
        assert rows.keys() == DAYS[day].keys() - BAD[day]
        assert set(rejects["path"]) == BAD[day] | {"odd name.jpg"}


def test_a_second_run_of_a_day_changes_nothing(days, start):
    location = str(start(1))
    first = bring_up_to_date(location, 1)
    assert bring_up_to_date(location, 1).version == first.version


def operations(location, day):
    with interrupted(-1, crash) as seen:
        bring_up_to_date(str(location), day)
    return list(seen)


@pytest.mark.parametrize("day", [0, 1])
@pytest.mark.slow
def test_an_error_at_many_operations(days, start, day):
    """The error runs through all clean-up; a reader in between sees the day before or this one."""
    names = operations(start(day), day)
    assert {"fsync", "link", "create_write_transaction", "after create_write_transaction"} <= {
        *names
    }
    before = days[day - 1][1] if day else ({}, None, 0)
    # A first day is made of the same steps: some of them.
    every_fifth = range(0, len(names), 5) if day else ()
    for operation in sorted({*points(names), *every_fifth}):
        location = str(start(day))
        with interrupted(operation, crash), pytest.raises(Crash):
            bring_up_to_date(location, day)
        assert holder(location) is None
        if exists(location):
            assert state(Gallery.open(location))[0] in (before[0], days[day][1][0])
            assert verify_at(location, all_versions=True).findings == (), names[operation]
        found = bring_up_to_date(location, day)
        assert state(found) == days[day][1], f"after {operation} ({names[operation]})"


def kill(location, day, operation):
    done = subprocess.run(
        [sys.executable, "-m", "tests.gallery.crashing", str(location), str(day), str(operation)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert done.returncode == 9, done.stderr.decode()


def check_the_next_run(days, location, day, operation):
    found = bring_up_to_date(str(location), day)
    assert state(found) == days[day][1], f"after a kill at operation {operation}"
    assert list((location / "_units").iterdir()) == []
    assert list(location.rglob("*.tmp")) == list(location.rglob("*#*")) == []
    assert verify_at(str(location), all_versions=True).findings == ()
    records = {path.name for path in (location / "_checksums").rglob("*") if path.is_file()}
    assert records == {"_delta_log.json", "_lock"}
    assert bring_up_to_date(str(location), day).version == found.version


def points(names):
    """One operation of each kind that matters: the first, the middle and the last of each name."""
    chosen = set()
    for name in set(names):
        places = [place for place, other in enumerate(names) if other == name]
        chosen |= {places[0], places[len(places) // 2], places[-1]}
    return sorted(chosen)


def test_a_kill(days, start):
    """Of a real process; in this one they are quicker."""
    operation = operations(start(1), 1).index("create_write_transaction")
    location = start(1)
    kill(location, 1, operation)
    check_the_next_run(days, location, 1, operation)


@pytest.mark.parametrize("day", [0, 1])
def test_a_kill_at_many_operations(days, start, day):
    for operation in points(operations(start(day), day)):
        location = start(day)
        with interrupted(operation, crash, dead=True), pytest.raises(Crash):
            bring_up_to_date(str(location), day)
        check_the_next_run(days, location, day, operation)


@pytest.mark.slow
def test_two_kills_in_a_row(days, start):
    names = operations(start(1), 1)
    location = start(1)
    kill(location, 1, names.index("link") + 1)
    kill(location, 1, 12)
    assert state(bring_up_to_date(str(location), 1)) == days[1][1]


def test_what_a_killed_run_finished_goes_where_the_next_has_another_plan(days, start):
    """Day 0 is cut off before its commit, and the next run already sees day 1."""
    names = operations(start(0), 0)
    location = start(0)
    kill(location, 0, names.index("create_write_transaction"))
    assert len(Gallery.open(str(location)).find_units().units) == 3
    rows, rejects, _ = state(bring_up_to_date(str(location), 1))
    assert rows.keys() == days[1][1][0].keys()
    assert set(rejects["path"]) == BAD[1] | {"odd name.jpg"}
    assert list((location / "_units").iterdir()) == []
    assert len(list(location.glob("[0-9]*.parquet"))) == len(
        Gallery.open(str(location)).snapshot.files
    )


def test_a_reader_reads_through_a_commit(days, start):
    location = str(start(1))
    reader = Gallery.open(location)
    before: GalleryFeatures = reader.features()
    bring_up_to_date(location, 1)
    assert (contents(reader), reader.rejects().to_pydict()) == days[0][1][:2]
    assert len(before.read(0, len(before))) == len(days[0][1][0])


def test_all_that_a_version_needs_is_on_the_disk_when_it_is_committed(tmp_path, monkeypatch):
    """Against a power cut: every file is flushed before it has its name, and every folder after."""
    events = []
    real_sync, real_link, real_replace = os.fsync, os.link, os.replace

    def sync(descriptor):
        real_sync(descriptor)
        events.append(("sync", os.fstat(descriptor).st_ino))

    def link(source, target):
        events.append(("name", Path(source).stat().st_ino))
        real_link(source, target)

    def replace(source, target):
        events.append(("name", Path(source).stat().st_ino))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "replace", replace)
    for day in range(2):
        bring_up_to_date(str(tmp_path / "g"), day)

    def last(kind, inode):
        places = [place for place, event in enumerate(events) if event == (kind, inode)]
        return places[-1] if places else None

    files = [path for path in (tmp_path / "g").rglob("*") if path.is_file()]
    named = [path for path in files if path.name != "_lock" and path.parent.name != "_delta_log"]
    assert len(named) >= 8
    for path in named:
        inode = path.stat().st_ino
        assert last("sync", inode) < last("name", inode) < last("sync", path.parent.stat().st_ino)
    for path in (tmp_path / "g" / "_delta_log").iterdir():
        assert last("sync", path.stat().st_ino) < last("sync", path.parent.stat().st_ino)
    assert last("sync", tmp_path.stat().st_ino) is not None
