"""What the handlers of one application share."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue

from starlette.requests import Request

from pipeline.core.blocks import Tiling
from pipeline.service.batches import Batches
from pipeline.service.embedding import Embedder
from pipeline.service.entrance import Entrance
from pipeline.service.metrics import ServiceMetrics
from pipeline.service.pictures import forget_parents
from pipeline.service.remembered import Remembered
from pipeline.service.settings import ServiceSettings
from pipeline.service.shelf import GalleryNews, Shelf
from pipeline.service.work import ServiceWork


@dataclass(frozen=True, eq=False)
class Service:
    """One application: its galleries, its settings, and the network that makes images features."""

    shelf: Shelf
    settings: ServiceSettings
    network: Embedder | None
    entrance: Entrance
    metrics: ServiceMetrics
    work: ServiceWork = field(default_factory=ServiceWork)
    remembered: Remembered = field(default_factory=Remembered)
    judging: threading.Lock = field(default_factory=threading.Lock)
    changes: SimpleQueue[GalleryNews] = field(default_factory=SimpleQueue)
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def batches(self) -> Batches:
        """Where searches run."""
        tiling = Tiling(threads=self.settings.threads)
        return Batches(self.settings.batch_ms / 1000, self.metrics, tiling)

    def refresh(self) -> None:
        """Pick up what has changed in the galleries, for those who follow the events."""
        for change in self.shelf.refresh():
            self.changes.put(change)

    def refresh_verdicts(self, name: str) -> None:
        """Pick up new verdicts of a gallery, while a new version may still be read."""
        if (change := self.shelf.refresh_verdicts(name)) is not None:
            self.changes.put(change)

    def forget(self) -> None:
        """After an erasure, read the galleries again, and keep nothing of what is gone."""
        self.refresh()
        self.remembered.forget()
        self.work.forget(but="erasure")
        forget_parents()

    def stop(self) -> None:
        """End the server, and with it streams of events and the watch for new versions."""
        self.stopping.set()


def service_of(request: Request) -> Service:
    """The service that a request reached."""
    found: Service = request.app.state.service
    return found


def client_of(request: Request) -> str:
    """The address that a request came from, for the log."""
    return request.client.host if request.client else "unknown"
