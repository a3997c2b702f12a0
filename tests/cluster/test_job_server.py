"""The job server where it fails; the real one is in `tests/jobs/test_submit.py`."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from cluster import job_server
from cluster.job_order import Order
from cluster.job_server import JobForgottenError, JobServer
from pipeline.errors import InputError, RunError

ADDRESS = "http://head:8265"
ORDER = Order(("info",), Path("/tmp"), verb="info", environment={"TOKEN": "hunter2"})
NAMED = Order(("info",), Path("/tmp"), verb="info", name="n")


def details(job: str, status: JobStatus = JobStatus.SUCCEEDED) -> Any:
    return SimpleNamespace(
        submission_id=job, job_id=None, status=status, message="", start_time=1, end_time=None,
        metadata={"job_name": job.rpartition("-")[0]},
    )  # fmt: skip


class Client:
    """A job server that gives the listed answers in turn; it raises those that are errors."""

    def __init__(self, submits: list[Any] = [], jobs: list[Any] = [], logs: list[Any] = []) -> None:  # noqa: B006
        self.submits, self.jobs, self.logs = list(submits), list(jobs), list(logs)

    def submit_job(self, *, submission_id: str, **_: Any) -> str:
        answer = self.submits.pop(0) if self.submits else submission_id
        if isinstance(answer, Exception):
            raise answer
        self.jobs.append(details(submission_id))
        return submission_id

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def get_job_info(self, job: str) -> Any:
        for each in self.jobs:
            if each.submission_id == job:
                return each
        raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")

    async def tail_job_logs(self, job: str) -> Any:
        for each in self.logs.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(job_server, "_STOP_SECONDS", 0.01)


def server(client: Any) -> JobServer:
    return JobServer(ADDRESS, client)


def test_a_refusal_is_told_without_secrets() -> None:
    client = Client([RuntimeError("status code 400: hunter2 is wrong")])
    with pytest.raises(
        RunError, match=r"nothing was submitted to .*: status code 400: \*\*\*"
    ) as told:
        server(client).submit(ORDER)
    assert told.value.__cause__ is None


def test_a_server_that_is_not_ready_is_asked_again() -> None:
    client = Client([RuntimeError("status code 500: No available agent"), "taken"])
    job = server(client).submit(ORDER, patience=20)
    assert client.get_job_info(job).submission_id == job


def test_a_job_whose_answer_was_lost_is_not_submitted_twice() -> None:
    client = Client()
    submit = client.submit_job

    def lose(**asked: Any) -> str:
        submit(**asked)
        raise ConnectionError("reset by peer")

    client.submit_job = lose  # type: ignore[method-assign]
    job = server(client).submit(ORDER)
    assert [each.submission_id for each in client.jobs] == [job]


def test_a_number_that_another_one_took_is_passed_over() -> None:
    client = Client([RuntimeError("status code 400: Job with submission_id n-1 already exists.")])
    taken = client.submit_job

    def take(*, submission_id: str, **asked: Any) -> str:
        if submission_id == "n-1":
            client.jobs.append(details("n-1"))
        return taken(submission_id=submission_id, **asked)

    client.submit_job = take  # type: ignore[method-assign]
    assert server(client).submit(NAMED) == "n-2"


def test_a_name_is_free_again_when_its_job_has_ended() -> None:
    assert server(Client(jobs=[details("n-7")])).submit(NAMED) == "n-8"
    with pytest.raises(InputError, match="`name` n is taken: n-8 is pending"):
        server(Client(jobs=[details("n-8", JobStatus.PENDING)])).submit(NAMED)


def test_a_log_that_breaks_off_goes_on_where_it_was() -> None:
    running = details("n-1", JobStatus.RUNNING)
    shown: list[str] = []

    def take(text: str) -> None:
        shown.append(text)
        if "three" in text:
            running.status = JobStatus.SUCCEEDED

    # The agent of the machine is lost, then the log merely ends, then it goes on to the end.
    logs = [["one\n", "tw", ConnectionError()], ["one\n"], ["one\ntwo\n", "three\n"]]
    assert server(Client(jobs=[running], logs=logs)).follow("n-1", take) is running
    assert "".join(shown) == "one\ntwo\nthree\n"


def test_a_job_of_which_the_server_knows_nothing_is_told() -> None:
    with pytest.raises(JobForgottenError, match=r"does not know n-1 any more.*submit it again"):
        server(Client(logs=[[ConnectionError()]])).follow("n-1", print)


def test_an_error_of_the_reader_is_its_own() -> None:
    def full(_: str) -> None:
        raise RunError("disk full")

    client = Client(jobs=[details("n-1")], logs=[["one\n"]])
    with pytest.raises(RunError, match=r"^disk full$"):
        server(client).follow("n-1", full)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (JobStatus.RUNNING, "n-1 may still run: it should have ended, yet is running"),
        (
            JobStatus.PENDING,
            "n-1 may still run: it waits for room on the cluster; Ray stops it when",
        ),
    ],
)
def test_a_job_that_does_not_end_is_told(status: JobStatus, message: str) -> None:
    client = Client(jobs=[details("n-1", status)])
    client.stop_job = lambda job: True  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=message):
        server(client).stop("n-1")


def test_a_head_that_does_not_answer_in_time_is_told() -> None:
    client = Client(logs=[[ConnectionError("reset")]])
    client.get_job_info = lambda job: (_ for _ in ()).throw(OSError("gone"))  # type: ignore[method-assign]
    told = r"lost the connection to .* \(reset\); if its head lives.*--attach n-1; otherwise submit"
    with pytest.raises(RunError, match=told):
        server(client).follow("n-1", print)


def test_only_rays_own_messages_are_hidden() -> None:
    """Of the handlers of Ray's logger, others keep their level."""
    logger = logging.getLogger("ray")
    other = logging.NullHandler()
    logger.addHandler(other)
    try:
        with pytest.raises(InputError, match="no Ray dashboard answers"):
            job_server.connected("http://127.0.0.1:1")
        of_ray = [each for each in logger.handlers if type(each).__module__ == "ray._private.log"]
        assert [each.level for each in of_ray] == [logging.WARNING]
        assert other.level == logging.NOTSET
    finally:
        logger.removeHandler(other)


def test_an_unreadable_list_is_told() -> None:
    client = Client()
    client.list_jobs = lambda: (_ for _ in ()).throw(OSError("gone"))  # type: ignore[method-assign]
    with pytest.raises(RunError, match="its jobs cannot be listed: gone"):
        server(client).jobs()


def test_a_program_that_joined_by_itself_is_listed_and_not_found() -> None:
    program = details("x")
    program.submission_id, program.job_id, program.metadata = None, "02000000", None
    found = server(Client(jobs=[program]))
    assert [(each.id, each.verb) for each in found.jobs()] == [("02000000", None)]
    with pytest.raises(
        InputError, match=r"--attach 02000000: no job submitted to .* see regallery"
    ):
        found.find("02000000", "--attach")
