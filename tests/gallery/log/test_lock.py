"""One writer at a time."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from functools import partial

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.lock_waiting import waited_for, waiting_seconds
from pipeline.gallery.log import lock
from pipeline.gallery.log.lock import hold, holder

HOLDER = """
import sys, time
from pipeline.gallery.log.lock import hold
with hold(sys.argv[1], "extract of a child"):
    print("held", flush=True)
    time.sleep(60)
"""


def lock_file(folder):
    return folder / "_lock"


def written(folder):
    return lock._read(os.open(lock_file(folder), os.O_RDONLY))


def leave_behind(folder, **changes):
    """A lock of a process that is no more, with some of its fields changed."""
    owner = replace(lock._new_owner("token", "older run", 600.0), process_started="0", **changes)
    lock_file(folder).write_text(json.dumps(asdict(owner)))


def test_held_then_free(tmp_path):
    with hold(str(tmp_path / "g"), "extract") as held:
        held.check()
        assert holder(str(tmp_path / "g")).purpose == "extract"
    assert holder(str(tmp_path / "g")) is None
    with hold(str(tmp_path / "g"), "erase"):
        assert holder(str(tmp_path / "g")).purpose == "erase"


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path):
    assert holder(str(tmp_path)) is None


def test_the_holder_is_seen_where_nothing_can_be_written(tmp_path, monkeypatch):
    def of_a_reader(path, flags, *more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "read-only file system", str(path))
        return opened(path, flags, *more)

    def unlocked(_file, how):
        raise OSError(errno.EBADF if how == fcntl.LOCK_EX else errno.ENOLCK, "no locks here")

    opened = os.open
    with hold(str(tmp_path), "extract"), monkeypatch.context() as patched:
        patched.setattr(os, "open", of_a_reader)
        patched.setattr(fcntl, "flock", unlocked)
        assert holder(str(tmp_path)).purpose == "extract"
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", of_a_reader)
        assert holder(str(tmp_path)) is None
        with pytest.raises(InputError, match="folder cannot be written to"), hold(tmp_path, "x"):
            pass

    def denied(*_):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match="lock cannot be read"):
        holder(str(tmp_path))


def test_the_owner_is_told(tmp_path):
    with (
        hold(str(tmp_path), "extract of camera 7"),
        pytest.raises(InputError) as told,
        hold(str(tmp_path), "erase"),
    ):
        pass
    message = str(told.value)
    assert "'extract of camera 7'" in message
    assert f"process {os.getpid()} on " in message
    assert f"since {time.strftime('%Y-', time.gmtime())}" in message


def test_freed_by_an_error(tmp_path):
    with pytest.raises(KeyError), hold(str(tmp_path), "extract"):
        raise KeyError
    assert holder(str(tmp_path)) is None


def test_a_killed_process_holds_nothing(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="extract of a child"), hold(str(tmp_path), "erase"):
        pass
    child.send_signal(signal.SIGKILL)
    # Not yet waited for: a zombie is dead too.
    deadline = time.time() + 20
    while holder(str(tmp_path)) is not None and time.time() < deadline:
        time.sleep(0.02)
    with hold(str(tmp_path), "erase") as held:
        held.check()
    child.wait()
    child.stdout.close()


def test_a_process_number_that_was_given_again_holds_nothing(tmp_path):
    leave_behind(tmp_path, process=os.getpid())
    with hold(str(tmp_path), "extract") as held:
        held.check()


def test_a_lock_of_another_machine_is_held_until_it_expires(tmp_path):
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() + 60)
    with pytest.raises(InputError, match="older run"), hold(str(tmp_path), "extract"):
        pass
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() - 1)
    with hold(str(tmp_path), "extract") as held:
        held.check()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x"}', "\0" * 20])
def test_a_half_written_lock_is_free(tmp_path, text):
    lock_file(tmp_path).write_text(text)
    with hold(str(tmp_path), "extract") as held:
        held.check()


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\x80" * 1000,
        b"[" * 60_000,
        b"[1, 2]",
        b"x" * (1 << 20),
        *(
            json.dumps(asdict(lock._new_owner("t", "p", 600.0)) | changes).encode()
            for changes in (
                {"since": 1e300}, {"expires": float("inf")}, {"since": float("nan")},
                {"expires": "soon"}, {"since": -1e18}, {"process": 10**30}, {"process": -1},
                {"process": "../../etc"}, {"host": None}, {"machine": ["x"]}, {"more": 1},
            )
        ),
    ],
)  # fmt: skip
def test_what_no_writer_wrote_is_free(tmp_path, content):
    lock_file(tmp_path).write_bytes(content)
    assert holder(str(tmp_path)) is None
    with hold(str(tmp_path), "erase") as held:
        held.check()
    assert lock_file(tmp_path).read_bytes() == b""


def test_a_lock_of_the_far_future_says_what_to_do(tmp_path):
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() + 1e9)
    with pytest.raises(InputError, match=r"expires on 20\d\d-.*delete .*/_lock"):
        hold(str(tmp_path), "erase").__enter__()
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() + 600)
    with pytest.raises(InputError, match=r"try again when it has finished$"):
        hold(str(tmp_path), "erase").__enter__()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_no_lock(tmp_path, make):
    make(lock_file(tmp_path))
    for use in (hold(str(tmp_path), "erase").__enter__, lambda: holder(str(tmp_path))):
        with pytest.raises(InputError, match="_lock: this is not a regular file"):
            use()


@pytest.mark.parametrize("text", ["precious", ""])
def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path, text):
    (tmp_path / "outside").write_text(text)
    lock_file(tmp_path).symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="_lock: this is not a regular file"):
        hold(str(tmp_path), "erase").__enter__()
    (tmp_path / "outside").rename(tmp_path / "gone")  # a link to nowhere makes nothing there
    with pytest.raises(InputError, match="_lock: this is not a regular file"):
        hold(str(tmp_path), "erase").__enter__()
    assert (tmp_path / "gone").read_text() == text
    assert not (tmp_path / "outside").exists()


def test_a_lock_that_becomes_a_folder_does_not_hide_the_error(tmp_path, caplog):
    with pytest.raises(ZeroDivisionError), hold(str(tmp_path), "erase"):
        lock_file(tmp_path).unlink()
        lock_file(tmp_path).mkdir()
        raise ZeroDivisionError
    assert "the lock could not be released" in caplog.text


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_full_disk_is_told_by_the_name_of_the_lock(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RunError, match=r"_lock: .*No space left on device"):
        lock._take(lock_file(tmp_path), lock._new_owner("t", "p", 600.0))


def test_a_lock_expires_within_a_minute_of_its_last_renewal(tmp_path):
    with hold(str(tmp_path), "extract"):
        assert 0 < written(tmp_path).expires - time.time() <= 60


def test_a_lock_is_waited_for_until_it_is_free(tmp_path, caplog):
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() + 1)
    with caplog.at_level("INFO"), waited_for(20), hold(str(tmp_path), "extract"):
        assert holder(str(tmp_path)).purpose == "extract"
    assert caplog.text.count("waiting for up to 20 seconds") == 1
    assert waiting_seconds() == 0


def test_a_lock_that_is_not_free_in_time_is_refused(tmp_path):
    leave_behind(tmp_path, machine="elsewhere", expires=time.time() + 60)
    begun = time.monotonic()
    with waited_for(0.3), pytest.raises(lock.LockHeldError, match="being changed by 'older run'"):
        hold(str(tmp_path), "extract").__enter__()
    assert 0.3 <= time.monotonic() - begun < 20


def test_the_expiry_is_pushed_on(tmp_path):
    with hold(str(tmp_path), "extract", expiry=0.2):
        first = written(tmp_path).expires
        time.sleep(0.5)
        assert written(tmp_path).expires > first + 0.2


def test_the_expiry_is_pushed_on_again_after_a_moment_in_which_it_could_not_be(
    tmp_path, monkeypatch, caplog
):
    real, refused = os.open, threading.Event()

    def refuse_once(path, *arguments):
        if threading.current_thread().name == "gallery-lock" and not refused.is_set():
            refused.set()
            raise PermissionError(errno.EACCES, "no access")
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refuse_once)
    with hold(str(tmp_path), "extract", expiry=0.5) as held:
        first = written(tmp_path).expires
        assert refused.wait(20)
        deadline = time.monotonic() + 5
        while written(tmp_path).expires == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert written(tmp_path).expires > first
        held.check()
    assert "could not be renewed" in caplog.text


def test_a_lost_lock_is_noticed_and_not_taken_back(tmp_path):
    with hold(str(tmp_path), "extract", expiry=0.2) as held:
        leave_behind(tmp_path, purpose="other", machine="elsewhere", expires=time.time() + 60)
        time.sleep(0.2)
        with pytest.raises(RunError, match=r"lost to 'other'.*run the command again"):
            held.check()
    assert holder(str(tmp_path)).purpose == "other"


def test_a_lock_file_that_was_deleted_is_a_lost_lock(tmp_path):
    with hold(str(tmp_path), "extract") as held:
        lock_file(tmp_path).unlink()
        with pytest.raises(RunError, match="lost to nobody"):
            held.check()


def test_a_folder_that_was_deleted_does_not_hide_the_error(tmp_path):
    folder = tmp_path / "g"
    with pytest.raises(KeyError), hold(str(folder), "extract"):
        lock_file(folder).unlink()
        folder.rmdir()
        raise KeyError


def test_only_one_of_many_takes_a_stale_lock(tmp_path):
    leave_behind(tmp_path, process=os.getpid())
    taken, refused = [], []
    ready, done = threading.Barrier(8), threading.Barrier(8)

    def contend():
        ready.wait()
        try:
            with hold(str(tmp_path), "extract") as held:
                taken.append(held)
                done.wait()
        except InputError as error:
            refused.append(error)
            done.wait()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert len(refused) == 7


def test_processes_are_told_apart_without_proc(tmp_path, monkeypatch):
    assert lock._process_started(os.getpid(), tmp_path) == "running"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert lock._process_started(child.pid, tmp_path) == ""
    assert lock._process_started(child.pid) == ""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert lock._process_started(1, tmp_path) == "running"


def test_a_running_process_that_is_hidden_from_us_holds_its_lock_until_it_expires(
    tmp_path, monkeypatch
):
    """As another user's is where /proc is mounted with hidepid."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "stat").touch()
    started = partial(lock._process_started, system=tmp_path / "proc")
    assert started(os.getpid()) is None
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert started(child.pid) == ""
    leave_behind(tmp_path, process=os.getpid(), expires=time.time() + 60)
    monkeypatch.setattr(lock, "_process_started", started)
    with pytest.raises(InputError, match="older run"), hold(str(tmp_path), "extract"):
        pass
    leave_behind(tmp_path, process=os.getpid(), expires=time.time() - 1)
    with hold(str(tmp_path), "extract") as held:
        held.check()


def test_the_file_is_changed_under_flock_only(tmp_path):
    lock_file(tmp_path).touch()
    taken = threading.Event()

    def take():
        with hold(str(tmp_path), "extract"):
            taken.set()

    with lock_file(tmp_path).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.3)
    assert taken.wait(20)
    thread.join()
