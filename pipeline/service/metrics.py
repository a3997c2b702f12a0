"""What the service counts of itself, in the text format of Prometheus."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Counters of one application; two in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "regallery_requests", "Answered requests.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "regallery_request_seconds",
            "Seconds until an answer began.",
            ["route"],
            registry=self.registry,
        )
        self.queries = Counter(
            "regallery_queries", "Queries that were ranked.", ["gallery"], registry=self.registry
        )
        self.batches = Histogram(
            "regallery_batch_queries",
            "Queries that were ranked together.",
            buckets=_BATCHES,
            registry=self.registry,
        )
        self.rows = Gauge(
            "regallery_rows", "Rows of a gallery.", ["gallery"], registry=self.registry
        )
        self.version = Gauge(
            "regallery_version", "Version of a gallery.", ["gallery"], registry=self.registry
        )

        self.answers = 0
        """All of the requests."""

    def text(self) -> bytes:
        """All of them as text."""
        return generate_latest(self.registry)


class Counted:
    """ASGI middleware that counts answers by route and status, refused ones too.

    `routes` has the path template of each endpoint; paths themselves are no labels, since anyone
    could make millions of them.
    """

    def __init__(
        self, app: ASGIApp, metrics: ServiceMetrics, routes: dict[Callable[..., Any] | None, str]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request, and count its answer."""
        start = perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = self._routes.get(scope.get("endpoint"), "none")
                self._metrics.answers += 1
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(perf_counter() - start)
                # Not the path: it may be a one-time link.
                _log.debug("%s %s: %d", scope["method"], route, message["status"])
            await send(message)

        await self._app(scope, receive, send_counted)
