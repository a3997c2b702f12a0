"""Server-sent events: answers that go on while something happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from starlette.responses import StreamingResponse

from pipeline.report.plain import plain

_LOOK_SECONDS = 0.1
_COMMENT_SECONDS = 15.0


def event(content: Any) -> str:
    """One event with JSON for its data.

    >>> event({"done": 1})
    'data: {"done":1}\\n\\n'
    """
    return f"data: {json.dumps(plain(content), allow_nan=False, separators=(',', ':'))}\n\n"


def event_stream(events: AsyncIterator[str]) -> StreamingResponse:
    """The answer that streams events; proxies are told not to hold them back."""
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def changes_of(
    look: Callable[[], Any], is_over: Callable[[], bool], is_stopping: Callable[[], bool]
) -> AsyncIterator[str]:
    """An event with what `look` returns, at first and whenever it changes, until `is_over`.

    A comment each 15 seconds keeps the connection open.
    """
    before, told = None, monotonic()
    while True:
        ends = is_over()
        now = plain(look())
        if now != before:
            before, told = now, monotonic()
            yield event(now)
        elif monotonic() - told > _COMMENT_SECONDS:
            told = monotonic()
            yield ": still here\n\n"
        if ends or is_stopping():
            return
        await asyncio.sleep(_LOOK_SECONDS)
