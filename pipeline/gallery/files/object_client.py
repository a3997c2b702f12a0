"""Requests to an object store: the client of a bucket, and how its answers and errors are taken.

Credentials come from the environment or from the role of the machine, as `obstore` finds them; no
message holds any.
"""

import errno
import functools
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from pipeline.errors import InputError, RunError

Answer = TypeVar("Answer")

_CLIENT: Any = {"timeout": "300s", "read_timeout": "60s", "connect_timeout": "10s"}
_RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=120)}
_ALLOW_HTTP = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_PASSING = ("408", "409", "429")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_QUERY = re.compile(r"\?[^\s)]*")
_LONGEST_REASON = 300


class StoreError(RunError):
    """An object store refused a request, or gave no answer; nothing is known about the object."""


class Tag(NamedTuple):
    """Names one version of an object's bytes: in S3 and Azure the first part, in GCS the second."""

    e_tag: str | None
    version: str | None


def tag_of(meta: Any) -> Tag:
    """The tag in what the client says about an object."""
    return Tag(meta["e_tag"], meta["version"])


@functools.lru_cache(maxsize=16)
def client_of(bucket: str) -> ObjectStore:
    """The client of a bucket, such as `s3://bucket`, for this process."""
    options: Any = dict(_CLIENT)
    if any(os.environ.get(name, "").lower() in ("true", "1") for name in _ALLOW_HTTP):
        options["allow_http"] = True  # the client forgets it where other options are given
    try:
        return from_url(bucket, client_options=options, retry_config=_RETRIES)
    except (BaseError, ValueError) as error:
        raise InputError(
            f"{bucket}: the object store cannot be used ({reason_of(error)})"
        ) from error


def steadily(place: object, ask: Callable[[], Answer]) -> Answer:
    """The answer to a request about a place; sent again where none came.

    The client repeats what it can without harm. The rest, such as a conditional write whose answer
    was lost, is repeated here: `ask` knows how to tell what became of it.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    pause = _PAUSE_SECONDS
    while True:
        try:
            with told(place):
                return ask()
        except StoreError as error:
            if not _may_pass(error.__cause__) or time.monotonic() + pause > until:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


@contextmanager
def told(place: object) -> Iterator[None]:
    """Turns the errors of the client into ours, which name the object."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", str(place)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(
            f"{place}: the object store denies access ({reason_of(error)}): see that the"
            " environment has the right credentials, and that they may do this"
        ) from error
    except BaseError as error:
        raise StoreError(
            f"{place}: the object store does not do what it was asked ({reason_of(error)});"
            " finished work is kept: run the command again"
        ) from error


def reason_of(error: BaseException) -> str:
    """What a store said, in one line, without the address, which may hold a signature."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status or code:
        return ", ".join(match[1].strip() for match in (status, code) if match)
    return without_query(text.partition("\n")[0])[:_LONGEST_REASON]


def without_query(text: str) -> str:
    """A text with what follows the question mark of a URL left out.

    >>> without_query("GET https://host/key?sig=secret failed")
    'GET https://host/key?... failed'
    """
    return _QUERY.sub("?...", text)


def _may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed later."""
    status = _STATUS.search(str(error))
    is_refused = status is not None and status[1][:1] == "4" and status[1][:3] not in _PASSING
    return isinstance(error, GenericError) and not is_refused
