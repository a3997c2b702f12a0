"""The log of a submitted job: what is shown of it, and what is said when the job fails."""

import collections
import contextlib
import json
import textwrap
from typing import TYPE_CHECKING, Any

from cluster.job_server import command_line
from jobs.command.console import is_json_requested, write, write_stderr
from jobs.command.printable import printable

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from ray.job_submission import JobDetails

_LAST_LINES = 10
_LONGEST = 1000
_KILLED = (137, -9)
_AGAIN = "submit the same command again: it goes on from what was finished"
_BY_ITSELF = "(--retries N does that by itself)"
_ADVICE = {
    "RUNTIME_ENV_SETUP_FAILURE": "the machine could not prepare what the job brings: check its"
    " disk and its network (--install downloads packages), then submit the command again",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": "no machine had room for it in time: reserve less with"
    " --driver-cpus and --driver-memory, or add a machine",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "no machine has so much: reserve less with"
    " --driver-cpus and --driver-memory, or add a machine",
    "JOB_SUPERVISOR_ACTOR_DIED": f"the machine that ran it was probably lost; {_AGAIN}"
    f" {_BY_ITSELF}",
}
"""What to do next, by Ray's kind of error."""


class JobLog:
    """Show a job's log, and keep its end; under `--json` its object is the answer, and the rest
    goes to stderr.
    """

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._as_json = is_json_requested()
        self._partial = ""

    def take(self, text: str) -> None:
        """Show text that came; lines may be cut anywhere."""
        if not self._as_json:
            write(printable(text, keep="\n\t"))
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._sort(line)

    def close(self) -> None:
        """Take what came without an end of line."""
        if self._partial:
            self._sort(self._partial)
        self._partial = ""

    def _sort(self, line: str) -> None:
        if self._as_json:
            if line.startswith("{"):
                with contextlib.suppress(json.JSONDecodeError):
                    self.answer = json.loads(line)
                    return
            write_stderr(line + "\n")
        if line.strip():
            self.last_lines.append(line[:_LONGEST])


def failure(address: str, job: str, details: "JobDetails", last_lines: list[str]) -> str:
    """Why a job failed in Ray's words, the end of its log, and what to do next."""
    # Ray puts the end of the log behind its one line.
    message = (details.message or "it failed").partition(", last available logs")[0]
    parts = [f"{job} at {address}: {' '.join(message.split())[:_LONGEST]}"]
    if last_lines:
        parts += ["the end of its log:", textwrap.indent("\n".join(last_lines), "    ")]
    parts += [
        f"what to do next: {_advice(details)}",
        f"its whole log: {command_line(address, '--attach', job)}",
    ]
    return "\n".join(parts)


def _advice(details: "JobDetails") -> str:
    if details.status == "STOPPED":
        return _AGAIN
    if details.driver_exit_code == 2:
        return "correct what the log says is wrong, and submit the command again"
    if details.driver_exit_code in _KILLED:
        return (
            "it was killed, most often because the memory of its machine was full: reserve more"
            f" with --driver-memory, or stop what else runs there; then {_AGAIN}"
        )
    return _ADVICE.get(details.error_type or "", f"{_AGAIN} {_BY_ITSELF}")
