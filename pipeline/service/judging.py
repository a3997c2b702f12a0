"""Verdicts by request: list them, give them, and merge or split what the groups are."""

import logging
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InputError
from pipeline.gallery.verdicts.counting import read_verdicts
from pipeline.runs.verdict_results import GivenVerdict, VerdictsGiven
from pipeline.runs.verdicts import ContradictedError, give_verdicts, list_verdicts
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.asking import check_fields, json_body, row_ids, text
from pipeline.service.faults import Refused
from pipeline.service.galleries import table_of
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.state import client_of, service_of

_log = logging.getLogger(__name__)
_MOST = 1000
_FIELDS = ("a", "b", "verdict", "comment", "who")


def show_all(request: Request) -> Response:
    """List the verdicts that count."""
    held = one_of(request)
    found = list_verdicts(table_of(held))
    content = {
        "verdicts": found.verdicts,
        "withdrawn": found.withdrawn,
        "verdicts_without_row": found.verdicts_without_row,
        "contradictions": found.contradictions,
    }
    return told(held, content)


async def give(request: Request) -> Response:
    """Record verdicts, all of them or none."""
    _check_allowed(request)
    body = await json_body(request)
    check_fields(body, (*_FIELDS, "verdicts"))
    given = body.get("verdicts")
    if given is None:
        given = [{name: body[name] for name in _FIELDS if name in body}]
    elif not isinstance(given, list) or not 0 < len(given) <= _MOST:
        raise InputError(f"`verdicts` must be a list of 1 to {_MOST:,} verdicts")
    who = text(body.get("who"), "who")
    return await run_in_threadpool(_give, request, [_verdict(each) for each in given], who)


def _verdict(given: Any) -> GivenVerdict:
    if not isinstance(given, dict):
        raise InputError("a verdict is an object with the fields a, b and verdict")
    check_fields(given, _FIELDS)
    a, b = row_ids([given.get("a"), given.get("b")], "a, b", 2)
    word: Any = text(given.get("verdict"), "verdict")
    comment, who = (text(given.get(name), name) for name in ("comment", "who"))
    return GivenVerdict(a, b, word, comment, who)


def _give(request: Request, given: list[GivenVerdict], who: str | None) -> Response:
    held = one_of(request)
    done = _record(request, held, given, who)
    counts = ("recorded", "unchanged", "same", "different")
    return told(held, {name: getattr(done, name) for name in counts})


async def merge(request: Request) -> Response:
    """Say of several groups of rows that they show one person."""
    _check_allowed(request)
    body = await json_body(request)
    check_fields(body, ("groups", "who", "comment"))
    groups = body.get("groups")
    if not isinstance(groups, list) or not 2 <= len(groups) <= _MOST:
        raise InputError(f"`groups` must be 2 to {_MOST:,} lists of row ids")
    firsts = [row_ids(each, "groups", _MOST)[0] for each in groups]
    comment = text(body.get("comment"), "comment")
    given = [GivenVerdict(firsts[0], each, "same", comment) for each in firsts[1:]]
    return await run_in_threadpool(_told_verdicts, request, given, text(body.get("who"), "who"))


async def split(request: Request) -> Response:
    """Say of two groups of rows that they show different people.

    Verdicts `same` between the two are withdrawn.
    """
    _check_allowed(request)
    body = await json_body(request)
    check_fields(body, ("rows", "from", "who", "comment"))
    sides = [row_ids(body.get(name), name, _MOST) for name in ("rows", "from")]
    comment, who = (text(body.get(name), name) for name in ("comment", "who"))
    return await run_in_threadpool(_split, request, sides, comment, who)


def _split(request: Request, sides: list[list[int]], comment: str | None, who: str | None) -> Any:
    held = one_of(request)
    first = sides[0][0], sides[1][0]
    one, other = map(set, sides)
    between = [
        (a, b)
        for a, b in read_verdicts(table_of(held)).same.tolist()
        if (a in one and b in other) or (b in one and a in other)
    ]
    given = [GivenVerdict(a, b, "withdrawn") for a, b in between if {a, b} != set(first)]
    return _told_verdicts(request, [*given, GivenVerdict(*first, "different", comment)], who)


def _told_verdicts(request: Request, given: list[GivenVerdict], who: str | None) -> Response:
    held = one_of(request)
    _record(request, held, given, who)
    return told(
        held, {"verdicts": [{"a": each.a, "b": each.b, "verdict": each.verdict} for each in given]}
    )


def _record(
    request: Request, held: HeldGallery, given: list[GivenVerdict], who: str | None
) -> VerdictsGiven:
    """Give the verdicts, and have the next requests see them; 409 where they contradict others."""
    service = service_of(request)
    try:
        with service.judging:  # one after the other, so that two cannot contradict each other
            done = give_verdicts(table_of(held), given, who=who)
    except ContradictedError as error:
        raise Refused(409, str(error)) from error
    service.refresh_verdicts(held.name)
    _log.info("%s: %d verdicts recorded, by %s", held.name, done.recorded, client_of(request))
    return done


def _check_allowed(request: Request) -> None:
    if not service_of(request).settings.allow_verdicts:
        raise Refused(403, "this service records no verdicts: it was started without leave to")


ROUTES = [
    Route("/v1/galleries/{gallery}/verdicts", show_all, methods=["GET"]),
    Route("/v1/galleries/{gallery}/verdicts", give, methods=["POST"]),
    Route("/v1/galleries/{gallery}/merge", merge, methods=["POST"]),
    Route("/v1/galleries/{gallery}/split", split, methods=["POST"]),
]
