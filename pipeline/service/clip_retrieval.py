"""The endpoints of clip-retrieval's back end, so that its clients can ask a gallery.

They know `/knn-service`, `/metadata` and `/indices-list`. A gallery is an index, and a row id an
id. Fields that change nothing here, such as `use_mclip`, are accepted and overlooked, because
clients send them always.
"""

import asyncio
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InputError
from pipeline.service.asking import Whole, json_body, row_ids
from pipeline.service.faults import Refused
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.json_answers import JsonAnswer
from pipeline.service.search_requests import image_of, vectors_of
from pipeline.service.searches import Asked, check_width, hits_of, queries_of_images, ranked
from pipeline.service.state import Service, service_of

_RESULTS = 40


async def knn_service(request: Request) -> Response:
    """POST /knn-service: the best rows of an index for an image or an embedding."""
    service, body = service_of(request), await json_body(request)
    held = await asyncio.to_thread(_index, service, body)
    count = Whole("num_images", 1, service.settings.max_results).of(
        body.get("num_images"), min(_RESULTS, service.settings.max_results)
    )
    if body.get("modality", "image") != "image":
        raise InputError("`modality` must be image: galleries hold images alone")
    asked = await asyncio.to_thread(_asked, service, held, body)
    best = await ranked(service, held, asked, count, None)
    pairs = hits_of(asked, best, 0, count)
    rows = held.rows(np.array([place for place, _ in pairs], np.int64))
    return JsonAnswer(
        [
            {"id": row["row_id"], "similarity": score, **_metadata(row)}
            for row, (_, score) in zip(rows, pairs, strict=True)
        ]
    )


async def metadata(request: Request) -> Response:
    """POST /metadata: what is known of some rows of an index."""
    service, body = service_of(request), await json_body(request)
    held = await asyncio.to_thread(_index, service, body)
    ids = row_ids(body.get("ids"), "ids", service.settings.max_results)
    rows = held.rows(held.positions_of(ids))
    return JsonAnswer([{"id": row["row_id"], "metadata": _metadata(row)} for row in rows])


async def indices_list(request: Request) -> Response:
    """GET /indices-list: the names of the galleries."""
    return JsonAnswer(service_of(request).shelf.names)


ROUTES = [
    Route("/knn-service", knn_service, methods=["POST"]),
    Route("/metadata", metadata, methods=["POST"]),
    Route("/indices-list", indices_list, methods=["GET"]),
]


def _index(service: Service, body: dict[str, Any]) -> HeldGallery:
    name = body.get("indice_name")
    if name is None:
        name = service.shelf.names[0]
    if name not in service.shelf.names:
        raise Refused(404, f"there is no index named {name!r:.40}; /indices-list lists the indices")
    return service.shelf.get(name)


def _asked(service: Service, held: HeldGallery, body: dict[str, Any]) -> Asked:
    given = [name for name in ("text", "image", "image_url", "embedding_input") if body.get(name)]
    if given == ["image"]:
        return queries_of_images(service, held, (image_of(body["image"]),))
    if given == ["embedding_input"]:
        features = vectors_of([body["embedding_input"]], 1)
        check_width(held, features)
        return Asked(features, ({},), ((),))
    raise InputError(
        "give one of `image` (in base64) and `embedding_input`: this service reads no text, and"
        " fetches nothing from a URL"
    )


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that have a value; `caption` and `url` are those that clients show."""
    known = {name: value for name, value in row.items() if value is not None and name != "row_id"}
    return {**known, "caption": row["path"]}
