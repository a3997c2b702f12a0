"""submit: what is refused here, and what a real cluster makes of the rest."""

import contextlib
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
import sys, time
from dataclasses import dataclass
from pipeline.runs.locations import Location
from pipeline.errors import InputError, RunError

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
) -> Slept:
    """Sleep."""
    print("asleep", flush=True)
    print("and dreaming", file=sys.stderr, flush=True)
    time.sleep(seconds)
    if end == "badly":
        raise RunError("it went badly")
    if end == "wrongly":
        raise InputError("it was wrong")
    if end == "killed":
        import os, signal
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


NOBODY = "http://127.0.0.1:1"


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


def test_install_asks_ray_for_the_dependencies(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    class Client:
        """Takes the job and runs nothing: the real thing would install for minutes."""

        def __init__(self, address: str) -> None:
            asked["address"] = os.environ["RAY_API_SERVER_ADDRESS"]

        def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any]) -> str:
            asked.update(runtime_env, entrypoint=entrypoint)
            asked["files"] = {each.name for each in Path(runtime_env["working_dir"]).iterdir()}
            return "job_1"

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    command = ["submit", "--address", "https://head", "--install", "--no-wait"]
    assert cli.main([*command, "--", "info", "--gallery", "/a gallery"]) == 0
    assert "job_1 at https://head: submitted" in capfd.readouterr().out
    assert asked["address"] == "https://head"
    assert asked["entrypoint"] == "python -m jobs.cli info --gallery '/a gallery'"
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
        found, out, err = run(
            checkout, "--address", cluster_head.dashboard, "--json", "--", "sleepy", "--end", end,
            environment=cluster_head.environment,
        )  # fmt: skip
        assert found == status, err
        error = json.loads(out)["error"]
        assert error["exit_status"] == status
        assert message in error["message"]

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
        assert f"ray job logs --follow --address {cluster_head.dashboard} {answer['job']}" in err

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
        assert "the job runs on; follow it with: ray job logs --follow" in err
        # The command that is told does stop it, which also shows that it was running.
        stop = err.split("stop it with: ")[1].split()
        stopped = subprocess.run(
            stop, env=cluster_head.environment, capture_output=True, text=True, timeout=90
        )
        assert stopped.returncode == 0, stopped.stderr
        assert "was stopped" in stopped.stdout + stopped.stderr

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


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)
