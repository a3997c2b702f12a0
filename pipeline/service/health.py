"""Whether the service is up, what it counts, and how a browser gets in."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pipeline.service.faults import Refused
from pipeline.service.guard import cookie_name
from pipeline.service.json_answers import JsonAnswer
from pipeline.service.metrics import CONTENT_TYPE
from pipeline.service.state import service_of

_COOKIE_SECONDS = 30 * 24 * 3600


def healthz(_request: Request) -> Response:
    """Answer that the service is up; needs no token, and tells nothing else."""
    return JsonAnswer({"status": "ok"})


def metrics(request: Request) -> Response:
    """What the service counts, for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


async def enter(request: Request) -> Response:
    """Exchange a one-time link for the cookie, and go on to the page."""
    entrance = service_of(request).entrance
    if request.method == "HEAD":  # a look ahead, as of a chat that shows links, does not use it
        return Response()
    if not entrance.use_link(request.path_params["link"]):
        raise Refused(403, "this link was used before, or is of another run of the service")
    return _with_cookie(request, RedirectResponse("/", 303))


async def begin_session(request: Request) -> Response:
    """Exchange the token for the cookie: for a browser whose user types the token."""
    return _with_cookie(request, Response(status_code=204))


def _with_cookie(request: Request, answer: Response) -> Response:
    answer.set_cookie(
        cookie_name(request.scope),
        service_of(request).entrance.cookie,
        max_age=_COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


async def new_link(request: Request) -> Response:
    """Make a one-time link, for someone else's browser."""
    return JsonAnswer({"path": f"/enter/{service_of(request).entrance.new_link()}"}, 201)


ROUTES = [
    Route("/healthz", healthz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/enter/{link}", enter, methods=["GET"]),
    Route("/v1/links", new_link, methods=["POST"]),
    Route("/v1/session", begin_session, methods=["POST"]),
]
