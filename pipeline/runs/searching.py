"""Search by images: compute their features by the gallery's recipe, find the best rows, write a
page.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.archive.locations import join
from pipeline.core.blocks import ArrayRows, ChosenRows, FeatureRows
from pipeline.core.evaluation.multi_query import QueryGroups
from pipeline.core.neighbors.topk import TopK
from pipeline.errors import InputError
from pipeline.gallery.files.storage import write_whole
from pipeline.gallery.log.conditions import Condition
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from pipeline.model.networks import NetworkFile
from pipeline.output_files import check_new_file
from pipeline.report.search_page import render_search
from pipeline.report.templates import is_page
from pipeline.runs.cameras import normalization_of
from pipeline.runs.queries import NotSearched, open_extractor, read_queries, thumbnails
from pipeline.runs.resources import joined
from pipeline.runs.search_result import Hit, HitList, SearchResult, SearchSettings
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FoldSettings
from pipeline.runs.thresholds import Thresholds, thresholds_of
from pipeline.runs.times import parse_time
from pipeline.runs.travel import reachable_rows, travel_table
from pipeline.runs.union import AnyGallery, GalleryUnion, as_one, parts_of
from pipeline.stages.execution import StartProgress
from pipeline.stages.search import search_gallery

_log = logging.getLogger(__name__)


def _check(galleries: Sequence[Gallery], html: Path | None) -> None:
    """Raise InputError if the gallery cannot be searched by images, or the page cannot be
    written.
    """
    if html is not None:
        check_new_file(html, "html", is_page)
    for gallery in galleries:
        if gallery.count == 0:
            raise InputError(f"{gallery.location} has no row in version {gallery.version}")
        if normalization_of(gallery):
            raise InputError(
                f"{gallery.location} was made with normalization by camera, and an image to search"
                " for has no camera: search the gallery that it was made from"
            )


def _own_camera(select: RowFilter, settings: SearchSettings) -> str | None:
    """The camera whose rows are left out."""
    if not select.not_own_camera:
        return None
    if settings.query_camera is None:
        raise InputError("`not_own_camera` needs the camera of the images: give `query_camera`")
    return settings.query_camera


def _reachable(gallery: AnyGallery, settings: SearchSettings) -> Condition:
    """The rows that travel times allow."""
    time = parse_time("`query_time`", settings.query_time)
    if settings.travel_times is None or settings.query_camera is None or time is None:
        raise InputError("`travel_times` needs `query_camera` and `query_time`")
    table = travel_table(settings.travel_times, gallery)
    return reachable_rows(table, settings.query_camera, time)


def _thresholds(gallery: Gallery, settings: SearchSettings) -> Thresholds:
    """The thresholds of a match; warns if the images' camera has none of its own."""
    found = thresholds_of(gallery, settings.threshold, settings.query_camera)
    if settings.query_camera is not None and settings.threshold is None and not found.by_camera:
        _log.warning(
            "%s: no threshold is calibrated for images of camera %s (calibrate by camera first):"
            " %s",
            gallery.location,
            settings.query_camera,
            "no row is marked" if found.general is None else "all rows get the general one",
        )
    return found


def search(
    images: Sequence[str],
    gallery: Gallery | Sequence[Gallery],
    network: NetworkFile,
    settings: SearchSettings = SearchSettings(),
    *,
    select: RowFilter = ALL_ROWS,
    html: Path | None = None,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> SearchResult:
    """The exact best rows of a gallery, or of several, for some images (files or folders).

    `not_searched` of the result has the images that cannot be used, with the reason. `html` names a
    file for a page of the lists. Raise InputError if the network is not the gallery's, or if no
    image can be used. `select` says which rows are searched; the lists are exact within them. With
    `multi_query` there is one list, of all images together.
    """
    held = as_one(gallery)
    parts = parts_of(held)
    _check(parts, html)
    own_camera = _own_camera(select, settings)
    selected = select.positions(held, own_camera)
    excluded = None
    if settings.travel_times is not None:
        before = held.count if selected is None else len(selected)
        selected = select.positions(held, own_camera, _reachable(held, settings))
        excluded = before - (0 if selected is None else len(selected))
    thresholds = [_thresholds(each, settings) for each in parts]
    extractor = open_extractor(parts[0], network, settings.batch_size)
    queries = read_queries(images, extractor, settings.max_bytes)
    if not queries.images:
        raise InputError(f"none of the images can be used: {_listed_faults(queries.not_searched)}")
    execution = on.execution(progress)
    with joined(on.workers, on.address, on.num_gpus):
        rows: FeatureRows = ArrayRows(queries.features)
        together = QueryGroups.together(len(queries.images)) if settings.multi_query else None
        if together and settings.multi_query == "mean":
            rows = together.mean(rows)
        features: FeatureRows = held.features()
        if selected is not None:
            features = ChosenRows(features, selected)
        best = search_gallery(rows, features, settings.k, execution=execution)
        if together and settings.multi_query == "best":
            best = together.best(best)
        if selected is not None:
            best = TopK(best.scores, selected[best.rows])
    _log.debug("search: %s", execution.ledger.total)
    asked = [queries.images] if settings.multi_query else [(each,) for each in queries.images]
    general, origin = _shown_threshold(thresholds)
    found = SearchResult(
        gallery=held.location,
        version=held.version,
        rows=held.count if selected is None else len(selected),
        threshold=general,
        threshold_from=origin,
        results=_lists(held, asked, best, thresholds),
        not_searched=queries.not_searched,
        rows_excluded=excluded,
        html=html,
        products=execution.ledger.total.figures(),
    )
    if html is not None:
        _write_page(found, held, html)
    return found


def _shown_threshold(thresholds: Sequence[Thresholds]) -> tuple[float | None, str | None]:
    """The threshold to show, and its origin: the least, where galleries have several."""
    known = [each for each in thresholds if each.general is not None]
    if len({(each.general, each.origin) for each in thresholds}) == 1 or not known:
        return thresholds[0].general, thresholds[0].origin
    least = min(each.general for each in known if each.general is not None)
    return least, "the least of the galleries; each has its own"


def _lists(
    table: AnyGallery,
    asked: Sequence[tuple[str, ...]],
    best: TopK,
    thresholds: Sequence[Thresholds],
) -> tuple[HitList, ...]:
    """The ranked rows of each query, given by its images, with their columns from the table.

    `thresholds` are those of each gallery.
    """
    shown, place = np.unique(best.rows, return_inverse=True)
    columns = ["row_id", "path", "identity", "camera", "captured_at"]
    rows = table.rows_at(shown, columns).to_pylist()
    parts = parts_of(table)
    owner = table.locate(shown)[0] if isinstance(table, GalleryUnion) else np.zeros_like(shown)
    lists = []
    for images, places, scores in zip(
        asked, place.reshape(best.rows.shape), best.scores.tolist(), strict=True
    ):
        hits = []
        for rank, (row, score) in enumerate(zip(places, scores, strict=True), start=1):
            limit = thresholds[owner[row]].of(rows[row]["camera"])
            match = None if limit is None else score >= limit
            told = {"gallery": parts[owner[row]].location, **rows[row]}
            hits.append(Hit(rank=rank, **told, score=score, threshold=limit, match=match))
        lists.append(HitList(images[0], tuple(hits), images if len(images) > 1 else ()))
    return tuple(lists)


def _write_page(found: SearchResult, table: AnyGallery, html: Path) -> None:
    """Write the page, with pictures of the crops that still exist."""

    source = table.properties["source"]
    paths = dict.fromkeys(hit.path for each in found.results for hit in each.hits)
    stretch = getattr(read_recipe(table.recipe_json), "stretch", None)
    crops, missing = thumbnails({path: join(source, path) for path in paths}, stretch)
    pictures, _ = thumbnails({each.image: each.image for each in found.results}, stretch)
    if missing:
        _log.warning(
            "cannot show %d of the crops in the lists: %s", len(missing), _listed_faults(missing)
        )
    page = render_search(asdict(found), pictures, crops)
    with listed_in_galleries("search page", html, parts_of(table)):
        write_whole(html.absolute(), lambda path: path.write_text(page, encoding="utf-8"))


def _listed_faults(faults: tuple[NotSearched, ...]) -> str:
    more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(map(_line, faults[:3])) + more


def _line(fault: NotSearched) -> str:
    return f"{fault.image}: {fault.reason} ({fault.detail})"
