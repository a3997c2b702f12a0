"""Features in blocks: the input of every pass over the data, and the size of the blocks."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.core.float_products import use_one_thread

Blocks = Iterable[tuple[int, int]]
"""Runs of rows, each from a start to a stop."""

Run = Callable[[Callable[[int, int], None], Blocks], None]
"""The function that `Tiling.workers` yields: it calls `work(start, stop)` for every block, on its
threads.
"""

Made = TypeVar("Made")


class FeatureRows(Protocol):
    """Features `[N, D]` that can be read one block at a time: an array, a file or a gallery.

    Ties between rows are broken by position. Several threads may read at the same time.
    """

    @property
    def dimension(self) -> int:
        """D."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` as a contiguous float32 array `[stop - start, D]`."""
        ...

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions` `[P]`, in that order, as a contiguous array `[P, D]`."""
        ...


@dataclass(frozen=True)
class ArrayRows:
    """The rows of one float32 matrix `[N, D]`, in memory or mapped from a file."""

    array: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.shape[1] == 0:
            raise ValueError(f"features must be a matrix [N, D], not of shape {self.array.shape}")
        if self.array.dtype != np.float32:
            raise ValueError(f"features must be float32, not {self.array.dtype}")

    @property
    def dimension(self) -> int:
        """D."""
        return self.array.shape[1]

    def __len__(self) -> int:
        return self.array.shape[0]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`; a view if the matrix is contiguous."""
        return np.ascontiguousarray(self.array[start:stop])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the rows at `positions`."""
        return np.ascontiguousarray(self.array[positions])


class StackedRows:
    """The rows of several sets of features, one set after the other, as one set.

    ValueError for no set, and for sets of different dimensions.

    >>> first, second = np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32)
    >>> StackedRows(ArrayRows(first), ArrayRows(second)).read(1, 3)
    array([[0., 1.],
           [1., 1.]], dtype=float32)
    """

    def __init__(self, *parts: FeatureRows) -> None:
        dimensions = [each.dimension for each in parts]
        if len(set(dimensions)) != 1:
            raise ValueError(
                f"features of {' and '.join(map(str, dimensions)) or 'no'} dimensions cannot be"
                " stacked"
            )
        self.parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    @property
    def dimension(self) -> int:
        """D."""
        return self.parts[0].dimension

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, of all sets that hold some of them."""
        spans = [
            (part, max(start, low) - low, min(stop, high) - low)
            for part, (low, high) in zip(self.parts, pairwise(self._starts.tolist()), strict=True)
            if start < high and stop > low
        ]
        if len(spans) == 1:
            part, first, last = spans[0]
            return part.read(first, last)
        out, end = empty_rows(stop - start, self.dimension), 0
        for part, first, last in spans:
            out[end : end + last - first] = part.read(first, last)
            end += last - first
        return out

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions`."""
        out = empty_rows(len(positions), self.dimension)
        owner = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(owner):
            own = owner == number
            out[own] = self.parts[number].take(positions[own] - self._starts[number])
        return out


@dataclass(frozen=True)
class ChosenRows:
    """The rows of `rows` at `positions` int64 `[N]`, in that order."""

    rows: FeatureRows
    positions: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        """D."""
        return self.rows.dimension

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """The chosen rows `start` to `stop`."""
        return self.rows.take(self.positions[start:stop])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions` among the chosen ones."""
        return self.rows.take(self.positions[positions])


_THREADS_OF_GPU = 8
_WIDER_ON_GPU = 8
_HIGHEST_ON_GPU = 2**15  # torch finds marked values only among fewer than 2^31


@dataclass(frozen=True)
class Tiling:
    """The size of the blocks: each thread holds `query_block` x `gallery_block` scores at once."""

    query_block: int = 1024
    gallery_block: int = 4096
    threads: int = 0
    """Number of threads; 0 for as many as this process may use."""
    gpus: float = 0
    """The share of a GPU that each worker has. If it is above 0, the GPU multiplies the tiles of
    neighbors, searches and counted ranks.
    """

    def __post_init__(self) -> None:
        if self.query_block < 1 or self.gallery_block < 1:
            raise ValueError(
                f"a block holds at least one row, not {min(self.query_block, self.gallery_block)}"
            )
        if self.threads < 0:
            raise ValueError(f"threads must be 0 (all) or more, not {self.threads}")
        if not 0 <= self.gpus <= 1:
            raise ValueError(f"gpus must be a share from 0 to 1, not {self.gpus}")

    def inside(self, workers: int) -> "Tiling":
        """The same blocks for each of `workers` processes with one CPU each; 0 workers means this
        process.
        """
        return replace(self, threads=1) if workers else self

    def thread_count(self) -> int:
        """The number of threads in use."""
        return self.threads or len(os.sched_getaffinity(0))

    def for_gpu(self) -> "Tiling":
        """Blocks eight times as high and as wide, because a GPU is faster with few large tiles.

        Each thread keeps one such block on the GPU, so the number of threads is small.
        """
        return replace(
            self,
            query_block=min(_WIDER_ON_GPU * self.query_block, _HIGHEST_ON_GPU),
            gallery_block=_WIDER_ON_GPU * self.gallery_block,
            threads=min(_THREADS_OF_GPU, self.thread_count()),
        )

    def flat_for_gpu(self) -> "Tiling":
        """Tiles with as many pairs as those of `for_gpu`, but made of whole gallery blocks.

        A pass reads the gallery once, and a few queries fill a tile.
        """
        wide = self.for_gpu()
        gallery_block = min(wide.gallery_block, _HIGHEST_ON_GPU**2)
        height = max(1, wide.tile**2 // gallery_block)
        return replace(wide, query_block=height, gallery_block=gallery_block)

    def rows_of_part(self) -> int:
        """The number of gallery rows that justify a pass of their own.

        This is one block. For a GPU it is eight of its blocks, because each pass prepares the
        queries again.
        """
        return 8 * self.for_gpu().gallery_block if self.gpus else self.gallery_block

    @property
    def tile(self) -> int:
        """The number of rows, and of columns, of a square tile."""
        return min(self.query_block, self.gallery_block)

    def even_block(self, rows: int) -> int:
        """The block size, at most a tile's, that gives every thread the same number of blocks of
        `rows`.
        """
        threads = self.thread_count()
        turns = -(-rows // (threads * self.tile))
        return max(1, -(-rows // max(1, threads * turns)))

    @contextmanager
    def workers(self) -> Iterator[Run]:
        """Start this tiling's threads, and yield a function that calls `work(start, stop)` per
        block.

        Linear algebra inside `work` uses one thread per call, because the blocks already run in
        parallel.
        """
        threads = self.thread_count()
        with ThreadPoolExecutor(threads, initializer=use_one_thread) as pool:
            yield lambda work, runs: _shared_out(pool, threads, work, runs)


def _shared_out(
    pool: ThreadPoolExecutor, threads: int, work: Callable[[int, int], None], runs: Blocks
) -> None:
    """Call `work` for every block, in the order of the blocks, on up to this number of `threads`.

    If it raises, no further block begins, and the error of the first such block is raised.
    """
    line = list(enumerate(runs))
    # All threads draw from one iterator. A task for each block would take longer than small blocks.
    left = iter(line)
    begun = [0] * min(threads, len(line))

    def draw(thread: int) -> None:
        try:
            for begun[thread], block in left:
                work(*block)
        finally:
            deque(left, maxlen=0)  # after an error, nothing is left for any thread

    tasks = [pool.submit(draw, thread) for thread in range(len(begun))]
    try:
        wait(tasks)
    finally:
        deque(left, maxlen=0)  # after Ctrl-C, too
    failed = [(place, task) for place, task in zip(begun, tasks, strict=True) if task.exception()]
    if failed:
        min(failed)[1].result()


def alone(run: Run, work: Callable[[], Made]) -> Made:
    """Return `work()`, run on one thread of `run`, where linear algebra uses one thread.

    In the main thread, linear algebra would wake other threads. These wait for more work in a busy
    loop for some hundredths of a second, and slow down the blocks that follow. NumPy's own products
    do so on any thread, so use torch's products in `work`.

    >>> with Tiling(threads=2).workers() as run:
    ...     alone(run, lambda: 6 * 7)
    42
    """
    made: list[Made] = []
    run(lambda _start, _stop: made.append(work()), [(0, 1)])
    return made[0]


def blocks(length: int, size: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Cut the rows `first` to `length` into runs of `size`; the last run may be shorter.

    >>> list(blocks(7, 3))
    [(0, 3), (3, 6), (6, 7)]
    """
    for start in range(first, length, size):
        yield start, min(start + size, length)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Some of `count` places at even distances, `most` at most, as int64 in ascending order.

    >>> evenly(7, 3)
    array([0, 2, 4])
    """
    taken = min(count, most)
    return np.arange(taken, dtype=np.int64) * count // max(1, taken)


def empty_rows(count: int, dimension: int) -> NDArray[np.float32]:
    """An uninitialized matrix `[count, dimension]` that begins on a cache line.

    If the dimension is a multiple of 16, every row then begins on a cache line. A vector that
    crosses a cache line takes two loads.
    """
    flat = np.empty(count * dimension + 16, np.float32)
    start = (-flat.ctypes.data // 4) % 16
    return flat[start : start + count * dimension].reshape(count, dimension)


def on_lines(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows `[N, D]`, copied unless they are contiguous and begin on a cache line."""
    if rows.ctypes.data % 64 == 0 and rows.flags.c_contiguous:
        return rows
    out = empty_rows(*rows.shape)
    out[:] = rows
    return out


def as_rows(features: "NDArray[np.float32] | FeatureRows") -> FeatureRows:
    """Wrap a matrix as `FeatureRows`; return `FeatureRows` unchanged."""
    return ArrayRows(features) if isinstance(features, np.ndarray) else features
