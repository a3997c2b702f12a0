"""What is wrong with a gallery, or may be: rejects, odd crops, cameras and their thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.core.crop_oddities import is_frame
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.calibrations import read_calibration
from pipeline.gallery.summary import rejects_by_reason
from pipeline.gallery.table import Gallery
from pipeline.runs.camera_health import HealthSettings, camera_drift, silent_cameras
from pipeline.runs.last_report import report_summary
from pipeline.service.asked_gallery import one_of, told
from pipeline.service.galleries import table_of
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.job_answers import accepted
from pipeline.service.shelf import Shelf
from pipeline.service.state import service_of
from pipeline.stages.execution import StartProgress

_REJECTS = 100
_ODD = 20
_MOST_EARLIER = 0.95


def show(request: Request) -> Response:
    """Show rejects, odd crops, the cameras, and the accuracy that was measured last.

    202 while they are computed, once for a version.
    """
    held, service = one_of(request), service_of(request)
    table = table_of(held)

    def work(progress: StartProgress) -> dict[str, Any]:
        progress("looking at rejects, rows and cameras", 1)
        return _of_version(held, table)

    job = service.work.result("quality", (held.name, table.version), work)
    if job.state == "running":
        return accepted(job)
    content = {
        "camera_pairs": _camera_pairs(table),
        "evaluation": _evaluation(service.shelf, table),
    }
    return told(held, job.result | content)


def _of_version(held: HeldGallery, table: Gallery) -> dict[str, Any]:
    rejects = table.rejects()
    first = rejects.slice(0, _REJECTS).select(["path", "reason", "detail"]).to_pylist()
    return {
        "rejects": [{"n": number, **each} for number, each in enumerate(first)],
        "rejects_total": len(rejects),
        "rejects_by_reason": rejects_by_reason(rejects),
        "by_camera": _cameras(held.columns),
        "oddities": _oddities(held, table),
        **_health(held, table),
    }


def _health(held: HeldGallery, table: Gallery) -> dict[str, Any]:
    """Cameras that fell silent, and shifts of scores from the earlier rows to the newest tenth."""
    first, settings = len(held) * 9 // 10, HealthSettings()
    is_newest = _is_newest(held.columns["captured_at"], first)
    drift = camera_drift(table, int(held.ids[first]), settings) if is_newest else []
    return {"drift": drift, "silent": silent_cameras(table, settings)}


def _is_newest(captured_at: pa.ChunkedArray, first: int) -> bool:
    """Whether rows from a position on are of later times: rows may be in the order of people."""
    earlier, later = captured_at[:first].drop_null(), captured_at[first:].drop_null()
    if not len(earlier) or not len(later):
        return False
    last = np.quantile(earlier.cast(pa.int64()).to_numpy(), _MOST_EARLIER)
    return bool(np.median(later.cast(pa.int64()).to_numpy()) > last)


def _evaluation(shelf: Shelf, table: Gallery) -> dict[str, Any] | None:
    """The newest report, and for its worst queries the rows that they are, if they are served."""
    found = report_summary(table)
    if found is None:
        return None
    paths, ids, name = [each["path"] for each in found["worst"]], [None] * len(found["worst"]), None
    queries = _at(shelf, found["query"]["location"])
    if queries is not None:
        name, rows = queries.name, queries.columns
        places = pc.index_in(pa.array(paths, pa.string()), rows["path"])
        ids = rows["row_id"].take(places).to_pylist()
    where = [{"gallery": None if row is None else name, "row_id": row} for row in ids]
    return found | {"worst": [a | b for a, b in zip(found["worst"], where, strict=True)]}


def _at(shelf: Shelf, location: str) -> HeldGallery | None:
    """The served gallery at a location."""
    for held in map(shelf.get, shelf.names):
        place = held.gallery.location
        is_local = "://" not in place + location
        if place == location or (is_local and Path(place).resolve() == Path(location).resolve()):
            return held
    return None


def _cameras(columns: pa.Table) -> list[dict[str, Any]]:
    found = columns.group_by("camera").aggregate(
        [("row_id", "count"), ("captured_at", "min"), ("captured_at", "max"), ("quality", "mean")]
    )
    names = {
        "row_id_count": "rows",
        "captured_at_min": "first_time",
        "captured_at_max": "last_time",
        "quality_mean": "mean_quality",
    }
    found = found.rename_columns([names.get(name, name) for name in found.column_names])
    return sorted(found.to_pylist(), key=lambda each: (each["camera"] is None, each["camera"]))


def _oddities(held: HeldGallery, table: Gallery) -> list[dict[str, Any]]:
    """Kinds of odd rows, with how many there are and the first of them."""
    heights, widths = (
        pc.fill_null(held.columns[name], 0).to_numpy() for name in ("height", "width")
    )
    found = {
        "frame": np.flatnonzero(is_frame(heights, widths)),
        "duplicate": _duplicates(table),
        "low-quality": _least_quality(held.columns),
    }
    return [
        {"kind": kind, "rows": len(rows), "examples": held.rows(rows[:_ODD])}
        for kind, rows in found.items()
        if len(rows)
    ]


def _duplicates(table: Gallery) -> np.ndarray:
    """Positions of the rows with the bytes of an earlier row; boxes of one picture share them."""
    rows = table.rows(["path", "content_hash"])
    is_file = pc.and_(
        pc.is_valid(rows["content_hash"]), pc.invert(pc.match_substring(rows["path"], "#"))
    ).to_numpy()
    codes = rows["content_hash"].combine_chunks().dictionary_encode().indices
    positions = np.flatnonzero(is_file)
    _, first = np.unique(pc.fill_null(codes, -1).to_numpy()[positions], return_index=True)
    return np.setdiff1d(positions, positions[first])


def _least_quality(columns: pa.Table) -> np.ndarray:
    """The twenty positions of least quality, where it was measured."""
    quality = columns["quality"].to_numpy()
    known = np.flatnonzero(np.isfinite(quality))
    return known[np.argsort(quality[known], kind="stable")[:_ODD]]


def _camera_pairs(table: Gallery) -> list[dict[str, Any]]:
    """The thresholds of pairs of cameras, if they were calibrated."""
    try:
        found = read_calibration(table)
    except GalleryDamagedError:
        return []  # the gallery's own answer says what is wrong
    return [
        {
            "a": each["query_camera"],
            "b": each["gallery_camera"],
            "positives": each["positives"],
            "negatives": each["negatives"],
            "threshold": (each["figures"] or {}).get("threshold"),
            "true_match_rate": (each["figures"] or {}).get("tar"),
        }
        for each in (found or {}).get("by_camera") or []
    ]


ROUTES = [Route("/v1/galleries/{gallery}/quality", show, methods=["GET"])]
