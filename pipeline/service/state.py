"""What the handlers of one application share."""

import threading
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from pipeline.service.entrance import Entrance
from pipeline.service.metrics import ServiceMetrics
from pipeline.service.settings import ServiceSettings


@dataclass(frozen=True, eq=False)
class Service:
    """One application: its galleries, its settings, and the network that makes images features."""

    shelf: Any
    settings: ServiceSettings
    network: Any
    entrance: Entrance
    metrics: ServiceMetrics
    stopping: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End the server, and with it streams of events and the watch for new versions."""
        self.stopping.set()


def service_of(request: Request) -> Service:
    """The service that a request reached."""
    found: Service = request.app.state.service
    return found
