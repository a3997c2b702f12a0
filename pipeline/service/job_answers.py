"""Jobs as answers: their state, once or as a stream."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.service.json_answers import JsonAnswer
from pipeline.service.state import service_of
from pipeline.service.streams import changes_of, event_stream
from pipeline.service.work import ServiceJob


async def show(request: Request) -> Response:
    """Show a job; with `Accept: text/event-stream`, each of its states until it ends."""
    service = service_of(request)
    job = service.work.find(request.path_params["job"])
    if "text/event-stream" not in request.headers.get("accept", ""):
        return JsonAnswer(job)
    states = changes_of(lambda: job, lambda: job.state != "running", service.stopping.is_set)
    return event_stream(states)


def accepted(job: ServiceJob) -> Response:
    """The answer that a job is at work: 202, with where to ask for it."""
    return JsonAnswer({"job": job.job}, 202, {"Location": f"/v1/jobs/{job.job}"})


ROUTES = [Route("/v1/jobs/{job}", show, methods=["GET"])]
