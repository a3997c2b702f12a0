"""How many requests a client may make: a token bucket for each."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.service.faults import fault
from pipeline.service.settings import ServiceSettings

_CLIENTS_HELD = 10_000


class Buckets:
    """The requests that each client still has: `burst` at first, `rate` more each second.

    Of many clients, those that were not heard of for the longest are forgotten.

    >>> buckets = Buckets(rate=1, burst=2, clock=lambda: 0.0)
    >>> [buckets.wait("a") for _ in range(3)], buckets.wait("b")
    ([0.0, 0.0, 1.0], 0.0)
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = monotonic, most: int = 0
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._most = most or _CLIENTS_HELD
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def wait(self, client: str) -> float:
        """Seconds until the client may ask; at 0 it asks now, and has one request less."""
        now = self._clock()
        left, then = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        may = left >= 1
        self._left[client] = (left - may, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0 if may else (1 - left) / self._rate


class RateLimit:
    """ASGI middleware: 429 for a client that asks too often; `/healthz` is not counted."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._buckets = Buckets(settings.requests_per_second, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        wait = self._buckets.wait((scope.get("client") or ("",))[0])
        if wait:
            headers = {"Retry-After": str(ceil(wait))}
            await fault(429, "too many requests; wait a little", headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)
