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
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pytest
import ray.job_submission

from jobs import cli
from tests.head_node import HeadNode, head_node

ROOT = Path(__file__).parents[2]

# A verb that answers as it is told, at once or after a while.
SLEEPY = '''
import hashlib, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from pipeline.runs.locations import Location
from pipeline.errors import InputError, RunError
from pipeline.gallery.log.lock import waiting_seconds

@dataclass(frozen=True)
class Slept:
    seconds: float
    where: str

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
    if mark:
        if Path(mark).exists():
            return Slept(0, str(waiting_seconds()))
        Path(mark).touch()
    time.sleep(seconds)
    if end == "badly":
        raise RunError("it went badly")
    if end == "wrongly":
        raise InputError("it was wrong")
    if end == "told":
        raise RunError("hash " + hashlib.sha256(os.environ["HUSH"].encode()).hexdigest())
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Slept(seconds, where)

def describe(result):
    return f"slept {result.seconds:g} s in {result.where}"
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

    def wait_for(self, text: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.err:
            assert time.monotonic() < deadline, self.err
            assert self.process.poll() is None, self.err
            time.sleep(0.05)

    def ended(self) -> str:
        """Standard error, once the process has ended."""
        self._reader.join(90)
        return self.err

    def end(self, seconds: float = 90) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        status = self.process.wait(seconds)
        return status, out, self.ended()


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

ADVICE = {
    "wrongly": "correct what the log says is wrong",
    "badly": "submit the same command again: it goes on from what was finished",
    "killed": "reserve more with --driver-memory",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([NOBODY], "no verb to submit"),
        ([NOBODY, "--", "slepy"], "did you mean sleepy?"),
        ([NOBODY, "--", "sleepy", "--secnds", "3"], "See: regallery sleepy --help"),
        ([NOBODY, "--", "sleepy", "--seconds", "x"], '"x"'),
        ([NOBODY, "--", "submit", "--address", NOBODY, "--", "info"], "cannot submit itself"),
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
    checkout: Path, arguments: list[str], message: str
) -> None:
    status, out, err = run(checkout, "--address", *arguments)
    assert status == 2, err
    assert out == ""
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


@pytest.mark.ray
class TestOnCluster:
    def test_job_shows_its_log_and_ends_as_the_verb_does(
        self, checkout: Path, cluster_head: HeadNode
    ) -> None:
        elsewhere = {**cluster_head.environment, "RAY_ADDRESS": NOBODY}
        status, out, err = run(
            checkout, "--address", cluster_head.dashboard, "--", "sleepy", environment=elsewhere
        )
        assert status == 0, err
        assert "asleep\nand dreaming\nslept 0 s in /\n" in out
        assert out.endswith("succeeded\n")
        assert err.startswith("submitted to ")

    def test_json_is_the_verbs_own(self, checkout: Path, cluster_head: HeadNode) -> None:
        for arguments in (["--json", "--", "sleepy"], ["--", "sleepy", "--json"]):
            status, out, err = run(
                checkout, "--address", cluster_head.dashboard, *arguments,
                environment=cluster_head.environment,
            )  # fmt: skip
            assert status == 0, err
            assert json.loads(out) == {"seconds": 0.0, "where": "/"}
            assert out.count("\n") == 1
            assert "and dreaming" in err

    @pytest.mark.parametrize(
        ("end", "status", "message"),
        [
            ("wrongly", 2, "it was wrong"),
            ("badly", 1, "it went badly (rerun with -v for the traceback)"),
            ("killed", 1, "failed with exit code 137"),
        ],
    )
    def test_failures_come_back(
        self, checkout: Path, cluster_head: HeadNode, end: str, status: int, message: str
    ) -> None:
        flags = ["--retries", "3"] if status == 2 else []
        found, out, err = run_on(
            checkout, cluster_head, *flags, "--json", "--", "sleepy", "--end", end
        )
        assert found == status, err
        assert err.count("submitted to") == 1
        error = json.loads(out)["error"]
        assert error["exit_status"] == status
        assert message in error["message"]
        # The message that follows the log: Ray's words, the end of the log, and what to do.
        told = err.split("\nerror: sleepy-")[1]
        assert "Job entrypoint command failed with exit code" in told
        assert "the end of its log:\n" in told and "\n    and dreaming\n" in told
        assert ADVICE[end] in told.split("what to do next: ")[1]
        assert f"--address {cluster_head.dashboard} --attach sleepy-" in told

    def test_configuration_and_version_go_along(
        self, checkout: Path, cluster_head: HeadNode, tmp_path: Path
    ) -> None:
        config = tmp_path / "run.toml"
        config.write_text('[sleepy]\nwhere = "s3://bucket/x"\n')
        to = ["--address", cluster_head.dashboard]
        environment = cluster_head.environment
        for given in (["--config", str(config)], [f"--config={config}"]):
            status, out, err = run(checkout, *to, "--", "sleepy", *given, environment=environment)
            assert status == 0, err
            assert "slept 0 s in s3://bucket/x" in out
        status, out, err = run(checkout, *to, "--", "--version", environment=environment)
        assert (status, f"regallery {metadata.version('regallery')}\n" in out) == (0, True), err

    def test_missing_token_is_told(self, checkout: Path, cluster_head: HeadNode) -> None:
        environment = {**cluster_head.environment, "RAY_AUTH_MODE": "disabled"}
        status, out, err = run(
            checkout, "--address", cluster_head.dashboard, "--", "sleepy", environment=environment
        )
        assert (status, out) == (2, "")
        assert "asks for a token: set RAY_AUTH_MODE=token" in err

    def test_without_waiting_the_job_is_named(self, checkout: Path, cluster_head: HeadNode) -> None:
        status, out, err = run(
            checkout, "--address", cluster_head.dashboard, "--no-wait", "--json", "--", "sleepy",
            environment=cluster_head.environment,
        )  # fmt: skip
        assert status == 0, err
        answer = json.loads(out)
        assert answer["status"] == "SUBMITTED"
        follow = f"submit --address {cluster_head.dashboard} --attach {answer['job']}"
        assert f"follow it with: regallery {follow}" in err

    def test_ctrl_c_without_a_terminal_leaves_the_job_running(
        self, checkout: Path, cluster_head: HeadNode
    ) -> None:
        running = start(
            checkout, "--address", cluster_head.dashboard, "--json", "--", "sleepy",
            "--seconds", "300", environment=cluster_head.environment,
        )  # fmt: skip
        running.wait_for("and dreaming")
        running.process.send_signal(signal.SIGINT)
        status, out, err = running.end()
        assert status == 130, err
        error = json.loads(out)["error"]
        assert (error["type"], error["exit_status"]) == ("Interrupted", 130)
        assert "the job runs on; follow it with: regallery submit --address" in err
        # The command that is told does stop it, which also shows that it was running.
        stop = err.split("stop it with: regallery submit ")[1].split()
        status, out, err = run(checkout, *stop, environment=cluster_head.environment)
        assert (status, out.endswith(": stopped\n")) == (0, True), err

    @pytest.mark.parametrize("answer", ["y", "n", "ctrl-c"])
    def test_ctrl_c_at_a_terminal_asks(
        self, checkout: Path, cluster_head: HeadNode, answer: str
    ) -> None:
        with terminal() as (ours, theirs):
            running = start(
                checkout, "--address", cluster_head.dashboard, "--json", "--", "sleepy",
                "--seconds", "300", environment=cluster_head.environment, stdin=theirs,
            )  # fmt: skip
            running.wait_for("and dreaming")
            running.process.send_signal(signal.SIGINT)
            running.wait_for("[y/N] ")
            if answer == "ctrl-c":
                running.process.send_signal(signal.SIGINT)
            else:
                os.write(ours, f"{answer}\n".encode())
            status, out, err = running.end()
        assert status == 130, err
        message = json.loads(out)["error"]["message"]
        assert message.endswith("is stopped" if answer == "y" else "is running")
        assert ("the job runs on" in err) == (answer != "y")

    def test_reader_that_leaves_is_told_where_the_job_goes_on(
        self, checkout: Path, cluster_head: HeadNode
    ) -> None:
        running = start(
            checkout, "--address", cluster_head.dashboard, "--", "sleepy", "--seconds", "5",
            environment=cluster_head.environment,
        )  # fmt: skip
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(90) == 141, running.err
        assert "standard output was closed, and the job runs on" in running.ended()

    def test_jobs_are_named_listed_stopped_and_followed_later(
        self, checkout: Path, cluster_head: HeadNode, tmp_path: Path
    ) -> None:
        mark = tmp_path / "mark"
        command = ("--name", "night.1", "--no-wait", "--", "sleepy", "--seconds", "300",
                   "--mark", str(mark))  # fmt: skip
        status, out, err = run_on(checkout, cluster_head, "--json", *command)
        assert (status, json.loads(out)["job"]) == (0, "night.1-1"), err
        status, out, err = run_on(checkout, cluster_head, *command)
        assert (status, out) == (2, "")
        assert "--name night.1 is taken: night.1-1 is " in err
        assert f"--address {cluster_head.dashboard} --stop night.1-1" in err
        deadline = time.monotonic() + 90
        while not mark.exists():  # then it has written to its log
            assert time.monotonic() < deadline
            time.sleep(0.1)
        status, out, err = run_on(checkout, cluster_head, "--stop", "night.1")
        assert (status, out) == (0, f"night.1-1 at {cluster_head.dashboard}: stopped\n"), err
        status, out, err = run_on(checkout, cluster_head, "--list", "--json")
        newest = json.loads(out)["jobs"][0]
        assert newest.pop("started") <= newest.pop("ended")
        assert newest == {
            "id": "night.1-1", "name": "night.1", "verb": "sleepy", "state": "STOPPED",
            "gallery": None,
        }  # fmt: skip
        status, out, err = run_on(checkout, cluster_head, "--list")
        heading, first, *_ = out.splitlines()
        assert heading.split()[:4] == ["id", "name", "verb", "state"]
        assert first.split()[:4] == ["night.1-1", "night.1", "sleepy", "stopped"]
        status, out, err = run_on(checkout, cluster_head, "--attach", "night.1-1")
        assert (status, "asleep\n" in out) == (1, True), err
        assert "night.1-1 at " in err.split("error: ")[1]

    @pytest.mark.parametrize("flag", ["--attach", "--stop"])
    def test_a_job_that_nobody_submitted_is_told(
        self, checkout: Path, cluster_head: HeadNode, flag: str
    ) -> None:
        status, _, err = run_on(checkout, cluster_head, flag, "nobody")
        assert status == 2
        told = f"{flag} nobody: no job submitted to {cluster_head.dashboard} has this id or name"
        assert told in err
        assert err.endswith("--list\n")

    def test_a_job_that_failed_is_submitted_again_with_its_variable(
        self, checkout: Path, cluster_head: HeadNode, tmp_path: Path
    ) -> None:
        secret = "s3cr3t-of-this-shell"
        status, out, err = run_on(
            checkout, cluster_head, "--verbose", "--env", "HUSH", "--retries", "2", "--",
            "sleepy", "--end", "told", "--mark", str(tmp_path / "mark"), HUSH=secret,
        )  # fmt: skip
        assert (status, out.count("asleep\n")) == (0, 2), err
        # The second time, it waits until a lock that the first one left has expired.
        assert "slept 0 s in 90.0\n" in out
        assert err.count("submitting it again (1 of 2)") == 1
        # The variable arrived, and was not shown.
        assert hashlib.sha256(secret.encode()).hexdigest() in out
        assert secret not in out + err


@pytest.mark.ray
@pytest.mark.slow
def test_lost_connection_is_told(checkout: Path) -> None:
    with head_node() as node:
        running = start(
            checkout, "--address", node.dashboard, "--json", "--", "sleepy", "--seconds", "300",
            environment=node.environment,
        )  # fmt: skip
        running.wait_for("and dreaming")
    status, out, err = running.end()
    assert status == 1, err
    message = json.loads(out)["error"]["message"]
    assert message.startswith(f"lost the connection to {node.dashboard}")
    assert "the job runs on" in message


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_outlives_a_head_without_cpus(checkout: Path, tmp_path: Path) -> None:
    with head_node(num_cpus=0) as node:
        running = start(
            checkout, "--address", node.dashboard, "--name", "n", "--retries", "1", "--",
            "sleepy", "--seconds", "300", "--mark", str(tmp_path / "mark"),
            environment=node.environment,
        )  # fmt: skip
        running.wait_for("submitted to")
        deadline = time.monotonic() + 90
        while not (tmp_path / "mark").exists():
            assert time.monotonic() < deadline, running.err
            time.sleep(0.1)
    running.wait_for("does not answer; asking for 600 s")
    with head_node(num_cpus=0, again=node):
        status, out, err = running.end()
    assert status == 0, err
    assert "slept 0 s in 90.0\n" in out
    assert "does not know n-1 any more" in err
    assert "submitting it again (1 of 1)" in err


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)
