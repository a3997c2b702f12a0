"""submit: the same verb as a Ray job on a cluster."""

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints
from urllib.parse import urlsplit

from cyclopts import Parameter

from jobs.cli import INTERRUPTED, Call, parse
from jobs.command.console import ReaderGone, is_json_wanted, tell, write
from jobs.command.printable import printable
from pipeline.errors import InputError, RunError
from pipeline.runs.locations import LOCATION

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_log = logging.getLogger(__name__)

_PACKAGES = ("pipeline", "cluster", "jobs")
_CONFIG = "config.toml"
_STOP_SECONDS = 60.0
_SILENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Submitted:
    """A job on a cluster: how it ended, and its answer under `--json`."""

    job: str
    address: str
    status: str
    exit_status: int = 0
    answer: dict[str, Any] | None = None


def submit(
    *command: str,
    address: str,
    wait: bool = True,
    install: Annotated[bool, Parameter(negative=())] = False,
) -> Submitted:
    """Run a verb as a Ray job on a cluster.

    Put two dashes before the verb and its arguments. They are checked on
    this machine before anything is submitted. This code is uploaded; its
    dependencies must be installed on the cluster (or see --install). Give
    paths as the cluster sees them: absolute paths, or URLs. Ctrl-C asks
    whether to stop the job. The exit status is that of the job.

    For example:

        regallery submit --address http://head:8265 -- \\
            info --gallery /mnt/shared/gallery

    Args:
        command: The verb and its arguments.
        address: URL of the cluster's dashboard, such as http://host:8265.
        wait: Follow the job until it ends.
        install: Let Ray install the dependencies for the job; the first time takes
            minutes.
    """
    call = _checked(command)
    with _staged(command, call.config) as (folder, arguments):
        environment: dict[str, Any] = {"working_dir": str(folder)}
        if install:
            environment["pip"] = _requirements()
        client = _client(address)
        try:
            job = client.submit_job(
                entrypoint=shlex.join(["python", "-m", "jobs.cli", *arguments]),
                runtime_env=environment,
            )
        except (OSError, RuntimeError) as error:
            raise RunError(f"nothing was submitted to {address}: {error}") from error
    _log.info("submitted to %s as %s", address, job)
    if not wait:
        _log.info("follow it with: %s", _ray_job("logs --follow", address, job))
        return Submitted(job, address, "SUBMITTED")
    return _follow(client, address, job)


def describe(result: Submitted) -> str:
    """How the job ended; printed below its own output."""
    ending = f", exit status {result.exit_status}" if result.exit_status else ""
    return f"{result.job} at {result.address}: {result.status.lower()}{ending}"


def _checked(command: Sequence[str]) -> Call:
    """Parse the verb here, where a mistake costs nothing."""
    if not command:
        raise InputError("no verb to submit: put it after two dashes, as in `submit ... -- info`")
    call = parse(command)
    if call.verb == "submit":
        raise InputError("submit cannot submit itself: name another verb")
    if call.verb is None:
        return call
    hints = get_type_hints(call.function, include_extras=True)
    for name, value in call.bound.arguments.items():
        for location in _locations(hints.get(name), value):
            if not _is_same_everywhere(location):
                raise InputError(
                    f"{location} is relative, and the job runs in a folder of its own: "
                    "give the cluster's absolute path, or a URL"
                )
    return call


def _is_same_everywhere(location: str) -> bool:
    """Whether a location means the same in the job's folder: a URL, a backbone, a whole path.

    >>> [_is_same_everywhere(each) for each in ("s3://a/b", "torchvision:resnet50", "/a", "a")]
    [True, True, True, False]
    """
    named = "://" in location or location.startswith("torchvision:")
    return named or Path(location).is_absolute()


def _locations(hint: Any, value: Any) -> Iterator[str]:
    """Find the locations among the values of one parameter."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value), include_extras=True)
        for field in dataclasses.fields(value):
            yield from _locations(hints[field.name], getattr(value, field.name))
    elif LOCATION in get_args(hint):
        if value is not None:
            yield str(value)
    elif isinstance(value, list | tuple):
        for item in value:
            for inner in get_args(hint):
                yield from _locations(inner, item)
    else:
        for inner in get_args(hint):
            yield from _locations(inner, value)


@contextlib.contextmanager
def _staged(command: Sequence[str], config: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """Copy this code, wherever it is installed, and the configuration into one folder to upload.

    Yields the folder, and the arguments for a run there.
    """
    arguments = [argument for argument in command if argument != "--json"]
    if is_json_wanted():
        arguments.append("--json")
    with tempfile.TemporaryDirectory(prefix="regallery-") as name:
        folder = Path(name)
        for package in _PACKAGES:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:
                raise RunError(
                    f"the package {package} is not installed as files, so cannot be sent"
                )
            source = Path(spec.origin).parent
            shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        # So that the job, too, knows its version.
        described = folder / "regallery.dist-info"
        described.mkdir()
        version = metadata.version("regallery")
        (described / "METADATA").write_text(f"Name: regallery\nVersion: {version}\n")
        if config is not None:
            shutil.copyfile(config, folder / _CONFIG)
            arguments = list(_configured(arguments))
        yield folder, arguments


def _configured(arguments: Sequence[str]) -> Iterator[str]:
    """Name the configuration as it is called in the folder that is sent."""
    before = ""
    for argument in arguments:
        if before == "--config":
            yield _CONFIG
        else:
            yield f"--config={_CONFIG}" if argument.startswith("--config=") else argument
        before = argument


def _requirements() -> list[str]:
    """The dependencies of this project, without Ray, which the cluster has."""
    return [
        requirement
        for requirement in metadata.requires("regallery") or ()
        if "extra ==" not in requirement and not requirement.startswith("ray[")
    ]


def _client(address: str) -> "JobSubmissionClient":
    """Connect to the cluster's dashboard, or say in one line why that fails."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"--address {address} is not the URL of a dashboard: give one such as http://host:8265"
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)
    try:
        with _only_address(address):
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise InputError(
            f"the cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray dashboard answers at {address}: {error}") from error


@contextlib.contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Make Ray use this address even if RAY_ADDRESS names another one."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _ray_job(action: str, address: str, job: str) -> str:
    return f"ray job {action} --address {address} {job}"


def _follow(client: "JobSubmissionClient", address: str, job: str) -> Submitted:
    """Show what the job prints until it ends, or until Ctrl-C."""
    import aiohttp

    output = _Output()
    going_on = f"the job runs on; follow it with: {_ray_job('logs --follow', address, job)}"
    try:
        asyncio.run(_tail(client, job, output.take))
        details = _ended(client, job)
        output.close()
    except KeyboardInterrupt:
        return _interrupted(client, address, job)
    except ReaderGone:
        _log.warning("standard output was closed, and %s", going_on)
        raise
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        raise RunError(f"lost the connection to {address} ({error}), and {going_on}") from error
    if details.status == "SUCCEEDED":
        return Submitted(job, address, "SUCCEEDED", 0, output.answer)
    # The verb's own 1 or 2; whatever else ended it (a signal, a lost machine) is a failure.
    status = details.driver_exit_code if details.driver_exit_code in (1, 2) else 1
    return Submitted(
        job, address, details.status.value, status, output.answer or _failed(details, status)
    )


async def _tail(client: "JobSubmissionClient", job: str, take: Callable[[str], None]) -> None:
    """Pass on the job's log as it comes; raise if the cluster is gone, even without an error."""
    chunks = client.tail_job_logs(job)
    while True:
        waiting = asyncio.ensure_future(anext(chunks, None))
        while not (await asyncio.wait({waiting}, timeout=_SILENCE_SECONDS))[0]:
            await asyncio.to_thread(client.get_job_status, job)
        chunk = waiting.result()
        if chunk is None:
            return
        take(chunk)


class _Output:
    """Sorts a job's log: under `--json` its object is the answer, and the rest goes to stderr."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self._as_json = is_json_wanted()
        self._partial = ""

    def take(self, text: str) -> None:
        """Show text that came; lines may be cut anywhere."""
        if not self._as_json:
            write(printable(text, keep="\n\t"))
            return
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._sort(line)

    def close(self) -> None:
        """Take what came without an end of line."""
        if self._partial:
            self._sort(self._partial)

    def _sort(self, line: str) -> None:
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                self.answer = json.loads(line)
                return
        tell(line + "\n")


def _ended(client: "JobSubmissionClient", job: str, seconds: float = _STOP_SECONDS) -> "JobDetails":
    """Wait for the final status of a job whose log has ended."""
    deadline = time.monotonic() + seconds
    while not (details := client.get_job_info(job)).status.is_terminal():
        if time.monotonic() > deadline:
            raise RuntimeError(f"its log ended, yet it is {details.status.value.lower()}")
        time.sleep(0.2)
    return details


def _failed(details: "JobDetails", status: int) -> dict[str, Any]:
    """The answer of a verb that ended before it gave one."""
    # Ray puts the end of the log behind its one line.
    message = (details.message or "the job failed").partition(", last available logs")[0]
    message = " ".join(message.split())
    return {"error": {"type": "RunError", "message": message, "exit_status": status}}


def _interrupted(client: "JobSubmissionClient", address: str, job: str) -> Submitted:
    """Ask whether to stop the job as well; without a terminal it runs on."""
    status = "RUNNING"
    try:
        if sys.stdin.isatty() and _is_yes(f"\nStop the job {job}? [y/N] "):
            client.stop_job(job)
            _log.info("stopping %s", job)
            status = _ended(client, job).status.value
    except (KeyboardInterrupt, EOFError):
        pass
    except (OSError, RuntimeError) as error:
        raise RunError(f"{job} may still run: {error}") from error
    if status == "RUNNING":
        _log.info("the job runs on; follow it with: %s", _ray_job("logs --follow", address, job))
        _log.info("stop it with: %s", _ray_job("stop", address, job))
    message = f"interrupted: {job} at {address} is {status.lower()}"
    answer = {"error": {"type": "Interrupted", "message": message, "exit_status": INTERRUPTED}}
    return Submitted(job, address, status, INTERRUPTED, answer)


def _is_yes(question: str) -> bool:
    tell(question)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["submit", *sys.argv[1:]]))
