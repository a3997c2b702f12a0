"""One way to run a fold's parts: in this process, or as Ray tasks, with the same results."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import ray


def run_parts(
    fold: Callable[..., Any],
    shared: tuple[Any, ...],
    parts: Iterable[tuple[Any, ...]],
    workers: int,
    gpus: float = 0,
) -> Iterator[Any]:
    """Yield `fold(*shared, *part)` for every part, in the order in which the parts end.

    With `workers` 0 the parts run one after the other in this process. Otherwise that many run at
    once as Ray tasks of one CPU and so many `gpus` each; `shared` goes to the object store once.
    Results must therefore say which part they belong to, or add up in any order.
    """
    if workers == 0:
        for part in parts:
            yield fold(*shared, *part)
        return
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(fold)
    stored = [ray.put(value) for value in shared]
    waiting = iter(parts)
    running: list[ray.ObjectRef] = []
    try:
        while True:
            free = islice(waiting, workers - len(running))
            running += [remote.remote(*stored, *part) for part in free]
            if not running:
                return
            (done,), running = ray.wait(running, num_returns=1)
            yield ray.get(done)
    finally:
        for left in running:  # after an error or an interrupt, the rest is of no use
            ray.cancel(left)
