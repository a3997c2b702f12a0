"""The pairs whose verdict would change most, as `mine` proposes them."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.runs.mined import Mined, MineSettings
from pipeline.runs.mining import mine
from pipeline.runs.settings import FoldSettings
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.asking import Whole
from pipeline.service.galleries import table_of, verdict_key
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.job_answers import accepted
from pipeline.service.state import service_of
from pipeline.stages.execution import StartProgress

_PAIRS = 20
_MOST = 200


def show(request: Request) -> Response:
    """Show pairs to look at; 202 while they are computed, once for a version and its verdicts."""
    held, service = one_of(request), service_of(request)
    limit = Whole("limit", 1, _MOST).of(request.query_params.get("limit"), _PAIRS)
    table = table_of(held)

    def work(progress: StartProgress) -> Mined:
        return mine(table, MineSettings(k=_MOST), on=FoldSettings(workers=0), progress=progress)

    job = service.work.result("review", verdict_key(service, held), work)
    if job.state == "running":
        return accepted(job)
    found: Mined = job.result
    content = {
        "exact": True,
        "pairs": _pairs(held, found, limit),
        "threshold": found.threshold,
        "threshold_from": found.threshold_from,
    }
    return told(held, content)


def _pairs(held: HeldGallery, found: Mined, limit: int) -> list[dict[str, Any]]:
    pairs = found.proposed[:limit]
    ends = [row for each in pairs for row in (each.a, each.b)]
    rows = iter(held.rows(np.asarray(held.positions_of(ends))) if ends else ())
    return [
        {
            "a": next(rows),
            "b": next(rows),
            "score": each.score,
            "gain": each.change,
            "linked": each.linked,
        }
        for each in pairs
    ]


ROUTES = [Route("/v1/galleries/{gallery}/review", show, methods=["GET"])]
