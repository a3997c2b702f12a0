"""Decide whether an extraction that began in this process would finish sooner on Ray."""

import time
from collections.abc import Callable

from pipeline.stages.execution import Step

RAY_START_SECONDS = 15.0
"""The time that Ray takes to start on one machine, including its actors and their networks, before
any work: 22 s for 63 crops on two cores, for which this process took 6 s.
"""

_BATCHES = 3
"""Number of network batches that measure the pace; the first is slower and not counted."""


class PaysOnRay(Exception):  # noqa: N818 - it is not an error
    """Actors on Ray would finish the rest sooner."""


def soonest(seconds: float, workers: int) -> tuple[int, float]:
    """The number of `workers` that finish work of `seconds` soonest, and their time; 1 is this
    process without Ray.

    >>> soonest(20, 2)
    (1, 20)
    >>> soonest(100, 4)
    (4, 40.0)
    """
    shared = RAY_START_SECONDS + seconds / workers
    return (workers, shared) if shared < seconds else (1, seconds)


class Pace:
    """The steps of an extraction of `images` in this process; on Ray `workers` could do it.

    Raise `PaysOnRay` after a few batches if workers would save more time on the rest than Ray takes
    to start. The images of the unfinished unit are then `given_up`.
    """

    def __init__(
        self,
        images: int,
        workers: int,
        step: Step,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._images, self._workers, self._step, self._clock = images, workers, step, clock
        self._begun = clock()
        self._batches = self._done = self._measured = 0
        self.given_up = 0

    def __call__(self, images: int) -> None:
        """Count this many more images as finished."""
        self._step(images)
        self._done += images
        self.given_up += images
        self._batches += 1
        if self._batches == 1:
            self._begun = self._clock()
            return
        self._measured += images
        if self._batches <= _BATCHES or not self._measured:
            return
        seconds = (self._clock() - self._begun) / self._measured * (self._images - self._done)
        used, shorter = soonest(seconds, self._workers)
        if used > 1:
            raise PaysOnRay(
                f"about {seconds:.0f} s of work are left here: {used} workers on Ray need"
                f" {shorter:.0f} s, their start included"
            )

    def end_unit(self) -> None:
        """Count the images of a finished unit as kept."""
        self.given_up = 0
