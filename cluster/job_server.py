"""The job server of a Ray cluster, which submits, lists, follows and stops jobs."""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cluster.job_order import GALLERY, NAME, VERB, Order
from pipeline.errors import InputError, RunError

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from ray.job_submission import JobDetails, JobSubmissionClient

_log = logging.getLogger(__name__)

HEAD_SECONDS = 600.0
"""How long to wait for a head that died, if the job is to be submitted again."""

_STOP_SECONDS = 60.0
_SILENCE_SECONDS = 30.0
_PAUSE_SECONDS = 2.0
_GOING_ON = ("PENDING", "RUNNING")
_TAKEN = re.compile(r"submission_id \S+ already exists")


class JobForgottenError(RunError):
    """The job server does not know the job any more, because the cluster's head was restarted."""


@dataclass(frozen=True)
class Job:
    """A job of a cluster; times are ISO 8601, UTC. Jobs of other programs have no verb.

    `gallery` is the gallery that the job changes, if the cluster can see it.
    """

    id: str
    name: str | None
    verb: str | None
    state: str
    started: str | None
    ended: str | None
    gallery: str | None = None

    @property
    def is_going_on(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _GOING_ON


@dataclass(frozen=True)
class JobServer:
    """The job server at an address; see `connected`."""

    address: str
    client: "JobSubmissionClient"

    def submit(self, order: Order, patience: float = 0.0) -> str:
        """Submit a job and return its id; a server that is not ready is retried for `patience`
        seconds.

        Raise `InputError` if a job of this name has not ended, and `RunError` if the server does
        not accept the job.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                job = self._new_id(order)
                return self._submitted_as(job, order)
            except (OSError, RuntimeError) as error:
                if order.name and _TAKEN.search(str(error)):
                    continue  # another job took the number of this name meanwhile
                if time.monotonic() >= deadline:
                    reason = order.without_secrets(str(error))
                    raise RunError(f"nothing was submitted to {self.address}: {reason}") from (
                        error if reason == str(error) else None
                    )
                time.sleep(_PAUSE_SECONDS)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs that the cluster knows, newest first."""
        return tuple(map(_job, self._all()))

    def last_line(self, job: str) -> str | None:
        """The last line of a job's log so far; None if there is none."""
        with self._as_run_error(f"the log of {job} cannot be read"):
            lines = self.client.get_job_logs(job).split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), None)

    def find(self, name: str, flag: str) -> str:
        """The id of a job that is given by id or by name; a name means its newest job.

        Raise `InputError`, which names the flag, if there is none.
        """
        # Ray has no log of a program that joined the cluster by itself, and cannot stop it.
        jobs = [_job(each) for each in self._all() if each.submission_id]
        for found in ([each.id for each in jobs], [each.name for each in jobs]):
            if name in found:
                return jobs[found.index(name)].id
        raise InputError(
            f"{flag} {name}: no job submitted to {self.address} has this id or name; see"
            f" {command_line(self.address, '--list')}"
        )

    def details(self, job: str) -> "JobDetails | None":
        """Ray's details of a job; None if it does not know the id.

        Raise `OSError` or `RuntimeError` if the server does not answer.
        """
        try:
            return self.client.get_job_info(job)
        except RuntimeError as error:
            if "status code 404" in str(error):
                return None
            raise

    def stop(self, job: str) -> str:
        """Stop a job, wait for its end, and return its status; an ended job stays unchanged.

        Raise `RunError` if that fails.
        """
        with self._as_run_error(f"{job} may still run"):
            if not self._known(job).status.is_terminal():
                _log.info("stopping %s", job)
                self.client.stop_job(job)
            return self.ended(job).status.value

    def ended(self, job: str) -> "JobDetails":
        """Wait for the final status of a job that is being stopped, or whose log has ended."""
        deadline = time.monotonic() + _STOP_SECONDS
        while not (details := self._known(job)).status.is_terminal():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    "it waits for room on the cluster; Ray stops it when it starts, or gives it up"
                    " 15 minutes after it was submitted"
                    if details.status == "PENDING"
                    else f"it should have ended, yet is {details.status.lower()}"
                )
            time.sleep(0.2)
        return details

    def follow(self, job: str, take: Callable[[str], None], patience: float = 0.0) -> "JobDetails":
        """Pass on the log of a job, from its beginning, until the job ends.

        If a log breaks off, it is continued from the same place as long as the server answers; a
        server that does not answer is retried for `patience` seconds. Raise `JobForgottenError` if
        the cluster was restarted, and `RunError` if the server does not answer.
        """
        log = _Once(take)
        while True:
            try:
                asyncio.run(self._tail(job, log.again()))
                return self.ended(job)
            except RunError:
                raise
            except (OSError, RuntimeError) as error:
                details = self._details_with_retries(job, patience, error)
                if details.status.is_terminal():
                    return details
            time.sleep(_PAUSE_SECONDS)

    async def _tail(self, job: str, take: Callable[[str], None]) -> None:
        """Pass on the log as it arrives; raise if the cluster is gone, even without an error."""
        import aiohttp

        chunks = self.client.tail_job_logs(job)
        try:
            while True:
                waiting = asyncio.ensure_future(anext(chunks, None))
                while not (await asyncio.wait({waiting}, timeout=_SILENCE_SECONDS))[0]:
                    details = await asyncio.to_thread(self._known, job)
                    if details.status == "PENDING":
                        _log.info(
                            "%s waits: %s --driver-memory and --driver-cpus say how much it needs.",
                            job,
                            details.message,
                        )
                chunk = waiting.result()
                if chunk is None:
                    return
                take(chunk)
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _details_with_retries(self, job: str, patience: float, lost: Exception) -> "JobDetails":
        deadline = time.monotonic() + patience
        told = False
        while True:
            try:
                return self._known(job)
            except RunError:
                raise
            except (OSError, RuntimeError) as error:
                if time.monotonic() >= deadline:
                    follow = command_line(self.address, "--attach", job)
                    raise RunError(
                        f"lost the connection to {self.address} ({lost}); if its head lives, the"
                        f" job runs on: follow it with {follow}; otherwise submit it again: it goes"
                        " on from what was finished"
                    ) from error
            if not told:
                _log.warning("%s does not answer; asking for %g s", self.address, patience)
                told = True
            time.sleep(_PAUSE_SECONDS)

    def _all(self) -> list["JobDetails"]:
        with self._as_run_error("its jobs cannot be listed"):
            return sorted(self.client.list_jobs(), key=_start, reverse=True)

    def _known(self, job: str) -> "JobDetails":
        if (details := self.details(job)) is None:
            raise JobForgottenError(
                f"{self.address} does not know {job} any more: the head of the cluster was started"
                " anew, and the job died with the old one; submit it again: it goes on from what"
                " was finished"
            )
        return details

    def _new_id(self, order: Order) -> str:
        """A new id for the job: its name and a number, or the verb and a random number."""
        if order.name is None:
            return f"{order.verb or 'regallery'}-{secrets.token_hex(4)}"
        jobs = self.client.list_jobs()
        for each in map(_job, jobs):
            if each.name == order.name and each.is_going_on:
                raise InputError(
                    f"`name` {order.name} is taken: {each.id} is {each.state.lower()}; choose"
                    f" another name, follow that job with"
                    f" {command_line(self.address, '--attach', each.id)}, or stop it with"
                    f" {command_line(self.address, '--stop', each.id)}"
                )
        numbered = re.compile(rf"{re.escape(order.name)}-(\d{{1,9}})")
        ids = (numbered.fullmatch(each.submission_id or "") for each in jobs)
        return f"{order.name}-{max((int(found[1]) for found in ids if found), default=0) + 1}"

    def _submitted_as(self, job: str, order: Order) -> str:
        try:
            return self.client.submit_job(submission_id=job, **order.for_ray())
        except OSError:
            # The server may have accepted the job, and only its answer was lost.
            if self.details(job) is None:
                raise
            return job

    @contextlib.contextmanager
    def _as_run_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except RunError:
            raise
        except (OSError, RuntimeError) as error:
            raise RunError(f"{what}: {error}") from error


def connected(address: str) -> JobServer:
    """Connect to the dashboard of a cluster, or say in one line why that fails."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"--address {address} is not the URL of a dashboard: give one such as http://host:8265"
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for handler in logging.getLogger("ray").handlers:
        if type(handler).__module__.startswith("ray."):  # others may be there, too, to see all
            handler.setLevel(logging.WARNING)
    try:
        with _only_address(address):
            return JobServer(address, JobSubmissionClient(address))
    except AuthenticationError as error:
        raise InputError(
            f"the cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray dashboard answers at {address}: {error}") from error


def command_line(address: str, *flags: str) -> str:
    """The command line that does something with the jobs at an address.

    >>> command_line("http://head:8265", "--attach", "nightly")
    'regallery submit --address http://head:8265 --attach nightly'
    """
    return shlex.join(["regallery", "submit", "--address", address, *flags])


class _Once:
    """Pass on a log that may be read from its beginning several times, each character once."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._taken = 0

    def again(self) -> Callable[[str], None]:
        """A consumer for the log from its beginning."""
        place = 0

        def take(text: str) -> None:
            nonlocal place
            new = text[max(0, self._taken - place) :]
            place += len(text)
            self._taken = max(self._taken, place)
            if new:
                self._take(new)

        return take


def _job(details: "JobDetails") -> Job:
    labels = details.metadata or {}
    return Job(
        id=details.submission_id or details.job_id or "",
        name=labels.get(NAME),
        verb=labels.get(VERB),
        state=details.status.value,
        started=_time(details.start_time),
        ended=_time(details.end_time),
        gallery=labels.get(GALLERY),
    )


def _start(details: "JobDetails") -> int:
    return details.start_time or 0


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


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
