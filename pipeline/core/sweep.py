"""One pass over the rows of a gallery, block by block, against blocks of queries.

All passes that compare queries with a whole gallery use it: `topk`, `ranking`, `negatives`,
`false_matches`, and the re-ranked `ranks` and `distances`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
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
    """Combine every block of queries with every block of the gallery, in the gallery's order.

    For each block of `gallery`, from start to stop: `make(start, stop)` reads it on a thread of its
    own, one block ahead; `enter(start, stop, made)` prepares it, while nothing else runs; then
    `run` calls `take(entered, a, b)` on its threads for all blocks of queries. `queries` is the
    number of queries and the size of their blocks. So only one gallery block is in use at a time,
    and three are in memory.

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
    """Yield each run, from start to stop, with the result of `make(start, stop)`.

    The next result is made while the caller works on the current one. If `make` raises, the error
    reaches the caller when that run's turn comes.

    >>> list(make_ahead(lambda start, stop: stop - start, [(0, 2), (2, 3)]))
    [(0, 2, 2), (2, 3, 1)]
    """
    line = iter(runs)
    coming = [*islice(line, 2)]
    if len(coming) == 1:  # there is nothing to make ahead
        yield *coming[0], make(*coming[0])
        return
    with ThreadPoolExecutor(1) as maker:
        waiting = deque[tuple[int, int, Future[Made]]]()
        for start, stop in chain(coming, line):
            waiting.append((start, stop, maker.submit(make, start, stop)))
            if len(waiting) > 1:
                first, last, made = waiting.popleft()
                yield first, last, made.result()
        for first, last, made in waiting:
            yield first, last, made.result()
