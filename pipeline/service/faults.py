"""Errors as answers, all in one form: `{"error": {"status": 404, "message": "..."}}`."""

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pipeline.errors import InputError, RunError
from pipeline.service.answer_headers import ALWAYS
from pipeline.service.json_answers import JsonAnswer

_log = logging.getLogger(__name__)
_ENDS_CONNECTION = (408, 413)


class Refused(HTTPException):
    """A request that gets an error for its answer: a status, and a sentence that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)


def fault(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer with an error.

    >>> fault(404, "there is no row 7").body
    b'{"error":{"status":404,"message":"there is no row 7"}}'
    """
    added = dict(headers or {})
    if status in _ENDS_CONNECTION:  # the rest of the body would be read as the next request
        added["Connection"] = "close"
    content = {"error": {"status": status, "message": message}}
    return JsonAnswer(content, status, added)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    return fault(error.status_code, error.detail, error.headers)


async def _wrong_input(_request: Request, error: Exception) -> Response:
    return fault(400, str(error))


async def _failed_run(_request: Request, error: Exception) -> Response:
    _log.warning("%s", error)
    return fault(503, str(error))


async def _left(_request: Request, _error: Exception) -> Response:
    """Nobody reads this answer: the client left before its body had come."""
    return fault(400, "the body ended too early")


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """The server logs the traceback; the answer tells nothing of the inside.

    It passes by the middleware that adds headers.
    """
    return fault(500, "the service failed; its log says why", ALWAYS)


HANDLERS = {
    HTTPException: _refused,
    InputError: _wrong_input,
    RunError: _failed_run,
    ClientDisconnect: _left,
    Exception: _unexpected,
}
"""What the application answers to each kind of exception."""
