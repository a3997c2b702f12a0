"""Erasures by request: what would go, and then the erasure itself, as a job with a certificate."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InputError
from pipeline.gallery.files.places import root_of
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.outputs import outputs_of
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.purge import is_under_way
from pipeline.gallery.upkeep.selection import Selected, Selection, selected_rows
from pipeline.report.plain import plain
from pipeline.runs.erasing import erase_rows
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.asking import check_fields, json_body, row_ids, text
from pipeline.service.faults import Refused
from pipeline.service.galleries import table_of
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.job_answers import accepted
from pipeline.service.state import Service, client_of, service_of
from pipeline.stages.execution import StartProgress

_log = logging.getLogger(__name__)
_FIELDS = ("where", "rows", "dry_run", "purge", "everywhere", "confirm")
_MOST = 100_000
_EXAMPLES = 100


async def erase(request: Request) -> Response:
    """Tell what an erasure would remove, or start it.

    It is started by `confirm`, which must be the name of the gallery. It purges, unless `purge` is
    false: what older versions hold goes, too, and every file is searched for what was erased.
    """
    body = await json_body(request)
    check_fields(body, _FIELDS)
    switches = {
        name: _switch(body, name, default)
        for name, default in (("dry_run", False), ("purge", True), ("everywhere", False))
    }
    selection = _selection(body)
    if switches["dry_run"]:
        return await run_in_threadpool(_would_go, request, selection)
    if not service_of(request).settings.allow_erase:
        raise Refused(403, "this service erases nothing: it was started without leave to")
    if body.get("confirm") != request.path_params["gallery"]:
        raise Refused(
            409,
            "nothing was erased: `confirm` must be the name of the gallery; `dry_run` tells what"
            " would go",
        )
    if switches["everywhere"] and not switches["purge"]:
        raise InputError("`everywhere` goes with `purge`")
    how = switches["purge"], switches["everywhere"]
    return await run_in_threadpool(_start, request, selection, *how)


def _switch(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"`{name}` must be true or false, not {value!r:.40}")
    return value


def _selection(body: dict[str, Any]) -> Selection:
    where, rows = text(body.get("where"), "where"), body.get("rows")
    if (where is None) == (rows is None):
        raise InputError("give `where`, an SQL condition, or `rows`, a list of row ids")
    if rows is not None:
        return Selection(row_ids=tuple(row_ids(rows, "rows", _MOST)))
    return Selection(where=where)


def _would_go(request: Request, selection: Selection) -> Response:
    """What would go, from where: rows, and the outputs that may hold them."""
    held = one_of(request)
    found, is_purge = _selected(held, selection)
    content = {
        "dry_run": True,
        "purge_unfinished": is_purge,
        **_about(held, found),
        "outputs": _outputs(table_of(held)),
    }
    return told(held, content)


def _selected(held: HeldGallery, selection: Selection) -> tuple[Selected, bool]:
    """The selected rows, and whether they were erased earlier, and their purge is unfinished.

    A service that was killed in between is asked the same again: then nothing is left to erase, and
    the purge is made. Raise InputError for an id that is not there otherwise: it was meant.
    """
    table = table_of(held)
    found = selected_rows(table, selection)
    is_purge = not len(found.row_ids) and _is_unpurged(table, selection)
    if selection.row_ids and not is_purge:
        held.positions_of(selection.row_ids)
    return found, is_purge


def _about(held: HeldGallery, found: Selected) -> dict[str, Any]:
    chosen = held.columns.take(pa.array(np.searchsorted(held.ids, found.row_ids)))
    times = chosen["captured_at"]
    return {
        "rows": len(found.row_ids),
        "row_ids": found.row_ids[:_EXAMPLES].tolist(),
        "rows_left": len(held) - len(found.row_ids),
        "without_time": found.without_time,
        "cameras": sorted(pc.unique(chosen["camera"].drop_null()).to_pylist()),
        "identities": len(pc.unique(chosen["identity"].drop_null())),
        "first_time": pc.min(times).as_py(),
        "last_time": pc.max(times).as_py(),
    }


def _outputs(table: Gallery) -> list[dict[str, Any]]:
    """What was made from the gallery elsewhere, and may hold what would go."""
    return [
        {
            "kind": each.kind,
            "place": str(each.place),
            "host": each.host,
            "version": each.version,
            "is_here": each.is_here,
        }
        for each in outputs_of(table)
    ]


def _start(request: Request, selection: Selection, purge: bool, everywhere: bool) -> Response:
    """Start the erasure of what is selected in the latest version, or the purge that is missing."""
    service, held = service_of(request), one_of(request)
    found, is_purge = _selected(held, selection)
    rows, name = len(found.row_ids), held.name
    if not rows and not (purge and is_purge):
        raise InputError("nothing was erased: no row is selected")
    _log.warning("%s: %d rows are erased, as %s asks", name, rows, client_of(request))
    work = _work(service, held, found, selection, purge, everywhere)
    return accepted(service.work.start("erasure", work, must_finish=True))


def _is_unpurged(table: Gallery, selection: Selection) -> bool:
    """Whether a purge was interrupted, or an older version still has rows that are selected."""
    if is_under_way(table.location):
        return True
    older = range(table.version - 1, oldest_version(root_of(table.location)) - 1, -1)
    return any(
        len(selected_rows(Gallery.open(table.location, each), selection).row_ids) for each in older
    )


def _work(
    service: Service,
    held: HeldGallery,
    found: Selected,
    selection: Selection,
    purge: bool,
    everywhere: bool,
) -> Callable[[StartProgress], dict[str, Any]]:
    about, table = _about(held, found), table_of(held)

    def work(progress: StartProgress) -> dict[str, Any]:
        progress("erasing", 1)
        begun = datetime.now(UTC)
        rows = found if len(found.row_ids) else None  # they were erased earlier
        done = erase_rows(table, rows, purge=purge, everywhere=everywhere)
        service.forget()
        purged = None
        if done.purged is not None:
            purged = asdict(replace(done.purged, outputs=()))
            purged["outputs"] = list(done.followed)
        return _certificate(
            {
                "gallery": held.name,
                "location": table.location,
                "fingerprint": table.fingerprint,
                "from_version": table.version,
                "version": done.gallery.version,
                "selection": {"where": selection.where, "rows": len(selection.row_ids) or None},
                "erased": about,
                "purge_resumed": done.is_purge_resumed,
                "purged": purged,
                "begun_at": begun,
                "ended_at": datetime.now(UTC),
            }
        )

    return work


def _certificate(content: dict[str, Any]) -> dict[str, Any]:
    """The content, with the SHA-256 of itself as JSON, so that a copy can be checked."""
    shown: dict[str, Any] = plain(content)
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    return {**shown, "sha256": digest}


ROUTES = [Route("/v1/galleries/{gallery}/erasures", erase, methods=["POST"])]
