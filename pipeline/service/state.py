"""What the handlers of one application share."""

from dataclasses import dataclass
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


def service_of(request: Request) -> Service:
    """The service that a request reached."""
    found: Service = request.app.state.service
    return found
