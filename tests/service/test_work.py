"""Jobs in threads, and the streams that follow them."""

import json
import threading
import time

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.table import Gallery
from pipeline.runs.verdicts import give_verdict
from pipeline.service.faults import Refused
from pipeline.service.work import ServiceWork
from tests.service.asking import client, message
from tests.service.listening import connect, listening_service, request_head


def ended(job):
    for _ in range(500):
        if job.state != "running":
            return job
        time.sleep(0.01)
    raise AssertionError("it does not end")


def test_a_job_tells_its_progress_and_its_result():
    work, go, seen = ServiceWork(), threading.Event(), threading.Event()

    def task(progress):
        step = progress("counting", 3)
        step(2)
        seen.set()
        go.wait(5)
        return {"rows": 7}

    job = work.start("test", task)
    assert seen.wait(5)
    assert (job.state, job.progress.done, job.progress.total) == ("running", 2, 3)
    go.set()
    assert ended(job).result == {"rows": 7}
    assert work.find(job.job) is job
    with pytest.raises(Refused, match="there is no job nothing"):
        work.find("nothing")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("no rows"), "no rows"),
        (RunError("disk full"), "disk full"),
        (ValueError("/secret"), "the service failed; its log says why"),
    ],
)
def test_a_job_that_fails_says_why(error, told):
    def task(progress):
        raise error

    job = ended(ServiceWork().start("test", task))
    assert (job.state, job.error) == ("failed", told)


def test_work_of_one_key_is_done_once_and_again_after_a_failure():
    work, calls = ServiceWork(), []

    def task(progress):
        calls.append(1)
        if len(calls) == 1:
            raise InputError("the first time")
        return len(calls)

    ended(work.start("test", task, key="k"))
    with pytest.raises(InputError, match="the first time"):
        work.result("test", "k", task)
    assert ended(work.result("test", "k", task)).result == 2
    assert work.result("test", "k", task).result == 2
    assert ended(work.result("test", "other", task)).result == 3


def test_many_jobs_wait_and_too_many_are_refused():
    work, go = ServiceWork(), threading.Event()
    running, most = [], []

    def task(progress):
        running.append(1)
        most.append(len(running))
        go.wait(5)
        running.pop()

    jobs = [work.start("test", task, must_finish=True) for _ in range(50)]
    with pytest.raises(Refused, match="jobs are at work or wait"):
        work.start("test", task)
    go.set()
    work.finish()
    assert {job.state for job in jobs} == {"done"}
    assert max(most) == 2
    for _ in range(200):
        work.start("test", lambda progress: None, must_finish=True)
        work.finish()
    with pytest.raises(Refused):
        work.find(jobs[0].job)


def test_a_job_is_shown_and_streamed(yard):
    asked = client(yard)
    work = asked.app.state.service.work

    def task(progress):
        step = progress("counting", 2)
        for _ in range(2):
            time.sleep(0.15)
            step(1)
        return "end"

    job = work.start("test", task)
    first = asked.get(f"/v1/jobs/{job.job}").json()
    assert (first["job"], first["kind"], first["state"]) == (job.job, "test", "running")
    with asked.stream(
        "GET", f"/v1/jobs/{job.job}", headers={"Accept": "text/event-stream"}
    ) as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in told.iter_lines() if line.startswith("data: ")]
    states = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert states[-1]["state"] == "done" and states[-1]["result"] == "end"
    assert states[-1]["progress"] == {"done": 2, "total": 2, "label": "counting"}
    assert len(states) > 1
    assert "there is no job x" in message(asked.get("/v1/jobs/x"), 404)


def read_until(connection, word):
    found = b""
    while word not in found:
        part = connection.recv(65_536)
        assert part, found
        found += part
    return found


def test_new_verdicts_are_told_within_two_seconds(shelf, place):
    with listening_service(shelf) as port, connect(port) as follower:
        follower.sendall(request_head("/v1/events", method="GET"))
        read_until(follower, b": listening")
        start = time.monotonic()
        give_verdict(Gallery.open(str(place / "yard")), 0, 1, "same", who="ann")
        told = read_until(follower, b'"yard"')
        assert b'data: {"gallery":"yard","version":1,"verdicts":1}' in told
        assert time.monotonic() - start < 2.5


def test_a_service_stops_with_streams_open(yard):
    start = time.monotonic()
    with listening_service(yard) as port:
        follower = connect(port)
        follower.sendall(request_head("/v1/events", method="GET"))
        read_until(follower, b": listening")
        start = time.monotonic()
    assert time.monotonic() - start < 3
    follower.close()


def test_verdicts_of_the_service_itself_are_told_too(shelf):
    with listening_service(shelf, allow_verdicts=True) as port, connect(port) as follower:
        follower.sendall(request_head("/v1/events", method="GET"))
        read_until(follower, b": listening")
        body = b'{"a": 0, "b": 1, "verdict": "same"}'
        with connect(port) as giver:
            kind = ("Content-Type: application/json", f"Content-Length: {len(body)}")
            giver.sendall(request_head("/v1/galleries/yard/verdicts", *kind) + body)
            assert b" 200 " in giver.recv(65_536)
        assert b'"verdicts":1}' in read_until(follower, b'"yard"')


def test_what_must_finish_is_finished_before_the_end(yard):
    def task(progress):
        time.sleep(0.4)
        return "end"

    with client(yard) as asked:
        work = asked.app.state.service.work
        must = work.start("erasure", task, must_finish=True)
        assert must.state == "running"
    assert (must.state, must.result) == ("done", "end")


@pytest.mark.parametrize("fault", [ZeroDivisionError(), RunError("the disk is full")])
def test_a_failure_of_the_service_is_no_fault_of_the_request(fault):
    work = ServiceWork()

    def fail(_progress):
        raise fault

    ended(work.start("map", fail, key="a"))
    with pytest.raises(RunError):
        work.result("map", "a", fail)
