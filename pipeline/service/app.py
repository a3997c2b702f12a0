"""The application: its routes, and what every request passes on its way to them."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from pipeline.service import (
    clip_retrieval,
    erasures,
    events,
    galleries,
    health,
    images,
    job_answers,
    judging,
    openapi,
    people_answers,
    points,
    quality,
    reviewing,
    rows,
    searches,
)
from pipeline.service.answer_headers import AnswerHeaders
from pipeline.service.bodies import BodyLimit
from pipeline.service.embedding import Embedder
from pipeline.service.entrance import Entrance
from pipeline.service.faults import HANDLERS
from pipeline.service.guard import Guard
from pipeline.service.metrics import Counted, ServiceMetrics
from pipeline.service.page_files import page_route, read_page
from pipeline.service.rates import RateLimit
from pipeline.service.settings import ServiceSettings
from pipeline.service.shelf import Shelf
from pipeline.service.state import Service

_PARTS = (
    health,
    events,
    job_answers,
    galleries,
    rows,
    images,
    people_answers,
    judging,
    reviewing,
    quality,
    points,
    erasures,
    searches,
    clip_retrieval,
    openapi,
)


def _data_routes() -> list[Route]:
    """All routes but those of the page."""
    return [route for part in _PARTS for route in part.ROUTES]


def create_app(
    shelf: Shelf, settings: ServiceSettings, network: Embedder | None = None
) -> Starlette:
    """The application over the galleries of a shelf.

    With a `network`, images can be searched for. `app.state.service.entrance` makes one-time links.
    """
    service = Service(shelf, settings, network, Entrance(settings.token), ServiceMetrics())
    page = read_page()
    public = frozenset(f"/{name}" for name in page)
    routes = [*_data_routes(), page_route(page)]
    templates: dict[Callable[..., Any] | None, str] = {each.endpoint: each.path for each in routes}
    app = Starlette(
        routes=routes,
        lifespan=events.watched,
        exception_handlers=HANDLERS,
        middleware=[
            Middleware(AnswerHeaders),
            Middleware(Counted, service.metrics, templates),
            Middleware(Guard, settings, service.entrance, public),
            # After the guard, so that other pages in a browser cannot use up what it may ask.
            Middleware(RateLimit, settings),
            Middleware(BodyLimit, settings),
        ],
    )
    app.state.service = service
    return app
