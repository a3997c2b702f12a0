"""A run in an object store that is cut off at any request ends, run again, as one that was not."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.places import ObjectPlace, below, root_of
from pipeline.gallery.log import lock as locks
from pipeline.gallery.log.lock import LockHeldError, hold, holder
from pipeline.gallery.opening import check_writable, exists
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify_at
from tests.gallery.crashing import bring_up_to_date, interrupted
from tests.gallery.making import contents, new_gallery, unit
from tests.gallery.object_store.faulty import Fault
from tests.gallery.test_crashes import Crash, crash, points, state

DAYS = 2


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """What a gallery on a disk holds after each day."""
    folder = tmp_path_factory.mktemp("days")
    return [state(bring_up_to_date(str(folder / "g"), day)) for day in range(DAYS)]


def copy(source, target):
    for place in root_of(source).rglob("*"):
        place.copy(root_of(target) / below(place, root_of(source)))
    return target


def check_the_next_run(days, location, told):
    found = bring_up_to_date(location, 1)
    assert state(found) == days[1], told
    root = root_of(location)
    assert list((root / "_units").rglob("*")) == list(root.rglob("*#*")) == []
    assert verify_at(location, all_versions=True).findings == ()
    assert [each.name for each in (root / "_checksums").rglob("*")] == ["_delta_log.json"]


def test_a_gallery_in_a_store_is_that_on_a_disk_to_the_byte(days, bucket, tmp_path):
    for location in (bucket, str(tmp_path / "g")):
        for day in range(DAYS):
            assert state(bring_up_to_date(location, day)) == days[day]
    there, here = root_of(bucket), tmp_path / "g"
    rows = [path for path in here.rglob("*.parquet") if "_delta_log" not in path.parts]
    assert len(rows) >= 5
    for path in rows:
        assert (there / below(path, here)).read_bytes() == path.read_bytes()


def test_a_crash_at_many_requests(days, bucket):
    bring_up_to_date(f"{bucket}/day0", 0)
    whole = copy(f"{bucket}/day0", f"{bucket}/whole")
    with interrupted(-1, crash) as seen:
        bring_up_to_date(whole, 1)
    names = list(seen)
    assert {"put", "delete", "create_write_transaction"} <= {*names}
    for operation in points(names):
        location = copy(f"{bucket}/day0", f"{bucket}/{operation}")
        with interrupted(operation, crash, dead=True), pytest.raises(Crash):
            bring_up_to_date(location, 1)
        assert state(Gallery.open(location))[0] in (days[0][0], days[1][0])
        check_the_next_run(days, location, f"after {operation} ({names[operation]})")


def test_a_kill(days, bucket):
    """Of a real process, whose lease is free at once."""
    bring_up_to_date(bucket, 0)
    arguments = ["-m", "tests.gallery.crashing", bucket, "1", "12"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=Path(__file__).parents[3], capture_output=True
    )
    assert done.returncode == 9, done.stderr.decode()
    check_the_next_run(days, bucket, "after a kill")


@pytest.mark.parametrize("kind", ["500", "503", "lost", "reset"])
def test_a_commit_whose_answer_is_lost_is_done_once(bucket, proxy, kind):
    gallery = new_gallery(bucket)
    units = [unit(gallery.target, range(5))]
    proxy.faults.append(Fault(kind, "PUT", r"_delta_log/0+1\.json"))
    after = gallery.commit(units, run_id="once")
    assert (after.version, after.count, len(proxy.seen)) == (1, 5, 1)
    assert Gallery.open(bucket).version == 1
    with pytest.raises(RunError, match="version 1 came after version 0"):
        gallery.commit([], run_id="late", forget=["x"], rejects=None, removes=[0])


def test_of_two_commits_on_one_version_one_is_refused(bucket):
    """Also where both believe to hold the lock."""
    gallery = new_gallery(bucket)
    units = [unit(gallery.target, range(5), unit_id=name) for name in "ab"]
    told = []

    class Held(locks.Lock):
        def check(self):
            pass

    def commit(record):
        try:
            gallery.commit([record], run_id=record.unit_id, lock=Held(bucket, "nobody"))
        except (RunError, InputError) as error:
            told.append(str(error))

    threads = [threading.Thread(target=commit, args=(record,)) for record in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(told), Gallery.open(bucket).version) == (1, 1)
    assert "after version 0" in told[0] or "nothing was committed" in told[0]


def test_units_written_twice_are_one(bucket):
    gallery = new_gallery(bucket)
    records = []
    threads = [
        threading.Thread(target=lambda: records.append(unit(gallery.target, range(5), [3])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 4 and len({*records}) == 1
    assert gallery.find_units().units == (records[0],) and not gallery.find_units().damaged
    after = gallery.commit(records[:1], run_id="one")
    assert verify_at(bucket).findings == () and len(contents(after)) == 4


def test_one_writer_holds_the_lease(bucket):
    assert holder(bucket) is None
    with hold(bucket, "first") as lock:
        lock.check()
        with pytest.raises(LockHeldError, match="'first'"), hold(bucket, "second"):
            pass
        assert holder(bucket).purpose == "first"
    assert holder(bucket) is None
    with pytest.raises(RunError, match="lost to nobody"):
        lock.check()


def test_a_lease_is_renewed_and_an_expired_one_is_taken_over(bucket, monkeypatch):
    monkeypatch.setattr(locks, "_machine", lambda: "another machine")
    with hold(bucket, "dies", expiry=0.5) as lock:
        first = holder(bucket).expires
        for _ in range(100):
            if holder(bucket).expires > first:
                break
            threading.Event().wait(0.02)
        else:
            pytest.fail("the lease was not renewed")
        monkeypatch.setattr(locks, "_is_alive", lambda owner: False)
        lost = pytest.raises(RunError, match="lost to 'takes over'")
        with hold(bucket, "takes over"), lost:
            lock.check()


def test_of_many_that_take_a_stale_lease_one_gets_it(bucket):
    place = root_of(bucket) / "_lock"
    place.write_bytes(b"not a lease")
    got, release = [], threading.Event()

    def take(number):
        try:
            with hold(bucket, str(number)):
                got.append(number)
                release.wait(10)
        except LockHeldError:
            pass

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        if sum(thread.is_alive() for thread in threads) == 1 and got:
            break
        threading.Event().wait(0.02)
    release.set()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_place_for_a_gallery_is_checked_before_the_work(bucket):
    check_writable(f"{bucket}/g")
    assert not exists(f"{bucket}/g")
    (root_of(bucket) / "g" / "other.txt").write_bytes(b"1")
    with pytest.raises(InputError, match="other files"):
        check_writable(f"{bucket}/g")
    (root_of(bucket) / "file").write_bytes(b"1")
    with pytest.raises(InputError, match="this is a file"):
        check_writable(f"{bucket}/file")
    with pytest.raises(InputError, match="not a gallery"):
        Gallery.open(f"{bucket}/none")
    assert isinstance(root_of(bucket), ObjectPlace)
