"""A service on a real port of the loopback, in a thread."""

import socket
import threading
from contextlib import contextmanager, suppress

from pipeline.service.app import create_app
from pipeline.service.running import answer_requests, listen
from pipeline.service.settings import ServiceSettings
from tests.service.asking import TOKEN


@contextmanager
def listening_service(shelf, network=None, **settings):
    """The port of a service that answers within the `with` block."""
    settings = ServiceSettings(**{"token": TOKEN, "port": 0} | settings)
    app, listening, started = (
        create_app(shelf, settings, network),
        listen(settings),
        threading.Event(),
    )
    thread = threading.Thread(
        target=answer_requests,
        args=(app, listening, settings),
        kwargs={"on_start": started.set},
        daemon=True,
    )
    thread.start()
    assert started.wait(10)
    try:
        yield listening.getsockname()[1]
    finally:
        app.state.service.stop()
        thread.join(15)
        assert not thread.is_alive()


def connect(port):
    """A connection to the service."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def request_head(path, *headers, method="POST"):
    """The bytes of a request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def read_all(connection):
    """What comes until the other side closes the connection."""
    found = b""
    with suppress(ConnectionResetError):  # it did not read all that was sent
        while part := connection.recv(65_536):
            found += part
    return found
