"""Rows for a dataset of Ray Data that come while it runs: one pool of actors serves all of them.

A dataset that is made of rows has all of them in memory at its start. This one has a single read
task, which takes rows from a queue on the machine of the driver, where nothing is lost before the
driver itself is. Imports nothing heavy: the read task's process loads this module.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.annotations import RayDeprecationWarning
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_BLOCK_BYTES = 1
"""Of Ray Data's blocks: each row is a block of its own, and goes to an actor by itself."""


class Feed:
    """A dataset whose rows, tables of one row, come by `add` until `end` is called.

    Use it as a context manager: its queue ends with the block.
    """

    def __init__(self) -> None:
        node = ray.get_runtime_context().get_node_id()
        self._here: dict[str, Any] = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        self._queue = Queue(actor_options=self._here)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Where the cluster is gone, the queue is too.
        with suppress(ray.exceptions.RayError):
            self._queue.shutdown(force=True)

    def add(self, rows: Sequence[pa.Table]) -> None:
        """More rows; raises what Ray raises where the queue is lost."""
        self._queue.put_nowait_batch(list(rows))

    def end(self) -> None:
        """No more rows will come: the dataset ends when it has given all."""
        self._queue.put_nowait(None)

    def dataset(self) -> ray.data.Dataset:
        """The dataset; it is read once."""
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = _BLOCK_BYTES
        with warnings.catch_warnings():
            # The arguments that are to replace `ray_remote_args` have nothing for these two.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            return ray.data.read_datasource(
                _Queued(self._queue),
                override_num_blocks=1,
                # A second try would not find what the first one took from the queue.
                ray_remote_args={**self._here, "max_retries": 0},
            )


class _Queued(Datasource):
    """What comes out of a queue, as one read task."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self._queue = queue

    def get_name(self) -> str:
        """What Ray's dashboard shows."""
        return "Units"

    def estimate_inmemory_data_size(self) -> int | None:
        """None: nobody knows."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """The only one."""
        queue = self._queue
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(lambda: _taken(queue), unknown)]


def _taken(queue: Queue) -> Iterator[pa.Table]:
    while (row := queue.get()) is not None:
        yield row


def rows_as_they_come(dataset: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a dataset, each as soon as it is there: `iter_rows` waits for one more."""
    batches: Any = dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")
    for some in batches:
        yield from some.to_pylist()
