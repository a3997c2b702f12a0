"""People as answers: a page of them, and all rows of one."""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.gallery.verdicts.counting import read_verdicts
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.asking import Whole
from pipeline.service.faults import Refused
from pipeline.service.galleries import table_of, verdict_key
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.people import People, about_person, matching, people_of, person_of
from pipeline.service.state import Service, service_of

_PAGE = 50
_IDENTITY = Whole("identity", -(2**63))


def show_some(request: Request) -> Response:
    """Show a page of the people, those with most rows first; `q` narrows them."""
    held, given = one_of(request), request.query_params
    service = service_of(request)
    most = service.settings.max_results
    limit = Whole("limit", 1, most).of(given.get("limit"), min(_PAGE, most))
    after = Whole("after").of(given.get("after"), 0)
    people = _people(service, held)
    text = given.get("q", "").strip()
    found = matching(held, people, text) if text else np.arange(len(people))
    page = found[after : after + limit].tolist()
    following = after + limit if after + limit < len(found) else None
    content = {
        "people": [about_person(held, people, each) for each in page],
        "total": len(found),
        "next": following,
    }
    return told(held, content)


def show_one(request: Request) -> Response:
    """Show a person with all rows, by time, by any identity that the rows have."""
    held, service = one_of(request), service_of(request)
    people = _people(service, held)
    identity = _IDENTITY.read(request.path_params["identity"])
    person = person_of(held, people, identity)
    if person is None:
        raise Refused(404, f"{held.name} has nobody of identity {identity}")
    rows = people.of(person)[: service.settings.max_results]
    return told(held, {"person": about_person(held, people, person), "rows": held.rows(rows)})


def _people(service: Service, held: HeldGallery) -> People:
    """The people of a version and its verdicts, computed once."""
    return service.remembered.value(
        ("people", *verdict_key(service, held)),
        lambda: people_of(held, read_verdicts(table_of(held))),
    )


ROUTES = [
    Route("/v1/galleries/{gallery}/people", show_some, methods=["GET"]),
    Route("/v1/galleries/{gallery}/people/{identity}", show_one, methods=["GET"]),
]
