"""Serve galleries: listen, read them, tell how to get in, and answer until told to stop."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from starlette.applications import Starlette

from pipeline.gallery.table import Gallery
from pipeline.model.networks import NetworkFile
from pipeline.service.app import create_app
from pipeline.service.embedding import Embedder
from pipeline.service.running import address_of, answer_requests, listen
from pipeline.service.settings import Served, ServiceSettings
from pipeline.service.shelf import Shelf
from pipeline.stages.execution import StartProgress, silent


@dataclass(frozen=True, eq=False)
class PreparedService:
    """Galleries that are read, and a port that is listened on."""

    app: Starlette
    listening: socket.socket
    settings: ServiceSettings
    names: tuple[str, ...]

    def run(self, on_ready: Callable[[str, str], None] = lambda _address, _link: None) -> Served:
        """Answer until SIGINT or SIGTERM.

        `on_ready` is told the address and a link that lets a browser in once.
        """
        service, address = self.app.state.service, address_of(self.listening)
        begun = monotonic()

        def ready() -> None:
            on_ready(address, f"{address}/enter/{service.entrance.new_link()}")

        answer_requests(self.app, self.listening, self.settings, on_start=ready)
        return Served(address, self.names, service.metrics.answers, monotonic() - begun)


def prepare_service(
    locations: Sequence[str],
    settings: ServiceSettings,
    network: NetworkFile | None = None,
    *,
    progress: StartProgress = silent,
) -> PreparedService:
    """Listen, and read the galleries; images can be searched for with a `network`.

    Raise `InputError` for galleries that cannot be served, a network that is not theirs, and an
    address that cannot be listened on.
    """
    listening = listen(settings)
    try:
        app = open_app(locations, settings, network, progress=progress)
    except BaseException:
        listening.close()
        raise
    return PreparedService(app, listening, settings, tuple(app.state.service.shelf.names))


def open_app(
    locations: Sequence[str],
    settings: ServiceSettings,
    network: NetworkFile | None = None,
    *,
    progress: StartProgress = silent,
) -> Starlette:
    """Read the galleries, and make the application over them.

    Raise `InputError` for galleries that cannot be served, and a network that is not theirs.
    """
    shelf = Shelf(locations, progress=progress)
    embedder = None if network is None else Embedder(network)
    if embedder is not None:
        tables = [shelf.get(name).gallery for name in shelf.names]
        embedder.check([each for each in tables if isinstance(each, Gallery)])
    app = create_app(shelf, settings, embedder)
    app.state.service.batches.warm_up(shelf.get(shelf.names[0]))
    return app
