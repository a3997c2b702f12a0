"""Work that takes longer than a request: jobs in threads, which requests start and follow."""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import InputError, RunError
from pipeline.service.faults import Refused
from pipeline.stages.execution import StartProgress, Step

_log = logging.getLogger(__name__)
_KEPT = 200
_AT_ONCE = 2
_WAITING = 50


@dataclass
class JobProgress:
    """Steps that are done, of how many, and what they are."""

    done: int = 0
    total: int | None = None
    label: str | None = None


@dataclass
class ServiceJob:
    """A job as it is now; `result` is set when it is done, `error` when it has failed."""

    job: str
    kind: str
    state: Literal["running", "done", "failed"] = "running"
    progress: JobProgress = field(default_factory=JobProgress)
    result: Any = None
    error: str | None = None

    def start_progress(self, label: str, total: int | None = None) -> Step:
        """Begin to count the steps of one more part of the work."""
        self.progress = counted = JobProgress(0, total, label)

        def step(steps: int) -> None:
            counted.done += steps

        return step


Working = Callable[[StartProgress], Any]
"""The work of a job: it is given where to tell its progress, and returns the result."""


class ServiceWork:
    """The jobs of a service, two at a time; the last 200 are remembered."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, ServiceJob] = OrderedDict()
        self._by_key: dict[Hashable, ServiceJob] = {}
        self._lock = threading.Lock()
        self._free = threading.Semaphore(_AT_ONCE)
        self._to_finish: list[threading.Thread] = []
        self._faults: dict[str, Exception] = {}
        self._is_over = False

    def start(
        self, kind: str, work: Working, *, key: Hashable = None, must_finish: bool = False
    ) -> ServiceJob:
        """Start a job, or find the one of the same key that runs or is done.

        One that `must_finish` is waited for when the service stops. Raise `Refused` (503) if too
        many jobs run.
        """
        with self._lock:
            if key is not None and (known := self._by_key.get((kind, key))) is not None:
                return known
            if sum(each.state == "running" for each in self._jobs.values()) >= _WAITING:
                raise Refused(503, f"{_WAITING} jobs are at work or wait; ask again later")
            job = ServiceJob(secrets.token_hex(8), kind)
            self._jobs[job.job] = job
            if key is not None:
                self._by_key[kind, key] = job
            self._forget()
        thread = threading.Thread(target=self._run, args=(job, work), name=kind, daemon=True)
        if must_finish:
            self._to_finish = [each for each in self._to_finish if each.is_alive()] + [thread]
        thread.start()
        return job

    def find(self, job: str) -> ServiceJob:
        """A job by its name; raise `Refused` (404) if there is none."""
        found = self._jobs.get(job)
        if found is None:
            raise Refused(404, f"there is no job {job:.40}; the last {_KEPT} are remembered")
        return found

    def result(self, kind: str, key: Hashable, work: Working) -> ServiceJob:
        """The job of a key, started if there is none; raise what made it fail, once.

        The next request starts it again.
        """
        job = self.start(kind, work, key=key)
        if job.state == "failed":
            with self._lock:
                self._by_key.pop((kind, key), None)
                fault = self._faults[job.job]
            raise fault
        return job

    def forget(self, *, but: str) -> None:
        """Forget what has ended, but for one kind: after an erasure, no result may name a row that
        is gone.
        """
        with self._lock:
            ended = {
                name
                for name, each in self._jobs.items()
                if each.state != "running" and each.kind != but
            }
            self._drop(ended)

    def finish(self) -> None:
        """Wait for the jobs that must finish; the service ends."""
        self._is_over = True
        for thread in self._to_finish:
            if thread.is_alive():
                _log.info("waiting for the end of: %s", thread.name)
            thread.join()

    def _run(self, job: ServiceJob, work: Working) -> None:
        with self._free:
            try:
                job.result = work(job.start_progress)
                job.state = "done"
            except (InputError, RunError) as error:
                self._fail(job, error)
            except Exception as error:  # noqa: BLE001 (the job reports it, and the log has it)
                # Other jobs end with the process, in the middle of whatever they do.
                level = logging.DEBUG if self._is_over else logging.ERROR
                _log.log(level, "the job %s (%s) failed", job.job, job.kind, exc_info=error)
                self._fail(job, RunError("the service failed; its log says why"))

    def _fail(self, job: ServiceJob, fault: Exception) -> None:
        self._faults[job.job] = fault
        job.error, job.state = str(fault), "failed"

    def _forget(self) -> None:
        ended = [name for name, each in self._jobs.items() if each.state != "running"]
        self._drop(set(ended[: max(0, len(self._jobs) - _KEPT)]))

    def _drop(self, names: set[str]) -> None:
        for name in names:
            del self._jobs[name]
            self._faults.pop(name, None)
        self._by_key = {key: job for key, job in self._by_key.items() if job.job not in names}
