"""Requests to an object store: URLs, the client of a bucket, and the treatment of answers and
errors.

Credentials come from the environment or from the role of the machine, as `obstore` finds them; no
message contains any.
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

SCHEMES = ("s3", "gs", "az")

_CLIENT: Any = {"timeout": "300s", "read_timeout": "60s", "connect_timeout": "10s"}
_RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=120)}
_ALLOW_HTTP = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
_ROLE_SERVICES = ("//169.254.169.254", "//169.254.170.2", "//metadata.google.internal")
_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_PASSING = ("408", "409", "429")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_QUERY = re.compile(r"\?[^\s)]*")
_LONGEST_REASON = 300
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REFUSED = re.compile(r"[\x00-\x1f\x7f\\%#?\ud800-\udfff]")


class StoreError(RunError):
    """An object store refused a request, or did not answer; the state of the object is unknown."""


class Tag(NamedTuple):
    """The identity of one version of an object's bytes: in S3 and Azure the first part, in GCS the
    second.
    """

    e_tag: str | None
    version: str | None


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a URL of anything other than a file of this machine.

    >>> is_url("s3://bucket/g"), is_url("/data/g"), is_url("file:///data/g")
    (True, False, False)
    """
    text = os.fspath(location)
    return "://" in text and not text.startswith("file://")


def split_url(url: str, what: str) -> tuple[str, str]:
    """Split a URL into its bucket, such as `s3://bucket`, and the name in it.

    `what` is for the message. Raise `InputError` for another form, and for a password in it.

    >>> split_url("s3://bucket/galleries/market/", "a gallery")
    ('s3://bucket', 'galleries/market')
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise InputError(
            f"{scheme}://...@{bucket.rpartition('@')[2]}: a URL with a user or a password is"
            " refused, since it would be stored and logged; set them in the environment"
        )
    if scheme not in SCHEMES:
        raise InputError(
            f"{without_query(url)}: {what} is given by a local path, or by a URL that begins"
            f" with {', '.join(f'{each}://' for each in SCHEMES)}"
        )
    if _REFUSED.search(rest):
        raise InputError(
            f"{without_query(url)!r}: the URL of {what} has no % # ? or backslash in it,"
            " and no control character; credentials belong into the environment"
        )
    key = key.rstrip("/")
    if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in key.split("/")):
        raise InputError(f"{url}: give {scheme}://BUCKET/NAME, without empty parts or dots")
    return f"{scheme}://{bucket}", key


def tag_of(meta: Any) -> Tag:
    """The tag in the client's description of an object."""
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


def ask_again(place: object, ask: Callable[[], Answer]) -> Answer:
    """Send a request about a place, and send it again if no answer came.

    The client repeats everything that is safe to repeat. Other requests, such as a conditional
    write whose answer was lost, are repeated here: `ask` itself finds out whether the first one
    succeeded.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    pause = _PAUSE_SECONDS
    while True:
        try:
            with named_errors(place):
                return ask()
        except StoreError as error:
            if not _may_pass(error.__cause__) or time.monotonic() + pause > until:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


@contextmanager
def named_errors(place: object) -> Iterator[None]:
    """Turn the errors of the client into ours, which name the object."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "the object does not exist", str(place)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(
            f"{place}: the object store denies access ({reason_of(error)}): see that the"
            " environment has the right credentials, and that they may do this"
        ) from error
    except BaseError as error:
        if _is_of_role(error):
            raise StoreError(
                f"{place}: the environment has no credentials for the object store, and this"
                f" machine has no role that gives any ({reason_of(error)}): set"
                f" {_variables(place)}"
            ) from error
        raise StoreError(
            f"{place}: the object store does not do what it was asked ({reason_of(error)});"
            " finished work is kept: run the command again"
        ) from error


def reason_of(error: BaseException) -> str:
    """A store's reason, in one line, without the address, which may contain a signature."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status or code:
        return ", ".join(match[1].strip() for match in (status, code) if match)
    return without_query(text.partition("\n")[0])[:_LONGEST_REASON]


def without_query(text: str) -> str:
    """Remove the part after the question mark from the URLs in a text.

    >>> without_query("GET https://host/key?sig=secret failed")
    'GET https://host/key?... failed'
    """
    return _QUERY.sub("?...", text)


def _may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed later."""
    status = _STATUS.search(str(error))
    is_refused = status is not None and status[1][:1] == "4" and status[1][:3] not in _PASSING
    return isinstance(error, GenericError) and not is_refused and not _is_of_role(error)


def _is_of_role(error: BaseException | None) -> bool:
    """Whether the error is not of the store, but of the service for the role of a cloud machine."""
    return any(each in str(error) for each in _ROLE_SERVICES)


def _variables(place: object) -> str:
    """The environment variables for the credentials of a URL."""
    return _VARIABLES.get(str(place).partition("://")[0], "them")
