"""submit: the same verb as a Ray job on a cluster."""

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from cyclopts import Group, Parameter
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.job_code import CONFIG, job_folder, requirements
from cluster.job_order import DriverSettings, Order
from cluster.job_server import (
    HEAD_SECONDS,
    Job,
    JobForgottenError,
    JobServer,
    command_line,
    connected,
)
from jobs.cli import INTERRUPTED, VERBS, Call, parse
from jobs.command.console import ReaderGone, is_json_requested, write_stderr
from jobs.command.job_log import JobLog, failure
from jobs.command.naming import name_flags_of
from jobs.command.profiles import with_profile
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from ray.job_submission import JobDetails

_log = logging.getLogger(__name__)

_WRONG_INPUT = 2
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHANGED = {
    **dict.fromkeys(("extract", "import", "erase", "compact", "restore", "clean"), "gallery"),
    **dict.fromkeys(("re-extract", "expand", "merge"), "out"),
}
"""The parameter of each verb that names the gallery which it changes."""
_JOB = Parameter(group=Group("The job", sort_key=0))
_JOBS = Parameter(group=Group("Jobs that were submitted", sort_key=1))


@dataclass(frozen=True)
class Submitted:
    """A job on a cluster: how it ended, and its answer under `--json`."""

    job: str
    address: str
    status: str
    exit_status: int = 0
    answer: dict[str, Any] | None = None


@dataclass(frozen=True)
class Listed:
    """The jobs of a cluster, newest first."""

    address: str
    jobs: tuple[Job, ...]


def submit(
    *command: str,
    address: str,
    profile: str | None = None,
    wait: bool = True,
    install: Annotated[bool, Parameter(negative=()), _JOB] = False,
    name: Annotated[str | None, _JOB] = None,
    env: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=False), _JOB] = None,
    retries: Annotated[int, _JOB] = 0,
    driver: Annotated[DriverSettings, Parameter(name="*"), _JOB] = DriverSettings(),
    listed: Annotated[
        bool, Parameter(name="--list", negative=(), show_default=False), _JOBS
    ] = False,
    attach: Annotated[str | None, _JOBS] = None,
    stop: Annotated[str | None, _JOBS] = None,
) -> Submitted | Listed:
    """Run a verb as a Ray job on a cluster.

    Put two dashes before the verb and its arguments. They are checked on
    this machine before anything is submitted. This code is uploaded; its
    dependencies must be installed on the cluster (or see --install). Give
    paths as the cluster sees them: absolute paths, or URLs. Ctrl-C asks
    whether to stop the job. The exit status is that of the job.

    With --list, --attach or --stop nothing is submitted.

    For example:

        regallery submit --address http://head:8265 -- \\
            info --gallery /mnt/shared/gallery

    Args:
        command: The verb and its arguments.
        address: URL of the cluster's dashboard, such as http://host:8265.
        profile: Defaults for these flags and those of the verb, from a TOML file: NAME for
            ~/.config/regallery/NAME.toml, or the path of a .toml file. Flags and --config win.
        wait: Follow the job until it ends.
        install: Let Ray install the dependencies for the job; the first time takes
            minutes.
        name: A name for the job, for --list, --attach and --stop. Two jobs of one name never
            run at the same time.
        env: Name of a variable of this shell to set for the job and its workers, too; may be
            repeated. Its value is never printed, but the cluster keeps it with the job.
        retries: Submit the job again up to this many times if it fails or the cluster's head
            dies, unless its arguments or input are wrong (exit status 2).
        listed: List the jobs of the cluster.
        attach: Show the log of a job, given by name or id, until it ends; the exit status is
            that of the job.
        stop: Stop a job, given by name or id.
    """
    asked = {"--list": listed, "--attach": attach, "--stop": stop}
    given = {
        "--no-wait": not wait, "--install": install, "--name": name, "--env": env,
        "--retries": retries, "--driver-cpus or --driver-memory": driver != DriverSettings(),
    }  # fmt: skip
    if any(asked.values()):
        _check_alone(command, asked, given)
        return _of_submitted(connected(address), attach, stop)
    if retries < 0:
        raise InputError(f"--retries is {retries}: give 0 or more")
    if retries and not wait:
        raise InputError("--retries needs this command to wait for the job: leave out --no-wait")
    command, call = with_profile(profile, command, _checked, VERBS)
    with job_folder(call.config) as folder:
        order = Order(
            arguments=_arguments(command, call.config),
            folder=folder,
            verb=call.verb,
            gallery=_changed_gallery(call),
            name=name,
            environment=_environment(env or ()),
            requirements=requirements() if install else (),
            driver=driver,
        )
        server = connected(address)
        return _followed_to_its_end(server, order, retries) if wait else _left_alone(server, order)


def describe(result: Submitted | Listed) -> RenderableType:
    """How the job ended, printed below its own output; or the jobs, a line each."""
    if isinstance(result, Submitted):
        ending = f", exit status {result.exit_status}" if result.exit_status else ""
        return f"{result.job} at {result.address}: {result.status.lower()}{ending}"
    if not result.jobs:
        return f"no jobs at {result.address}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "verb", "state", "started (UTC)", "ended (UTC)"):
        table.add_column(heading, overflow="fold")
    for job in result.jobs:
        words = (job.id, job.name, job.verb, job.state.lower())
        times = (_shown_time(job.started), _shown_time(job.ended))
        table.add_row(*(Text(each or "") for each in (*words, *times)))
    return table


def _shown_time(time: str | None) -> str:
    return (time or "").removesuffix("+00:00").replace("T", " ")


def _check_alone(command: Sequence[str], asked: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse what would be ignored beside --list, --attach or --stop."""
    flag, *others = (name for name, value in asked.items() if value)
    if others:
        raise InputError(f"give {flag} or {others[0]}, not both")
    if command:
        raise InputError(f"{flag} takes no verb: leave out {' '.join(command)!r}")
    if useless := [name for name, value in given.items() if value]:
        raise InputError(f"{useless[0]} has no effect with {flag}: leave it out")


def _of_submitted(server: JobServer, attach: str | None, stop: str | None) -> Submitted | Listed:
    """Show, follow or stop what was submitted before."""
    if attach:
        return _follow(server, server.find(attach, "--attach"))
    if stop:
        job = server.find(stop, "--stop")
        return Submitted(job, server.address, server.stop(job))
    return Listed(server.address, server.jobs())


def _environment(names: Sequence[str]) -> dict[str, str]:
    """Variables of this shell; messages never show what may be a value."""
    for name in names:
        if "=" in name:
            raise InputError(
                "--env takes the name of a variable without a value: export the variable in this"
                f" shell, and give --env {name.partition('=')[0]}"
            )
        if not _VARIABLE.fullmatch(name):
            raise InputError("--env takes the name of a variable: letters, digits and underscores")
        if name not in os.environ:
            raise InputError(
                f"--env {name}: this shell has no such variable; set it, as in export {name}=..."
            )
    return {name: os.environ[name] for name in names}


def _checked(command: Sequence[str]) -> Call:
    """Parse the verb here, where a mistake costs nothing."""
    if not command:
        raise InputError("no verb to submit: put it after two dashes, as in `submit ... -- info`")
    call = parse(command)
    name_flags_of(submit)  # messages are about this verb's flags again
    if call.verb == "submit":
        raise InputError("submit cannot submit itself: name another verb")
    if call.verb in ("serve", "explore"):
        raise InputError(f"{call.verb} answers on the machine where it is started: start it there")
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


def _changed_gallery(call: Call) -> str | None:
    """The location of the gallery that a call changes; verbs that only read have none."""
    parameter = _CHANGED.get(call.verb or "")
    return None if parameter is None else str(call.bound.arguments[parameter])


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


def _arguments(command: Sequence[str], config: Path | None) -> tuple[str, ...]:
    """The arguments for a run in the folder that is uploaded."""
    from pipeline.gallery.lock_waiting import waiting_seconds

    arguments = [argument for argument in command if argument != "--json"]
    if is_json_requested():
        arguments.append("--json")
    if waiting_seconds() and not _waits(command):
        arguments.append(f"--wait-lock={waiting_seconds():g}")
    return tuple(_configured(arguments) if config else arguments)


def _configured(arguments: Sequence[str]) -> Iterator[str]:
    """Name the configuration as it is called in the folder that is sent."""
    before = ""
    for argument in arguments:
        if before == "--config":
            yield CONFIG
        else:
            yield f"--config={CONFIG}" if argument.startswith("--config=") else argument
        before = argument


def _waits(arguments: Sequence[str]) -> bool:
    return any(each.partition("=")[0] == "--wait-lock" for each in arguments)


def _left_alone(server: JobServer, order: Order) -> Submitted:
    """Submit a job, and say how to follow it."""
    job = server.submit(order)
    _log.info("submitted to %s as %s", server.address, job)
    _log.info("follow it with: %s", command_line(server.address, "--attach", job))
    return Submitted(job, server.address, "SUBMITTED")


def _followed_to_its_end(server: JobServer, order: Order, retries: int) -> Submitted:
    """Submit a job and follow it; submit it again if it fails for another reason than its input."""
    patience = HEAD_SECONDS if retries else 0.0
    for left in range(retries, -1, -1):
        job = server.submit(order, patience)
        _log.info("submitted to %s as %s", server.address, job)
        try:
            result = _follow(server, job, patience)
            if result.status != "FAILED" or result.exit_status == _WRONG_INPUT or not left:
                break
        except JobForgottenError as error:
            if not left:
                raise
            _log.warning("%s", error)
        _log.warning("submitting it again (%d of %d)", retries - left + 1, retries)
        order = _patient(order)
    return result


def _patient(order: Order) -> Order:
    """The same job, which waits until the lock of a driver that died has expired."""
    from pipeline.gallery.lock_waiting import EXPIRY_SECONDS

    if order.verb is None or _waits(order.arguments):
        return order
    wait = f"--wait-lock={1.5 * EXPIRY_SECONDS:g}"
    return replace(order, arguments=(*order.arguments, wait))


def _follow(server: JobServer, job: str, patience: float = 0.0) -> Submitted:
    """Show what the job prints until it ends, or until Ctrl-C."""
    log = JobLog()
    try:
        details = server.follow(job, log.take, patience)
        log.close()
    except KeyboardInterrupt:
        return _interrupted(server, job)
    except ReaderGone:
        going_on = f"follow it with: {command_line(server.address, '--attach', job)}"
        _log.warning("standard output was closed, and the job runs on; %s", going_on)
        raise
    return _ending(server, job, details, log)


def _ending(server: JobServer, job: str, details: "JobDetails", log: JobLog) -> Submitted:
    """How a job ended; if badly, why and what to do."""
    if details.status == "SUCCEEDED":
        return Submitted(job, server.address, "SUCCEEDED", 0, log.answer)
    # The verb's own 1 or 2; whatever else ended it (a signal, a lost machine) is a failure.
    status = details.driver_exit_code if details.driver_exit_code in (1, 2) else 1
    message = failure(server.address, job, details, list(log.last_lines))
    write_stderr(f"error: {message}\n")
    answer = log.answer or {
        "error": {"type": "RunError", "message": message, "exit_status": status}
    }
    return Submitted(job, server.address, details.status.value, status, answer)


def _interrupted(server: JobServer, job: str) -> Submitted:
    """Ask whether to stop the job as well; without a terminal it runs on."""
    status, address = "RUNNING", server.address
    try:
        if sys.stdin.isatty() and _is_yes(f"\nStop the job {job}? [y/N] "):
            status = server.stop(job)
    except (KeyboardInterrupt, EOFError):
        pass
    if status == "RUNNING":
        _log.info("the job runs on; follow it with: %s", command_line(address, "--attach", job))
        _log.info("stop it with: %s", command_line(address, "--stop", job))
    message = f"interrupted: {job} at {address} is {status.lower()}"
    answer = {"error": {"type": "Interrupted", "message": message, "exit_status": INTERRUPTED}}
    return Submitted(job, address, status, INTERRUPTED, answer)


def _is_yes(question: str) -> bool:
    write_stderr(question)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["submit", *sys.argv[1:]]))
