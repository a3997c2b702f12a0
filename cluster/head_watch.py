"""Report that the head of a cluster is gone. A minute later, Ray ends a process that joined it
without any message.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
_KNOCKS = 3
_RAY_SECONDS = 60
"""How long Ray itself waits for a head (RAY_gcs_rpc_server_reconnect_timeout_s)."""


@contextlib.contextmanager
def head_watched(address: str) -> Iterator[None]:
    """Test the head's port regularly, on a thread, for the length of a `with` block.

    If three attempts fail, log an error that says what happens next.
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(address: str, over: threading.Event) -> None:
    parts, missed = urlsplit(f"//{address}"), 0
    while not over.wait(_PAUSE_SECONDS):
        try:
            socket.create_connection((parts.hostname, parts.port), _PAUSE_SECONDS).close()
            missed = 0
        except OSError as error:
            missed += 1
            if missed == _KNOCKS:
                _log.error(
                    "the head of the cluster at %s does not answer (%s); unless it comes back, this"
                    " command ends within %d seconds; what was finished is kept: run it again when"
                    " the cluster is up, and it goes on",
                    address,
                    error,
                    _RAY_SECONDS,
                )
