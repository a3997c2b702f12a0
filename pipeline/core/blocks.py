"""Features in blocks: what every fold reads, and how large a bite it takes."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Blocks = Iterable[tuple[int, int]]
"""Runs of rows, each from a start to a stop."""

Run = Callable[[Callable[[int, int], None], Blocks], None]
"""What `Tiling.workers` gives: calls `work(start, stop)` for every block, on its threads."""

Made = TypeVar("Made")


class FeatureRows(Protocol):
    """Features `[N, D]` that are read a block at a time: an array, a file or a gallery.

    A row's position is its place in the total order in which ties are broken. Several threads may
    read at once.
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
        """Rows `start` to `stop`: a view where the matrix is contiguous."""
        return np.ascontiguousarray(self.array[start:stop])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions`, copied."""
        return np.ascontiguousarray(self.array[positions])


@dataclass(frozen=True)
class StackedRows:
    """The rows of `first`, then those of `second`: the union that joint expansion works on."""

    first: FeatureRows
    second: FeatureRows

    def __post_init__(self) -> None:
        if self.first.dimension != self.second.dimension:
            raise ValueError(
                f"features of {self.first.dimension} and {self.second.dimension} dimensions"
                " cannot be stacked"
            )

    @property
    def dimension(self) -> int:
        """D."""
        return self.first.dimension

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` of the union."""
        edge = len(self.first)
        if stop <= edge:
            return self.first.read(start, stop)
        if start >= edge:
            return self.second.read(start - edge, stop - edge)
        out = empty_rows(stop - start, self.dimension)
        out[: edge - start] = self.first.read(start, edge)
        out[edge - start :] = self.second.read(0, stop - edge)
        return out

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows of the union at `positions`."""
        out = empty_rows(len(positions), self.dimension)
        early = positions < len(self.first)
        out[early] = self.first.take(positions[early])
        out[~early] = self.second.take(positions[~early] - len(self.first))
        return out


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of `rows`, those at `positions` int64 `[N]`, in that order."""

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
_HIGHEST_ON_GPU = 2**15  # torch finds what is marked among less than 2^31 values


@dataclass(frozen=True)
class Tiling:
    """How much a fold holds at once: `query_block` x `gallery_block` scores in each thread."""

    query_block: int = 1024
    gallery_block: int = 4096
    threads: int = 0
    """Threads of the fold; 0 for as many as this process may use."""
    gpus: float = 0
    """The share of a GPU that each worker has: above 0, it multiplies the tiles of neighbors,
    searches and counted ranks."""

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
        """The same blocks for each of `workers`, which own one CPU; for this process where 0."""
        return replace(self, threads=1) if workers else self

    def thread_count(self) -> int:
        """Threads that the fold runs on."""
        return self.threads or len(os.sched_getaffinity(0))

    def for_gpu(self) -> "Tiling":
        """Blocks eight times as high and as wide: a GPU is sooner through with few large tiles.
        Each thread holds one there, so they are few.
        """
        return replace(
            self,
            query_block=min(_WIDER_ON_GPU * self.query_block, _HIGHEST_ON_GPU),
            gallery_block=_WIDER_ON_GPU * self.gallery_block,
            threads=min(_THREADS_OF_GPU, self.thread_count()),
        )

    def flat_for_gpu(self) -> "Tiling":
        """As many pairs in a tile as `for_gpu` has, of whole gallery blocks: the gallery passes by
        once, and few queries fill a tile.
        """
        wide = self.for_gpu()
        gallery_block = min(wide.gallery_block, _HIGHEST_ON_GPU**2)
        height = max(1, wide.tile**2 // gallery_block)
        return replace(wide, query_block=height, gallery_block=gallery_block)

    def rows_of_part(self) -> int:
        """Gallery rows that are worth a pass of their own: a block; of a GPU, for which the queries
        are made ready anew in every pass, eight of its blocks.
        """
        return 8 * self.for_gpu().gallery_block if self.gpus else self.gallery_block

    @property
    def tile(self) -> int:
        """Rows and columns of a square tile."""
        return min(self.query_block, self.gallery_block)

    def even_block(self, rows: int) -> int:
        """The size, at most a tile's, that gives every thread as many blocks of `rows`."""
        threads = self.thread_count()
        turns = -(-rows // (threads * self.tile))
        return max(1, -(-rows // max(1, threads * turns)))

    @contextmanager
    def workers(self) -> Iterator[Run]:
        """Start this tiling's threads; gives a function that calls `work(start, stop)` per block.

        The linear algebra inside takes one thread each: the blocks are the parallelism.
        """
        import torch  # only here: whoever just reads features does without it

        with ThreadPoolExecutor(
            self.thread_count(), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:

            def run(work: Callable[[int, int], None], runs: Blocks) -> None:
                for _ in pool.map(lambda block: work(*block), runs):
                    pass

            yield run


def alone(run: Run, work: Callable[[], Made]) -> Made:
    """What `work` gives on one of the threads of `run`, where linear algebra takes one thread.

    In the main thread it would wake others, and those wait for more of it in a loop, for some
    hundredths of a second, in the way of the blocks that follow. NumPy's own products do so
    anywhere: take torch's.

    >>> with Tiling(threads=2).workers() as run:
    ...     alone(run, lambda: 6 * 7)
    42
    """
    made: list[Made] = []
    run(lambda _start, _stop: made.append(work()), [(0, 1)])
    return made[0]


def blocks(length: int, size: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Cut the rows `first` to `length` into runs of `size`, the last one shorter.

    >>> list(blocks(7, 3))
    [(0, 3), (3, 6), (6, 7)]
    """
    for start in range(first, length, size):
        yield start, min(start + size, length)


def empty_rows(count: int, dimension: int) -> NDArray[np.float32]:
    """An uninitialized matrix `[count, dimension]` that begins on a cache line.

    Rows of 16 components, or 32 and so on, then all do: vectors of others are loaded in halves.
    """
    flat = np.empty(count * dimension + 16, np.float32)
    start = (-flat.ctypes.data // 4) % 16
    return flat[start : start + count * dimension].reshape(count, dimension)


def on_lines(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows `[N, D]`, copied unless they begin on a cache line and are contiguous."""
    if rows.ctypes.data % 64 == 0 and rows.flags.c_contiguous:
        return rows
    out = empty_rows(*rows.shape)
    out[:] = rows
    return out


def as_rows(features: "NDArray[np.float32] | FeatureRows") -> FeatureRows:
    """A matrix as `FeatureRows`; what already is comes back as it is."""
    return ArrayRows(features) if isinstance(features, np.ndarray) else features
