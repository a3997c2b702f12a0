"""The progress of a task: how far it is, how fast it goes, and when it will end."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

WINDOW_SECONDS = 300.0
"""The rate is averaged over this time, because an early rate says little about a late one."""

_SETTLING_SECONDS = 1.0
"""Steps in the first second are ignored in the rate, because an earlier run finished them."""


class Headway:
    """Count the steps of a task; `total` is None if their number is unknown.

    Several threads may count steps and read the progress.

    >>> seconds = iter([0.0, 0.5, 11.0, 11.0, 11.0])
    >>> headway = Headway(100, clock=lambda: next(seconds))
    >>> headway.step(60), headway.step(20)
    (None, None)
    >>> headway.done, headway.rate(), headway.seconds_left()
    (80, 2.0, 10.0)
    """

    def __init__(
        self, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._begun = clock()
        self._samples: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def step(self, steps: int) -> None:
        """Count more steps; a negative number if work was given up and must be repeated."""
        with self._lock:
            now, before = self._clock(), self.done
            self.done += steps
            if steps < 0:
                self._samples = deque([(now, self.done)])
            elif now - self._begun > _SETTLING_SECONDS:
                self._sample(now, before)

    def _sample(self, now: float, before: int) -> None:
        if not self._samples:
            self._samples.append((self._begun + _SETTLING_SECONDS, before))
        if now - self._samples[-1][0] >= WINDOW_SECONDS / 10:
            self._samples.append((now, self.done))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def seconds(self) -> float:
        """How long the task has taken so far."""
        return self._clock() - self._begun

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self.total is not None and self.done >= self.total

    def rate(self) -> float | None:
        """Steps per second in the last minutes; None if it is not known yet."""
        with self._lock:
            if not self._samples:
                return None
            (then, before), now = self._samples[0], self._clock()
            steps = self.done - before
            return steps / (now - then) if steps > 0 and now > then else None

    def seconds_left(self) -> float | None:
        """The remaining time at this rate; None if it is unknown."""
        if self.total is None or (rate := self.rate()) is None:
            return None
        return max(0, self.total - self.done) / rate

    def end(self) -> datetime | None:
        """The expected end at this rate, in UTC; None if it is unknown."""
        left = self.seconds_left()
        return None if left is None else datetime.now(UTC) + timedelta(seconds=left)
