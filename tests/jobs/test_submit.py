"""submit: what is refused here, and what a real cluster makes of the rest."""

import contextlib
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import ray.job_submission
from ray.job_submission import JobStatus

import jobs
from jobs import cli, submit
from jobs.command.job_log import JobLog
from tests.head_node import HeadNode, head_node, lost
from tests.jobs import running

ROOT = Path(__file__).parents[2]

# A verb that answers as it is told, at once or after a while.
SLEEPY = '''
import hashlib, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from pipeline.runs.locations import Location
from pipeline.errors import InputError
from pipeline.gallery.lock_waiting import waiting_seconds

@dataclass(frozen=True)
class Slept:
    seconds: float
    where: str
    waited: float

def sleepy(
    *,
    seconds: float = 0,
    end: str = "well",
    where: Location = "/",
    more: list[Location] | None = None,
    mark: Location | None = None,
) -> Slept:
    """Sleep."""
    print("asleep", flush=True)
    print("and dreaming", file=sys.stderr, flush=True)
    if "HUSH" in os.environ:
        print("of", hashlib.sha256(os.environ["HUSH"].encode()).hexdigest(), flush=True)
    if mark:
        if Path(mark).exists():
            return Slept(0, where, waiting_seconds())
        Path(mark).touch()
    time.sleep(seconds)
    if end == "wrongly":
        raise InputError("it was wrong")
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Slept(seconds, where, waiting_seconds())

def describe(result):
    return f"slept {result.seconds:g} s in {result.where}, having waited {result.waited:g} s"
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This code with one verb more."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("pipeline", "cluster", "jobs"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.onnx")
        )
    (folder / "jobs" / "sleepy.py").write_text(SLEEPY)
    cli = folder / "jobs" / "cli.py"
    cli.write_text(cli.read_text().replace("VERBS = {", 'VERBS = {\n    "sleepy": "Sleep.",', 1))
    return folder


SECONDS = 600.0
"""The longest wait for anything: the machine may have much else to do."""


class Running:
    """One `regallery submit` with its standard error as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.err = ""
        assert process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[str]) -> None:
        while letter := stderr.read(1):
            self.err += letter

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.err:
            assert time.monotonic() < deadline, self.err
            assert self.process.poll() is None, self.err
            time.sleep(0.05)

    def ended(self) -> str:
        """Standard error, once the process has ended."""
        self._reader.join(SECONDS)
        return self.err

    def end(self) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        assert self.process.stdout is not None
        status = self.process.wait(SECONDS)
        return status, self.process.stdout.read(), self.ended()


def start(
    checkout: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    stdin: int | None = None,
) -> Running:
    return Running(
        subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", "submit", *arguments],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


def run(
    checkout: Path, *arguments: str, environment: dict[str, str] | None = None
) -> tuple[int, str, str]:
    return start(checkout, *arguments, environment=environment).end()


def run_on(checkout: Path, head: HeadNode, *arguments: str, **more: str) -> tuple[int, str, str]:
    environment = head.environment | more
    return run(checkout, "--address", head.dashboard, *arguments, environment=environment)


NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def with_sleepy(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb of `checkout` in this process, too."""
    monkeypatch.setitem(cli.VERBS, "sleepy", "Sleep.")
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(checkout / "jobs")])
    monkeypatch.delitem(sys.modules, "jobs.sleepy", raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([NOBODY], "no verb to submit"),
        ([NOBODY, "--", "slepy"], "did you mean sleepy?"),
        ([NOBODY, "--", "sleepy", "--secnds", "3"], "See: regallery sleepy --help"),
        ([NOBODY, "--", "sleepy", "--seconds", "x"], '"x"'),
        ([NOBODY, "--", "submit", "--address", NOBODY, "--", "info"], "cannot submit itself"),
        ([NOBODY, "--", "explore", "--gallery", "/g"], "on the machine where it is started"),
        ([NOBODY, "--", "sleepy", "--where", "here"], "here is relative"),
        ([NOBODY, "--", "sleepy", "--more", "/a", "--more", "there"], "there is relative"),
        (["head:8265", "--", "sleepy"], "as http://host:8265"),
        ([NOBODY, "--list", "--stop", "x"], "give --list or --stop, not both"),
        ([NOBODY, "--attach", "x", "--", "sleepy"], "--attach takes no verb: leave out 'sleepy'"),
        ([NOBODY, "--list", "--name", "x"], "--name has no effect with --list"),
        ([NOBODY, "--retries", "-1", "--", "sleepy"], "--retries is -1: give 0 or more"),
        ([NOBODY, "--retries", "1", "--no-wait", "--", "sleepy"], "leave out --no-wait"),
        ([NOBODY, "--env", "UNSET_HERE", "--", "sleepy"], "--env UNSET_HERE: this shell has no"),
        ([NOBODY, "--env", "A=hush", "--", "sleepy"], "in this shell, and give --env A\n"),
        ([NOBODY, "--env", "hush/", "--", "sleepy"], "--env takes the name of a variable: letters"),
        ([NOBODY, "--", "sleepy", "--where", "s3://a/b"], f"no Ray dashboard answers at {NOBODY}"),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(
    with_sleepy: None, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = running.run(capsys, "submit", "--address", *arguments)
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert "hush" not in err


def test_install_asks_ray_for_the_dependencies(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    class Client:
        """Takes the job and runs nothing: the real thing would install for minutes."""

        def __init__(self, address: str) -> None:
            asked["address"] = os.environ["RAY_API_SERVER_ADDRESS"]

        def submit_job(
            self, *, submission_id: str, runtime_env: dict[str, Any], **more: Any
        ) -> str:
            asked.update(runtime_env, **more)
            asked["files"] = {each.name for each in Path(runtime_env["working_dir"]).iterdir()}
            return submission_id

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    command = ["submit", "--address", "https://head", "--install", "--no-wait"]
    assert cli.main([*command, "--", "info", "--gallery", "/a gallery"]) == 0
    assert re.search(r"info-[0-9a-f]{8} at https://head: submitted", capfd.readouterr().out)
    assert asked["address"] == "https://head"
    assert asked["entrypoint"] == "python -m jobs.cli info --gallery '/a gallery'"
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_memory"]) == (0, 2**30)
    assert asked["entrypoint_resources"] == {"node:__internal_head__": 0.001}
    assert asked["files"] == {"pipeline", "cluster", "jobs", "regallery.dist-info"}
    names = {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in asked["pip"]}
    assert {"torch", "deltalake", "cyclopts"} <= names
    assert not {"ray", "pytest", "s3fs"} & names
    assert not Path(asked["working_dir"]).exists()


class Known:
    """A job server's client that knows the jobs that were submitted to it, and runs none."""

    def __init__(self, address: str = "") -> None:
        self.entrypoints: list[str] = []
        self.jobs: list[Any] = []

    def submit_job(
        self, *, submission_id: str, entrypoint: str, metadata: dict[str, str], **_: Any
    ) -> str:
        self.entrypoints.append(entrypoint)
        self.jobs.append(
            SimpleNamespace(
                submission_id=submission_id, job_id=None, status=JobStatus.RUNNING,
                metadata=metadata, start_time=1_000, end_time=None,
            )
        )  # fmt: skip
        return submission_id

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def get_job_info(self, job: str) -> Any:
        return next(each for each in self.jobs if each.submission_id == job)

    def stop_job(self, job: str) -> None:
        self.get_job_info(job).status = JobStatus.STOPPED


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    client = Known()
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", lambda address: client)
    return client


@pytest.mark.parametrize("flag", ["--attach", "--stop"])
def test_a_job_that_nobody_submitted_is_told(
    known: Known, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = running.refused(capsys, "submit", "--address", NOBODY, flag, "nobody")
    assert f"{flag} nobody: no job submitted to {NOBODY} has this id or name" in told
    assert told.endswith("--list")


def test_json_is_asked_of_the_verb_wherever_it_stands(
    known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = ("info", "--gallery", "/g")
    for arguments in (("--json", "--", *verb), ("--", *verb, "--json")):
        status, out, err = running.run(
            capsys, "submit", "--address", NOBODY, "--no-wait", *arguments
        )
        assert (status, json.loads(out)["status"]) == (0, "SUBMITTED"), err
    assert known.entrypoints == 2 * ["python -m jobs.cli info --gallery /g --json"]


def test_the_version_is_asked_of_the_cluster(
    known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("submit", "--address", NOBODY, "--no-wait", "--", "--version")
    assert running.run(capsys, *asked)[0] == 0
    assert known.entrypoints == ["python -m jobs.cli --version"]


def test_a_name_is_taken_until_its_job_is_stopped_and_all_are_listed(
    known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ("submit", "--address", NOBODY)
    named = (*on, "--name", "night.1", "--no-wait", "--", "info", "/g")
    assert running.run(capsys, *named)[0] == 0
    told = running.refused(capsys, *named)
    assert "--name night.1 is taken: night.1-1 is running" in told
    assert f"--address {NOBODY} --stop night.1-1" in told
    _, out, _ = running.run(capsys, *on, "--stop", "night.1")
    assert out == f"night.1-1 at {NOBODY}: stopped\n"
    assert running.run(capsys, *named)[0] == 0
    _, out, _ = running.run(capsys, *on, "--list")
    heading, first, second = out.splitlines()
    assert heading.split()[:4] == ["id", "name", "verb", "state"]
    assert first.split() == [
        "night.1-1", "night.1", "info", "stopped", "1970-01-01", "00:00:01",
    ]  # fmt: skip
    assert second.split()[:4] == ["night.1-2", "night.1", "info", "running"]


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [("FAILED", 1, 1), ("FAILED", 2, 2), ("FAILED", 137, 1), ("FAILED", None, 1),
     ("STOPPED", None, 1)],
)  # fmt: skip
def test_the_exit_status_is_the_verbs_or_1(ending: str, code: int | None, status: int) -> None:
    details: Any = SimpleNamespace(
        status=JobStatus(ending), driver_exit_code=code, error_type=None, message="m"
    )
    server: Any = SimpleNamespace(address=NOBODY)
    found = submit._ending(server, "n-1", details, JobLog())
    assert (found.status, found.exit_status) == (ending, status)
    assert found.answer is not None
    error = found.answer["error"]
    assert (error["exit_status"], "n-1 at" in error["message"]) == (status, True)


@pytest.mark.parametrize("answer", ["y", "n", "", "ctrl-c"])
def test_ctrl_c_at_a_terminal_asks(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> str:
        if answer == "ctrl-c":
            raise KeyboardInterrupt
        return f"{answer}\n"

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=read))
    server: Any = SimpleNamespace(address=NOBODY, stop=lambda job: "STOPPED")
    found = submit._interrupted(server, "n-1")
    assert (found.status, found.exit_status) == ("STOPPED" if answer == "y" else "RUNNING", 130)
    assert "Stop the job n-1? [y/N] " in capsys.readouterr().err
    assert found.answer is not None
    message = found.answer["error"]["message"]
    assert message.endswith("is stopped" if answer == "y" else "is running")


@pytest.mark.ray
class TestOnCluster:
    """Each job costs seconds, and each command one: they are few, and prove much."""

    def test_a_job_that_was_killed_is_submitted_again_with_its_variable(
        self, checkout: Path, cluster_head: HeadNode, tmp_path: Path
    ) -> None:
        secret = "s3cr3t-of-this-shell"
        config = tmp_path / "run.toml"
        config.write_text(f'[sleepy]\nwhere = "s3://bucket/x"\nmark = "{tmp_path / "mark"}"\n')
        status, out, err = run_on(
            checkout, cluster_head, "--verbose", "--env", "HUSH", "--retries", "2", "--",
            "sleepy", "--end", "killed", "--config", str(config), HUSH=secret, RAY_ADDRESS=NOBODY,
        )  # fmt: skip
        assert (status, out.count("asleep\n"), err.count("submitted to ")) == (0, 2, 2), err
        (told,) = told_of_failures(err)
        assert "failed with exit code 137" in told
        assert "reserve more with --driver-memory" in told
        assert err.count("submitting it again (1 of 2)") == 1
        # The second time, it waits until a lock that the first one left has expired.
        assert "and dreaming\n" in out
        assert "slept 0 s in s3://bucket/x, having waited 90 s\n" in out
        assert out.endswith("succeeded\n")
        # The variable arrived both times, and was not shown.
        assert out.count(hashlib.sha256(secret.encode()).hexdigest()) == 2
        assert secret not in out + err

    def test_wrong_input_comes_back_and_is_not_submitted_again(
        self, checkout: Path, cluster_head: HeadNode
    ) -> None:
        found, out, err = run_on(
            checkout, cluster_head, "--retries", "3", "--json", "--", "sleepy", "--end", "wrongly"
        )
        assert (found, err.count("submitted to")) == (2, 1), err
        error = json.loads(out)["error"]
        assert (error["exit_status"], error["message"]) == (2, "it was wrong")
        # The message that follows the log: Ray's words, the end of the log, and what to do.
        (told,) = told_of_failures(err)
        assert "Job entrypoint command failed with exit code" in told
        assert "the end of its log:\n" in told and "\n    and dreaming\n" in told
        assert "correct what the log says is wrong" in told.split("what to do next: ")[1]
        assert f"--address {cluster_head.dashboard} --attach sleepy-" in told

    def test_missing_token_is_told(self, checkout: Path, cluster_head: HeadNode) -> None:
        status, out, err = run_on(checkout, cluster_head, "--", "sleepy", RAY_AUTH_MODE="disabled")
        assert (status, out) == (2, "")
        assert "asks for a token: set RAY_AUTH_MODE=token" in err

    def test_a_job_is_named_followed_left_and_stopped(
        self, checkout: Path, cluster_head: HeadNode, tmp_path: Path
    ) -> None:
        mark, address = tmp_path / "mark", cluster_head.dashboard
        command = ("--name", "night.1", "--no-wait", "--", "sleepy", "--seconds", "3000",
                   "--mark", str(mark))  # fmt: skip
        status, out, err = run_on(checkout, cluster_head, "--json", *command)
        answer = json.loads(out)
        assert (status, answer["job"], answer["status"]) == (0, "night.1-1", "SUBMITTED"), err
        follow = f"submit --address {address} --attach night.1-1"
        assert f"follow it with: regallery {follow}" in err
        wait_for_file(mark)  # then it has written to its log
        # A reader that leaves is told where the job goes on.
        environment = cluster_head.environment
        leaving = start(checkout, *follow.split()[1:], environment=environment)
        assert leaving.process.stdout is not None
        leaving.process.stdout.close()
        assert leaving.process.wait(SECONDS) == 141, leaving.err
        assert "standard output was closed, and the job runs on" in leaving.ended()
        # Ctrl-C without a terminal leaves the job running.
        following = ("--address", address, "--attach", "night.1", "--json")
        left = start(checkout, *following, environment=environment)
        left.wait_for("and dreaming")
        left.process.send_signal(signal.SIGINT)
        status, out, err = left.end()
        assert status == 130, err
        error = json.loads(out)["error"]
        assert (error["type"], error["exit_status"]) == ("Interrupted", 130)
        assert "the job runs on; follow it with: regallery submit --address" in err
        assert f"stop it with: regallery submit --address {address} --stop night.1-1\n" in err
        # At a terminal it asks; that it stops the job shows that it was running.
        with terminal() as (ours, theirs):
            asked = start(checkout, *following, environment=environment, stdin=theirs)
            asked.wait_for("and dreaming")
            asked.process.send_signal(signal.SIGINT)
            asked.wait_for("[y/N] ")
            os.write(ours, b"y\n")
            status, _, err = asked.end()
        assert (status, "the job runs on" in err) == (130, False), err
        status, out, err = run_on(checkout, cluster_head, "--list", "--json")
        newest = json.loads(out)["jobs"][0]
        assert newest.pop("started") <= newest.pop("ended")
        assert newest == {
            "id": "night.1-1", "name": "night.1", "verb": "sleepy", "state": "STOPPED",
            "gallery": None,
        }  # fmt: skip


def told_of_failures(err: str) -> list[str]:
    return err.split("\nerror: sleepy-")[1:]


@pytest.mark.ray
@pytest.mark.slow
def test_a_head_that_dies_is_told_or_waited_for(
    checkout: Path, dying_head: HeadNode, tmp_path: Path
) -> None:
    """Two follow a job of it; the head in its place has no CPUs, and runs the job all the same."""
    address, environment = dying_head.dashboard, dying_head.environment
    (tmp_path / "run.toml").write_text('[sleepy]\nwhere = "/there"\n')
    patient = start(
        checkout, "--address", address, "--name", "n", "--retries", "1", "--json", "--",
        "sleepy", "--seconds", "3000", "--mark", str(tmp_path / "mark"),
        f"--config={tmp_path / 'run.toml'}", environment=environment,
    )  # fmt: skip
    wait_for_file(tmp_path / "mark")
    follow = ("--address", address, "--json", "--attach", "n")
    hasty = start(checkout, *follow, environment=environment)
    hasty.wait_for("and dreaming")
    assert dying_head.process is not None
    lost(dying_head.process)
    status, out, err = hasty.end()
    assert status == 1, err
    message = json.loads(out)["error"]["message"]
    assert message.startswith(f"lost the connection to {address}")
    assert "the job runs on" in message
    patient.wait_for("does not answer; asking for 600 s")
    with head_node(num_cpus=0, again=dying_head):
        status, out, err = patient.end()
    assert status == 0, err
    # The verb's own object, and nothing else.
    assert json.loads(out) == {"seconds": 0.0, "where": "/there", "waited": 90.0}
    assert out.count("\n") == 1
    assert "and dreaming" in err
    assert "does not know n-1 any more" in err
    assert "submitting it again (1 of 1)" in err


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)
