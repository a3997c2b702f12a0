"""The gallery that a request names, and what every answer says of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from pipeline.errors import InputError
from pipeline.service.asking import Whole
from pipeline.service.faults import Refused
from pipeline.service.held_gallery import ALL, HeldGallery
from pipeline.service.json_answers import JsonAnswer
from pipeline.service.state import service_of

_VERSION = Whole("version")


def held_of(request: Request, version: Any = None) -> HeldGallery:
    """The gallery of a request's path, at a version: that of the query, or else the latest.

    Raise `Refused` (404) for a gallery or a version that is not there.
    """
    name = request.path_params["gallery"]
    asked = request.query_params.get("version") if version is None else version
    number = None if asked is None else _VERSION.read(asked)
    try:
        return service_of(request).shelf.get(name, number)
    except InputError as error:
        raise Refused(404, str(error)) from error


def one_of(request: Request, version: Any = None) -> HeldGallery:
    """The same, but a single gallery: raise `Refused` (404) for all of them as one."""
    if request.path_params["gallery"] == ALL:
        raise Refused(404, f"{ALL} can only be searched: name one gallery")
    return held_of(request, version)


def position_of(held: HeldGallery, row_id: Any) -> int:
    """The position of a row; raise `Refused` (404) if there is none of this id."""
    return int(positions_of(held, [Whole("row_id").read(row_id)])[0])


def positions_of(held: HeldGallery, row_ids: Sequence[int]) -> NDArray[np.int64]:
    """The positions of rows by their ids; raise `Refused` (404) for an id that is not there."""
    try:
        return held.positions_of(row_ids)
    except InputError as error:
        raise Refused(404, str(error)) from error


def told(held: HeldGallery, content: dict[str, Any], status: int = 200) -> Response:
    """An answer with the gallery's name, version and fingerprint, and the content."""
    return JsonAnswer({**held.about, **content}, status)
