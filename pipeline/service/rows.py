"""The rows of a gallery: by id, by position, or by camera and identity, a page at a time."""

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InputError
from pipeline.service.asked_gallery import one_of, position_of, positions_of, told
from pipeline.service.asking import Whole, row_ids
from pipeline.service.faults import Refused
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.state import service_of

_PAGE = 100
_KNOWN = ("ids", "positions", "camera", "identity", "after_id", "limit", "version")
_SMALLEST = -(2**63)


def show_some(request: Request) -> Response:
    """Show the rows of some ids or positions, or a page of those that meet conditions."""
    held, given = one_of(request), request.query_params
    most = service_of(request).settings.max_results
    if unknown := sorted(set(given) - set(_KNOWN)):
        raise InputError(f"there is no parameter {unknown[0]!r}: give {', '.join(_KNOWN)}")
    if "ids" in given:
        positions = positions_of(held, row_ids(given["ids"], "ids", most))
        return told(held, {"rows": held.rows(positions), "next": None})
    if "positions" in given:
        positions = np.array(row_ids(given["positions"], "positions", most), np.int64)
        if positions.max() >= len(held):
            raise Refused(404, f"{held.name} has {len(held):,} rows, counted from 0")
        return told(held, {"rows": held.rows(positions), "next": None})
    limit = Whole("limit", 1, most).of(given.get("limit"), min(_PAGE, most))
    positions = _fitting(request, held)
    page = positions[:limit]
    following = int(held.ids[page[-1]]) if len(positions) > limit else None
    return told(held, {"rows": held.rows(page), "next": following})


def _fitting(request: Request, held: HeldGallery) -> NDArray[np.int64]:
    """Positions of the rows that meet the conditions of a request, after the row `after_id`."""
    given = request.query_params
    fits = np.ones(len(held), bool)
    if "camera" in given:
        fits &= pc.fill_null(pc.equal(held.columns["camera"], given["camera"]), False).to_numpy()
    if "identity" in given:
        identity = Whole("identity", _SMALLEST).read(given["identity"])
        fits &= pc.fill_null(pc.equal(held.columns["identity"], identity), False).to_numpy()
    if "after_id" in given:
        fits &= held.ids > Whole("after_id").read(given["after_id"])
    return np.flatnonzero(fits)


def show_one(request: Request) -> Response:
    """Show one row."""
    held = one_of(request)
    position = position_of(held, request.path_params["row_id"])
    (row,) = held.rows(np.array([position]))
    return told(held, {"row": row})


ROUTES = [
    Route("/v1/galleries/{gallery}/rows", show_some, methods=["GET"]),
    Route("/v1/galleries/{gallery}/rows/{row_id}", show_one, methods=["GET"]),
]
