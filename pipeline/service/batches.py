"""Searches that arrive at about the same time are computed together.

A search of 32 queries takes about three times as long as one of a single query, since the codes of
the gallery pass through memory once for all of them.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.neighbors.topk import TopK
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.metrics import ServiceMetrics

_LARGEST = 64


@dataclass(eq=False)
class _Waiting:
    """Queries `[q, D]` of one request, and where their lists go."""

    held: HeldGallery
    queries: NDArray[np.float32]
    k: int
    allowed: NDArray[np.bool_] | None
    found: "asyncio.Future[TopK]" = field(default_factory=asyncio.Future)


class Batches:
    """Run searches on all cores, one batch at a time.

    A search waits `seconds` for others, or until the batch before has ended. Those of one version
    and without a filter go together.
    """

    def __init__(self, seconds: float, metrics: ServiceMetrics, tiling: Tiling = Tiling()) -> None:
        self._seconds, self._metrics = seconds, metrics
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._threads = ExitStack()
        self._run = self._threads.enter_context(tiling.workers())
        self._searching = self._threads.enter_context(ThreadPoolExecutor(1, "searches"))

    def close(self) -> None:
        """End the threads, after the batch that runs."""
        self._threads.close()

    def warm_up(self, held: HeldGallery) -> None:
        """Search once with a filter and once without, so that nobody waits until kernels load."""
        if not len(held):
            return
        query, few = held.features.take(np.zeros(1, np.int64)), np.zeros(len(held), np.bool_)
        for allowed in (None, few):
            held.features.search(query, 1, run=self._run, allowed=allowed)

    async def search(
        self,
        held: HeldGallery,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> TopK:
        """The `k` best positions of every query `[q, D]`; see `search_held`."""
        waiting = _Waiting(held, queries, k, allowed)
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_all())
        return await waiting.found

    async def _answer_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._seconds)
            if batch := self._next_batch():
                await self._answer(batch)

    def _next_batch(self) -> list[_Waiting]:
        """The request that waits longest, and others that are computed with it."""
        # Whoever went away needs no list.
        waiting = [each for each in self._waiting if not each.found.done()]
        batch, self._waiting = waiting[:1], []
        count = sum(len(each.queries) for each in batch)
        for each in waiting[1:]:
            first = batch[0]
            alike = each.held is first.held and each.allowed is None and first.allowed is None
            if alike and count + len(each.queries) <= _LARGEST:
                batch.append(each)
                count += len(each.queries)
            else:
                self._waiting.append(each)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        held, allowed = batch[0].held, batch[0].allowed
        queries = np.concatenate([each.queries for each in batch])
        k = max(each.k for each in batch)
        self._metrics.queries.labels(held.name).inc(len(queries))
        self._metrics.batches.observe(len(queries))
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._searching,
                lambda: held.features.search(queries, k, run=self._run, allowed=allowed),
            )
        except Exception as error:  # noqa: BLE001 (every waiting request gets it)
            for each in batch:
                if not each.found.done():
                    each.found.set_exception(error)
            return
        start = 0
        for each in batch:
            lines = slice(start, start + len(each.queries))
            start = lines.stop
            if not each.found.done():
                own = TopK(found.scores[lines, : each.k], found.rows[lines, : each.k])
                each.found.set_result(own)
