"""One pass over the rows of a gallery, a block at a time, against blocks of queries.

Every fold that meets queries with a whole gallery walks so: `topk`, `ranking`, `negatives`,
`false_matches`, and the re-ranked `ranks` and `distances`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from pipeline.core.blocks import Blocks, Made, Run, blocks

Entered = TypeVar("Entered")


def sweep(
    gallery: Blocks,
    make: Callable[[int, int], Made],
    enter: Callable[[int, int, Made], Entered],
    queries: tuple[int, int],
    take: Callable[[Entered, int, int], None],
    run: Run,
) -> None:
    """Take every block of queries with every block of the gallery, in the gallery's order.

    For each of the blocks `gallery`, from start to stop: `make(start, stop)` reads it, one block
    ahead of the rest and on a thread of its own; `enter(start, stop, made)` prepares it, alone; and
    `run` calls `take(entered, a, b)` on its threads for all `queries`, a count that is cut into
    blocks of a size. So no two blocks of the gallery are taken at once, and three are in memory.

    >>> met = []
    >>> sweep([(0, 4), (4, 6)], lambda a, b: b - a, lambda a, b, rows: rows, (3, 2),
    ...       lambda rows, a, b: met.append((rows, a, b)),
    ...       lambda work, runs: [work(*run) for run in runs])
    >>> met
    [(4, 0, 2), (4, 2, 3), (2, 0, 2), (2, 2, 3)]
    """
    count, size = queries
    for start, stop, made in make_ahead(make, gallery):
        run(partial(take, enter(start, stop, made)), blocks(count, size))


def make_ahead(make: Callable[[int, int], Made], runs: Blocks) -> Iterator[tuple[int, int, Made]]:
    """Each run, from start to stop, with what `make(start, stop)` gives; while the caller has one
    in hand, the next is made. What `make` raises is raised when its run comes.

    >>> list(make_ahead(lambda start, stop: stop - start, [(0, 2), (2, 3)]))
    [(0, 2, 2), (2, 3, 1)]
    """
    with ThreadPoolExecutor(1) as maker:
        waiting = deque[tuple[int, int, Future[Made]]]()
        for start, stop in runs:
            waiting.append((start, stop, maker.submit(make, start, stop)))
            if len(waiting) > 1:
                first, last, made = waiting.popleft()
                yield first, last, made.result()
        for first, last, made in waiting:
            yield first, last, made.result()
