"""Store the progress of a run with the gallery that it changes, for other machines."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pipeline.errors import InputError, RunError
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.progress import RunProgress, drop_progress, write_progress
from pipeline.runs.headway import Headway
from pipeline.stages.execution import StartProgress, Step

RENEWAL_SECONDS = 10.0
"""The least time between two writes of the progress, because each takes file operations or
requests.
"""

_log = logging.getLogger(__name__)


class RunReporter:
    """Pass progress on, and store it with the gallery whose lock is held; see `reported`."""

    def __init__(self, lock: Lock, start: StartProgress) -> None:
        self._lock, self._start = lock, start
        self._step, self._headway = "", Headway(0)
        self._units: tuple[int | None, int | None, int | None] = (None, None, None)
        self._next = 0.0
        self._storing = threading.Lock()
        self._fails = False

    def start(self, name: str, length: int) -> Step:
        """Start a line of progress, as a `StartProgress` does."""
        step, headway = self._start(name, length), Headway(length)
        self._step, self._headway = name, headway
        self.store()

        def both(steps: int) -> None:
            step(steps)
            headway.step(steps)
            self._renew()

        return both

    @property
    def has_begun(self) -> bool:
        """Whether a line of progress was started."""
        return bool(self._step)

    def count(self, units_done: int, units: int, rejected: int) -> None:
        """Say how many work units are finished, and how many inputs are rejects."""
        self._units = units_done, units, rejected
        if self.has_begun:
            self._renew()

    def _renew(self) -> None:
        """Store the progress if it is time to; of several threads one does."""
        if time.monotonic() >= self._next and self._storing.acquire(blocking=False):
            try:
                self.store()
            finally:
                self._storing.release()

    def store(self) -> None:
        """Store the progress now.

        The work matters more than its progress: a failure is reported once, and the run continues.
        """
        self._next = time.monotonic() + RENEWAL_SECONDS
        headway, end = self._headway, self._headway.end()
        units_done, units, rejected = self._units
        about = RunProgress(
            token=self._lock.token,
            step=self._step,
            done=headway.done,
            total=headway.total or 0,
            rate=headway.rate(),
            ends=None if end is None else end.isoformat(timespec="seconds"),
            renewed=datetime.now(UTC).isoformat(timespec="seconds"),
            units_done=units_done,
            units=units,
            rejected=rejected,
        )
        try:
            write_progress(self._lock.location, about)
        except (OSError, InputError, RunError) as error:
            if not self._fails:
                _log.warning("the progress of this run cannot be stored, and it goes on: %s", error)
            self._fails = True


@contextmanager
def reported(lock: Lock, start: StartProgress) -> Iterator[RunReporter]:
    """Store the progress of a run within a `with` block, and delete it when the run ends well."""
    reporter = RunReporter(lock, start)
    try:
        yield reporter
    except BaseException:
        if reporter.has_begun:
            reporter.store()
        raise
    drop_progress(lock.location)
