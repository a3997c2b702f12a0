"""The map of a gallery as an answer: laid out once for a version, then all points at once."""

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.runs.mapping import gallery_map
from pipeline.service.asked_gallery import one_of
from pipeline.service.galleries import table_of
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.job_answers import accepted
from pipeline.service.packed_points import packed_points
from pipeline.service.state import Service, service_of
from pipeline.stages.execution import Execution, StartProgress


def show(request: Request) -> Response:
    """Show all rows as points (`packed_points`); 202 while they are laid out."""
    held, service = one_of(request), service_of(request)
    headers = {"ETag": _tag(held), "Cache-Control": "private, no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)

    def work(progress: StartProgress) -> dict[str, Any]:
        _points(service, held, Execution(progress=progress))
        return {"rows": len(held)}

    job = service.work.result("map", (held.name, table_of(held).version), work)
    if job.state == "running":
        return accepted(job)
    data = _points(service, held, Execution())
    return Response(data, media_type="application/octet-stream", headers=headers)


def _points(service: Service, held: HeldGallery, execution: Execution) -> bytes:
    """The answer, made once; from the stored map, if it was forgotten since."""
    table = table_of(held)
    return service.remembered.value(
        ("points", held.name, table.version),
        lambda: packed_points(held, gallery_map(table, execution=execution).points),
    )


def _tag(held: HeldGallery) -> str:
    about = (table_of(held).location, *held.about.values())
    return f'"{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}"'


ROUTES = [Route("/v1/galleries/{gallery}/points", show, methods=["GET"])]
