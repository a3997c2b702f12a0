"""Listen on an address, and answer requests until the process is told to stop."""

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from pipeline.errors import InputError
from pipeline.service.connections import PromptConnection
from pipeline.service.settings import ServiceSettings

_CONNECTIONS = 512
_FINISHING_SECONDS = 10


def listen(settings: ServiceSettings) -> socket.socket:
    """Listen on the host and the port of the settings.

    Raise `InputError` if the host is none of this machine's addresses, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"`host` {settings.host}: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise InputError(
            f"{settings.host} port {settings.port} cannot be listened on ({error.strerror}): give"
            " another `port`, or 0 for any free one"
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """The URL of a service, as a browser on this machine reaches it.

    >>> with listen(ServiceSettings(port=0)) as free:
    ...     address_of(free) == f"http://127.0.0.1:{free.getsockname()[1]}"
    True
    """
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def answer_requests(
    app: Starlette,
    listening: socket.socket,
    settings: ServiceSettings,
    *,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until SIGINT, SIGTERM or `app.state.service.stop()`, and then those that are
    under way.

    `on_start` is called when requests are answered. A second SIGINT ends at once.
    """
    config = uvicorn.Config(
        app,
        http=PromptConnection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_FINISHING_SECONDS,
    )
    _Server(config, on_start, app.state.service.stopping).run([listening])


class _Server(uvicorn.Server):
    """A server that says when it has started, and ends when `stopping` is set."""

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], stopping: threading.Event
    ) -> None:
        super().__init__(config)
        self._on_start, self._stopping = on_start, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        return await super().on_tick(counter) or self._stopping.is_set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal, which is not raised again: to end is what was asked for."""
        del frame
        self.force_exit = self._stopping.is_set() and sig == signal.SIGINT
        self._stopping.set()
