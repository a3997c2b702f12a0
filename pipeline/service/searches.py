"""Searches: the best rows of a gallery, or of all as one, for rows, vectors, images or examples."""

import asyncio
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.archive.faults import Rejected
from pipeline.core.neighbors.topk import TopK
from pipeline.core.vectors import unit_vectors
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.service.asked_gallery import held_of, told
from pipeline.service.embedding import Embedder, PixelBox, cut
from pipeline.service.faults import Refused
from pipeline.service.held_gallery import ALL, HeldGallery
from pipeline.service.pictures import frame_of
from pipeline.service.row_filters import allowed_rows
from pipeline.service.search_requests import SearchRequest, read_search
from pipeline.service.state import Service, service_of

_NO_DIRECTION = 1e-6


class Asked(NamedTuple):
    """Features `[Q, D]`, what each is of, and the positions that its list leaves out."""

    features: NDArray[np.float32]
    told: tuple[dict[str, Any], ...]
    left_out: tuple[tuple[int, ...], ...]


async def search(request: Request) -> Response:
    """POST /v1/galleries/{gallery}/search."""
    service, start = service_of(request), perf_counter()
    asked = await read_search(request, service.settings)
    held, queries, allowed = await asyncio.to_thread(_prepared, request, service, asked)
    best = await ranked(service, held, queries, asked.limit, allowed)
    content = await asyncio.to_thread(_lists, held, queries, best, asked)
    took = round(1000 * (perf_counter() - start), 3)
    return told(held, {"exact": True, "took_ms": took, **content})


ROUTES = [Route("/v1/galleries/{gallery}/search", search, methods=["POST"])]


def _prepared(
    request: Request, service: Service, asked: SearchRequest
) -> tuple[HeldGallery, Asked, NDArray[np.bool_] | None]:
    """The gallery, the features that are searched for, and the rows that may be found."""
    held = held_of(request, asked.version)
    return held, _queries(service, held, asked), allowed_rows(held, asked.filter)


def _queries(service: Service, held: HeldGallery, asked: SearchRequest) -> Asked:
    if asked.rows:
        places = held.positions_of(asked.rows)
        features = held.features.take(places)
        out = tuple((place,) for place in places.tolist())
        return Asked(features, tuple({"row": each} for each in asked.rows), out)
    if asked.examples is not None:
        return _of_examples(held, *asked.examples)
    if asked.vectors is not None:
        check_width(held, asked.vectors)
        count = len(asked.vectors)
        return Asked(asked.vectors, tuple({"vector": n} for n in range(count)), ((),) * count)
    if asked.frame is not None:
        return _of_frame(service, held, asked.frame, asked.box)
    return queries_of_images(service, held, asked.images, asked.box)


def check_width(held: HeldGallery, vectors: NDArray[np.float32]) -> None:
    """Raise InputError for vectors that are not as long as the gallery's features."""
    if vectors.shape[1] != held.gallery.dimension:
        raise InputError(
            f"a vector has {vectors.shape[1]} numbers; features of {held.name} have"
            f" {held.gallery.dimension}"
        )


def queries_of_images(
    service: Service, held: HeldGallery, images: tuple[bytes, ...], box: PixelBox | None = None
) -> Asked:
    """The features of image files, or of a part of each; raise `Refused` without a network."""
    network, crops = _network(service), []
    for number, data in enumerate(images):
        try:
            picture = network.decode(held.gallery, data, service.settings.max_pixels)
        except Rejected as error:
            raise InputError(f"image {number + 1} cannot be used ({error})") from error
        crops.append(cut(picture, box))
    features = network.features(held.gallery, crops)
    return Asked(features, tuple({"image": n} for n in range(len(images))), ((),) * len(images))


def _network(service: Service) -> Embedder:
    if service.network is None:
        raise Refused(
            409, "the service has no network, so it cannot search for images: start it with one"
        )
    return service.network


def _of_frame(service: Service, held: HeldGallery, row: int, box: PixelBox | None) -> Asked:
    """The feature of a part of the picture that a row was cut from."""
    network, (place,) = _network(service), held.positions_of([row]).tolist()
    if not isinstance(held.gallery, Gallery):
        raise InputError(f"rows of {ALL} have no frames of their own: name one gallery")
    picture = frame_of(held.gallery, place).pixels
    features = network.features(held.gallery, [cut(picture, box)])
    return Asked(features, ({"frame": row, "box": box},), ((),))


def _of_examples(held: HeldGallery, like: tuple[int, ...], unlike: tuple[int, ...]) -> Asked:
    """One query: the mean of good examples, moved away from that of bad ones by their distance."""
    good = held.positions_of(like)
    query = held.features.take(good).mean(axis=0, dtype=np.float64)
    bad = held.positions_of(unlike)
    if len(bad):
        query = 2 * query - held.features.take(bad).mean(axis=0, dtype=np.float64)
    if np.linalg.norm(query) < _NO_DIRECTION:
        raise InputError("the examples cancel each other out: give others")
    features = unit_vectors(query[None])
    asked = {"positive": list(like), "negative": list(unlike)}
    return Asked(features, (asked,), ((*good.tolist(), *bad.tolist()),))


async def ranked(
    service: Service,
    held: HeldGallery,
    queries: Asked,
    limit: int,
    allowed: NDArray[np.bool_] | None,
) -> TopK:
    """The best positions of every query, at least `limit` without those that it leaves out."""
    more = max((len(each) for each in queries.left_out), default=0)
    k = max(1, min(limit + more, len(held)))
    return await service.batches.search(held, queries.features, k, allowed)


def hits_of(queries: Asked, best: TopK, query: int, limit: int) -> list[tuple[int, float]]:
    """Positions and scores of a query, best first, without those that it leaves out."""
    out = set(queries.left_out[query])
    pairs = zip(best.rows[query].tolist(), best.scores[query].tolist(), strict=True)
    return [(place, score) for place, score in pairs if place >= 0 and place not in out][:limit]


def _lists(held: HeldGallery, queries: Asked, best: TopK, asked: SearchRequest) -> dict[str, Any]:
    found = held.thresholds(asked.threshold)
    results = []
    for number, query in enumerate(queries.told):
        pairs = hits_of(queries, best, number, asked.limit)
        rows = held.rows(np.array([place for place, _ in pairs], np.int64))
        hits = []
        for rank, (row, (_, score)) in enumerate(zip(rows, pairs, strict=True), start=1):
            match = None if found.general is None else score >= found.general
            hits.append({**row, "rank": rank, "score": score, "match": match})
        results.append({"query": query, "hits": hits})
    return {"threshold": found.general, "threshold_from": found.origin, "results": results}
