"""Where the parts of a computation run, how much memory they may use, and who gets their
progress.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.ledger import Ledger

MEMORY = 4 << 30
"""Bytes that the blocks in use may take, in all workers together."""

# The remaining rows are divided into this many parts per worker, but no part is smaller than this
# fraction (a quarter) of a full one.
_PARTS_A_WORKER = 2
_PARTS_OF_THE_LAST = 4

Step = Callable[[int], None]
"""Advance a progress line by a number of steps."""

StartProgress = Callable[[str, int], Step]
"""Start a progress line with a name and a length; return the function that advances it."""


def silent(_name: str, _length: int) -> Step:
    """Start a progress line that is not shown.

    >>> silent("counting ranks", 10)(3)
    """
    return no_step


def no_step(_steps: int) -> None:
    """Take steps that are not shown."""


@dataclass(frozen=True)
class Execution:
    """The settings for running a stage; the results are the same, to the bit, for any of them.

    With `workers` 0, the parts of a computation run one after the other in this process, on the
    threads of `tiling`. Otherwise this number of parts runs at once, as Ray tasks of one CPU each.
    `memory` is in bytes. The `ledger` adds up the products by kind, and the scored pairs.
    """

    workers: int = 0
    tiling: Tiling = Tiling()
    memory: int = MEMORY
    progress: StartProgress = silent
    ledger: Ledger = field(default_factory=Ledger, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 (this process) or more, not {self.workers}")
        if self.memory <= 0:
            raise ValueError(f"memory must be above 0 bytes, not {self.memory}")

    @property
    def worker_tiling(self) -> Tiling:
        """The tiling of one part: a worker has one CPU, this process all of its CPUs."""
        return self.tiling.inside(self.workers)

    @property
    def worker_memory(self) -> int:
        """Bytes that one worker may use."""
        return self.memory // max(1, self.workers)

    def named(self, prefix: str) -> "Execution":
        """The same execution, with `prefix` before the name of every progress line."""
        start = self.progress
        return replace(self, progress=lambda name, length: start(prefix + name, length))

    def parts(self, length: int, size: int, most: int = 100) -> Iterator[tuple[int, int]]:
        """Divide `length` rows into parts; in this process, into at most `most` parts.

        Workers get parts of `size` rows, and smaller ones towards the end, down to a quarter of it.
        So no worker is left with a large part while the others are idle.

        >>> list(Execution(2).parts(1000, 400))[:5]
        [(0, 250), (250, 438), (438, 579), (579, 685), (685, 785)]
        """
        if self.workers == 0:
            yield from blocks(length, max(size, length // most))
            return
        start = 0
        while start < length:
            share = -(-(length - start) // (_PARTS_A_WORKER * self.workers))
            stop = min(length, start + max(1, size // _PARTS_OF_THE_LAST, min(size, share)))
            yield start, stop
            start = stop

    def run_parts(
        self,
        fold: Callable[..., Any],
        shared: tuple[Any, ...],
        parts: Iterable[tuple[Any, ...]],
        *,
        on_gpu: bool = False,
    ) -> Iterator[Any]:
        """Yield `fold(*shared, *part)` for every part, in the order in which the parts end.

        On Ray, `shared` goes to the object store once; with `on_gpu`, each part has the tiling's
        share of a GPU. Results must say which part they belong to, or add up in any order.
        """
        waiting = iter(parts)
        return self.run_ready(fold, shared, lambda: next(waiting, None), on_gpu=on_gpu)

    def run_ready(
        self,
        fold: Callable[..., Any],
        shared: tuple[Any, ...],
        ready: Callable[[], tuple[Any, ...] | None],
        *,
        on_gpu: bool = False,
    ) -> Iterator[Any]:
        """Like `run_parts`, but `ready()` gives each next part.

        `ready()` returns None if no part is ready; it is called again when another part has ended.
        The run ends when no part is ready and none runs. The consumer of a result may make other
        parts ready before it takes the next result.
        """
        if self.workers == 0:
            while (part := ready()) is not None:
                yield fold(*shared, *part)
            return
        import ray  # takes a second to import, which a run in this process can save

        from pipeline.stages.metrics import add_to_metric

        # Otherwise Ray ends a worker that uses a GPU after each part, and the next one loads torch
        # again.
        gpus = self.tiling.gpus if on_gpu else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=0)(fold)
        stored = [ray.put(value) for value in shared]
        running: list[ray.ObjectRef] = []
        try:
            while True:
                while len(running) < self.workers and (part := ready()) is not None:
                    running.append(remote.remote(*stored, *part))
                if not running:
                    return
                (done,), running = ray.wait(running, num_returns=1)
                result = ray.get(done)
                add_to_metric("regallery_tiles", 1)
                yield result
        finally:
            for left in running:  # after an error or an interrupt, nobody needs the rest
                ray.cancel(left)
