"""Bodies of requests: never larger than allowed, and never slower."""

import asyncio
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.service.faults import Refused, fault
from pipeline.service.settings import ServiceSettings

_BYTES_A_SECOND = 16 * 1024


class BodyLimit:
    """ASGI middleware: 413 for a body that is too large, 408 for one that comes too slowly.

    The size that a request states is checked first; what comes is counted, whatever is stated.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._most = settings.max_body_bytes
        self._seconds = settings.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request by the size that it states, or pass on what it sends, counted."""
        if scope["type"] == "http":
            stated = Headers(scope=scope).get("content-length", "0")
            if not stated.isascii() or not stated.isdecimal():
                await fault(400, "Content-Length is not a number")(scope, receive, send)
                return
            if int(stated) > self._most:
                await fault(413, self._too_large)(scope, receive, send)
                return
            receive = self._counted(receive)
        await self._app(scope, receive, send)

    @property
    def _too_large(self) -> str:
        return f"the body has more than the {self._most:,} bytes that are allowed"

    def _counted(self, receive: Receive) -> Receive:
        start, count, is_whole = monotonic(), 0, False

        async def receive_counted() -> Message:
            nonlocal count, is_whole
            if is_whole:  # what comes now is that the client has left
                return await receive()
            left = start + self._seconds + count / _BYTES_A_SECOND - monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError as error:
                raise Refused(408, "the body comes too slowly") from error
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if count > self._most:
                    raise Refused(413, self._too_large)
            return message

        return receive_counted
