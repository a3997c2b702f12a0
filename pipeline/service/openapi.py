"""The OpenAPI document: every path of the service, what it takes, and what it answers."""

from importlib import metadata
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.service import request_schemas as bodies
from pipeline.service.answer_schemas import SCHEMAS, TEXT, WHOLE, Schema, fields, listed, named
from pipeline.service.json_answers import JsonAnswer

_G = "/v1/galleries/{gallery}"
_VERSION = {"version": {**WHOLE, "description": "A version of the gallery; the latest without."}}
_LIMIT = {"limit": {**WHOLE, "minimum": 1}}
_HEIGHT = {"height": {**WHOLE, "minimum": 16, "maximum": 2160}}
_ERRORS = {
    "400": "The request is wrong; the message says what.",
    "401": "The token is missing or wrong.",
    "403": "Not allowed here, or a page of another origin asks.",
    "404": "The gallery, row, version or job does not exist.",
    "408": "The body came too slowly.",
    "409": "It does not fit what is there now.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "421": "Another host name than the service's own.",
    "429": "Too many requests; Retry-After says how long to wait.",
    "503": "It cannot be answered now.",
}
_OF_ALL = ("400", "401", "403", "404", "421", "429", "503")
_OF_BODIES = ("408", "409", "413", "415")


def _answer(told: str, schema: Schema, kind: str = "application/json") -> dict[str, Any]:
    return {"description": told, "content": {kind: {"schema": schema}}}


def _path(
    summary: str,
    answers: dict[str, Any],
    body: Schema | None = None,
    query: dict[str, Schema] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One operation: what it does, what it answers by status, its body and its parameters."""
    codes = (*_OF_ALL, *(_OF_BODIES if body else ("409",)))
    errors = {code: _answer(_ERRORS[code], named("Error")) for code in sorted(codes)}
    parameters = [
        {"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()
    ]
    made = {"summary": summary, "parameters": parameters, "responses": {**answers, **errors}}
    if body:
        content = {"application/json": {"schema": body}, **more.pop("other_bodies", {})}
        made["requestBody"] = {"required": True, "content": content}
    return made | more


def _ok(name: str, told: str = "The answer.") -> dict[str, Any]:
    return {"200": _answer(told, named(name))}


_IN_WORK = {"202": _answer("It is being computed: follow the job.", named("Accepted"))}
_JPEG = {"200": _answer("The picture.", {"type": "string"}, "image/jpeg")}
_EVENTS = {"200": _answer("Server-sent events.", TEXT, "text/event-stream")}
_TOKENLESS: list[dict[str, Any]] = []

PATHS: dict[str, dict[str, Any]] = {
    "/healthz": {
        "get": _path(
            "Whether the service is up",
            {"200": _answer("It is.", fields(status={"const": "ok"}))},
            security=_TOKENLESS,
        )
    },
    "/metrics": {
        "get": _path("What the service counts", {"200": _answer("Text.", TEXT, "text/plain")})
    },
    "/enter/{link}": {
        "get": _path(
            "Exchange a one-time link for the cookie",
            {"303": {"description": "The cookie is set; on to the page."}},
            security=_TOKENLESS,
        )
    },
    "/v1/links": {
        "post": _path("Make a one-time link", {"201": _answer("Its path.", fields(path=TEXT))})
    },
    "/v1/session": {
        "post": _path("Exchange the token for the cookie", {"204": {"description": "It is set."}})
    },
    "/v1/events": {"get": _path("New versions and verdicts, as they come", _EVENTS)},
    "/v1/openapi.json": {
        "get": _path("This document", {"200": _answer("OpenAPI 3.1.", {"type": "object"})})
    },
    "/v1/jobs/{job}": {"get": _path("A job; as events with Accept: text/event-stream", _ok("Job"))},
    "/v1/galleries": {"get": _path("The galleries", _ok("Galleries"))},
    _G: {"get": _path("What a gallery holds", _ok("Gallery"), query=_VERSION)},
    f"{_G}/search": {
        "post": _path(
            "The best rows, exactly; {gallery} may be _all",
            _ok("Found"),
            bodies.SEARCH,
            other_bodies={"image/*": {"schema": {"type": "string"}}},
        )
    },
    f"{_G}/rows": {
        "get": _path(
            "Rows by id, position or condition",
            _ok("Rows"),
            query={
                "ids": {**TEXT, "description": "Row ids with commas between them."},
                "positions": {**TEXT, "description": "Places in the order of row ids, from 0."},
                "camera": TEXT,
                "identity": WHOLE,
                "after_id": WHOLE,
                **_LIMIT,
                **_VERSION,
            },
        )
    },
    f"{_G}/rows/{{row_id}}": {"get": _path("One row", _ok("OneRow"), query=_VERSION)},
    f"{_G}/rows/{{row_id}}/image": {
        "get": _path(
            "The crop of a row, or its frame with the box in the header X-Box",
            {**_JPEG, "304": {"description": "It is the picture of If-None-Match."}},
            query={"kind": {"enum": ["crop", "frame"]}, **_HEIGHT, **_VERSION},
        )
    },
    f"{_G}/rejects/{{n}}/image": {
        "get": _path("An input that gave no row", _JPEG, query={**_HEIGHT, **_VERSION})
    },
    f"{_G}/people": {
        "get": _path(
            "People, those with most rows first",
            _ok("People"),
            query={**_LIMIT, "after": WHOLE, "q": TEXT, **_VERSION},
        )
    },
    f"{_G}/people/{{identity}}": {
        "get": _path("One person, with the rows by time", _ok("OnePerson"), query=_VERSION)
    },
    f"{_G}/verdicts": {
        "get": _path("The verdicts that count", _ok("Verdicts"), query=_VERSION),
        "post": _path("Record verdicts", _ok("Recorded"), bodies.VERDICTS),
    },
    f"{_G}/merge": {"post": _path("Groups are one person", _ok("Given"), bodies.MERGE)},
    f"{_G}/split": {"post": _path("Two groups are two people", _ok("Given"), bodies.SPLIT)},
    f"{_G}/review": {
        "get": _path(
            "Pairs whose verdict would change most",
            {**_ok("Review"), **_IN_WORK},
            query={**_LIMIT, **_VERSION},
        )
    },
    f"{_G}/quality": {
        "get": _path("What may be wrong", {**_ok("Quality"), **_IN_WORK}, query=_VERSION)
    },
    f"{_G}/points": {
        "get": _path(
            "All rows as points of a map, 12 bytes each",
            {
                "200": _answer("The columns.", {"type": "string"}, "application/octet-stream"),
                "304": {"description": "They are those of If-None-Match."},
                **_IN_WORK,
            },
            query=_VERSION,
        )
    },
    f"{_G}/erasures": {
        "post": _path(
            "What an erasure would remove, or the erasure",
            {**_ok("WouldErase"), **_IN_WORK},
            bodies.ERASURE,
        )
    },
    "/knn-service": {"post": _path("A search, as clip-retrieval", _ok("Neighbors"), bodies.KNN)},
    "/metadata": {"post": _path("Rows, as clip-retrieval", _ok("Metadata"), bodies.METADATA)},
    "/indices-list": {"get": _path("Names of galleries", {"200": _answer("Names.", listed(TEXT))})},
}
"""The operations by path and method."""


def document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    paths = {
        path: {"parameters": _in_path(path), **operations} for path, operations in PATHS.items()
    }
    schemes = {
        "token": {"type": "http", "scheme": "bearer"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "regallery_PORT"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Regallery", "version": metadata.version("regallery")},
        "security": [{"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": schemes},
    }


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]


def show(_request: Request) -> Response:
    """Show the document."""
    return JsonAnswer(document())


ROUTES = [Route("/v1/openapi.json", show, methods=["GET"])]
