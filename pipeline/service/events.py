"""The watch for new versions and new verdicts, and those who are told of them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.service.faults import Refused
from pipeline.service.state import Service, service_of
from pipeline.service.streams import event, event_stream

_log = logging.getLogger(__name__)
_REFRESH_SECONDS = 1.0
_COMMENT_SECONDS = 15.0
_MOST_LISTENERS = 100
_MOST_WAITING = 1000


class Listeners:
    """Those who follow the events, each with a queue of its own."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def tell(self, happened: dict[str, Any]) -> None:
        """Tell all of them; who has not listened for long misses the event."""
        for queue in self._queues:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(happened)

    def check_room(self) -> None:
        """Raise `Refused` (503) if there are many listeners."""
        if len(self._queues) >= _MOST_LISTENERS:
            raise Refused(503, f"{_MOST_LISTENERS} clients follow the events already")

    @contextlib.contextmanager
    def listening(self) -> Iterator["asyncio.Queue[dict[str, Any]]"]:
        """One more listener, within a `with` block."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_WAITING)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


async def _watch(service: Service, listeners: Listeners) -> None:
    """Look for changes each second, until the service stops."""
    _count(service)
    while not service.stopping.is_set():
        await asyncio.sleep(_REFRESH_SECONDS)
        await run_in_threadpool(service.refresh)
        while not service.changes.empty():
            change = service.changes.get()
            listeners.tell(
                {
                    "gallery": change.gallery,
                    "version": change.version,
                    "verdicts": change.verdict_files,
                }
            )
        _count(service)


def _count(service: Service) -> None:
    for name in service.shelf.names:
        held = service.shelf.get(name)
        service.metrics.rows.labels(name).set(len(held))
        service.metrics.version.labels(name).set(held.gallery.version)


@contextlib.asynccontextmanager
async def watched(app: Starlette) -> AsyncIterator[None]:
    """The life of the application: galleries are watched, and what must finish is waited for."""
    service: Service = app.state.service
    app.state.listeners = Listeners()
    watch = asyncio.create_task(_watch(service, app.state.listeners))
    watch.add_done_callback(_told)
    try:
        yield
    finally:
        service.stop()
        watch.cancel()
        await run_in_threadpool(service.work.finish)


def _told(watch: "asyncio.Task[None]") -> None:
    """Log why the watch ended, if nobody wanted it to."""
    with contextlib.suppress(asyncio.CancelledError):
        error = watch.exception()
        if error is None:
            return
        _log.error("new versions are no longer noticed; restart the service", exc_info=error)


async def follow(request: Request) -> Response:
    """Stream an event whenever a gallery has a new version or new verdicts."""
    service = service_of(request)
    listeners: Listeners = request.app.state.listeners
    listeners.check_room()

    async def events() -> AsyncIterator[str]:
        with listeners.listening() as queue:
            yield ": listening\n\n"
            quiet = 0.0
            while not service.stopping.is_set():
                try:
                    yield event(await asyncio.wait_for(queue.get(), 0.25))
                    quiet = 0.0
                except TimeoutError:
                    quiet += 0.25
                if quiet >= _COMMENT_SECONDS:
                    quiet = 0.0
                    yield ": still here\n\n"

    return event_stream(events())


ROUTES = [Route("/v1/events", follow, methods=["GET"])]
