"""What galleries there are, and what is in them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.gallery.derived import derivation
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.calibrations import read_calibration
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.counting import read_verdicts
from pipeline.model.imported import read_recipe
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.json_answers import JsonAnswer
from pipeline.service.state import Service, service_of

_BOX = r"#(?:f=\d+&)?b="
"""In the names of boxes (`pipeline.archive.video.names`), which are parts of frames."""


def show_all(request: Request) -> Response:
    """List the galleries, and what may be done here."""
    service = service_of(request)
    held = [service.shelf.get(name) for name in service.shelf.names]
    return JsonAnswer(
        {
            "galleries": [_summary(service, each) for each in held],
            "allow": {
                "verdicts": service.settings.allow_verdicts,
                "erase": service.settings.allow_erase,
            },
            "images": service.network is not None,
        }
    )


def show_one(request: Request) -> Response:
    """Show what a gallery holds."""
    held = one_of(request)
    return told(held, _summary(service_of(request), held))


def _summary(service: Service, held: HeldGallery) -> dict[str, Any]:
    gallery = table_of(held)
    counts = service.remembered.value(
        ("counts", held.name, gallery.version), lambda: _counts(held.columns)
    )
    how = derivation(gallery)
    of_tracklets = how is not None and how.of_tracklets
    return {
        **held.about,
        "location": gallery.location,
        "rows": len(held),
        "dimension": gallery.dimension,
        "dtype": gallery.dtype,
        "recipe": asdict(read_recipe(gallery.recipe_json)),
        **counts,
        "frames": of_tracklets or counts["frames"],
        **_calibration(held),
        "verdicts": _verdicts(service, held),
    }


def table_of(held: HeldGallery) -> Gallery:
    """The table of a single gallery."""
    if not isinstance(held.gallery, Gallery):
        raise TypeError(f"{held.name} is several galleries")
    return held.gallery


def verdict_key(service: Service, held: HeldGallery) -> tuple[Any, ...]:
    """What tells one version and its verdicts from another."""
    return held.name, table_of(held).version, service.shelf.verdict_state(held.name)


def _verdicts(service: Service, held: HeldGallery) -> dict[str, int]:
    """How many verdicts count; they are read again when someone gives one."""
    found = service.remembered.value(
        ("verdicts", *verdict_key(service, held)), lambda: read_verdicts(table_of(held))
    )
    return {"same": len(found.same), "different": len(found.different)}


def _counts(columns: pa.Table) -> dict[str, Any]:
    identity = columns["identity"].drop_null().to_numpy()
    times = [columns["captured_at"], columns["captured_until"]]
    return {
        "cameras": [
            {"camera": each["values"], "rows": each["counts"]}
            for each in _by_name(pc.value_counts(columns["camera"].drop_null()).to_pylist())
        ],
        "identities": len(np.unique(identity[identity > 0])),
        "first_time": _shown(pc.min(times[0]).as_py()),
        "last_time": _latest(times),
        "tracklets": columns["tracklet"].null_count < len(columns),
        "frames": bool(pc.any(pc.match_substring_regex(columns["path"], _BOX)).as_py()),
    }


def _by_name(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(counts, key=lambda each: str(each["values"]))


def _latest(times: list[pa.ChunkedArray]) -> str | None:
    known = [latest for each in times if (latest := pc.max(each).as_py()) is not None]
    return _shown(max(known)) if known else None


def _shown(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _calibration(held: HeldGallery) -> dict[str, Any]:
    """The threshold of a match, where it comes from, and what it lets through."""
    try:
        thresholds, found = held.thresholds(None), read_calibration(table_of(held))
    except GalleryDamagedError as error:
        return {"threshold": None, "threshold_from": str(error), "calibration": []}
    points = []
    if found is not None and isinstance(figures := found.get("figures"), dict):
        own = {"threshold": float(found["threshold"]), "far": figures.get("far")}
        points = [
            {"threshold": each["threshold"], "false_match_rate": each["far"]}
            for each in figures.get("curve") or [own]
        ]
    return {
        "threshold": thresholds.general,
        "threshold_from": thresholds.origin,
        "calibration": points,
    }


ROUTES = [
    Route("/v1/galleries", show_all, methods=["GET"]),
    Route("/v1/galleries/{gallery}", show_one, methods=["GET"]),
]
