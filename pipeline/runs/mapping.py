"""The map of a gallery: all of its rows in the plane, laid out once, and kept up to date."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import ArrayRows, ChosenRows, FeatureRows, blocks
from pipeline.core.maps.placing import place_among
from pipeline.core.maps.settings import MapSettings
from pipeline.core.neighbors.topk import TopK
from pipeline.errors import InputError, RunError
from pipeline.gallery.derived import derivation
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.map_files import GalleryMap, read_earlier_map, read_map, write_map
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.graph import Origin, positions_of
from pipeline.gallery.table import Gallery
from pipeline.runs.settings import check_scratch
from pipeline.stages.execution import Execution
from pipeline.stages.maps import lay_out
from pipeline.stages.neighbors import build_graph
from pipeline.stages.search import search_gallery

_log = logging.getLogger(__name__)

_MOST_PLACED = 0.1


def gallery_map(
    place: str | Path | Gallery,
    *,
    version: int | None = None,
    settings: MapSettings = MapSettings(),
    execution: Execution = Execution(),
    scratch: Path | None = None,
) -> GalleryMap:
    """The map of a gallery at `place` (a folder, a URL or an open gallery), stored beside it.

    The stored map of the version (default: the latest) is returned if it has these settings.
    Otherwise, if an earlier version has a map with them, rows that are still there keep their
    points, and new rows are placed at the weighted mean of their exact nearest neighbors among
    them, as long as less than a tenth of all rows were placed in this way since all were last laid
    out together. If more were, or without a map, all rows are laid out from their exact neighbor
    graph. So they are in a derived gallery, whose versions may have other features for the same
    row.

    The graph is made in a folder below `scratch` (default: the folder for temporary files), where a
    killed run resumes. The result is the same to the bit for any number of threads or workers. A
    map that cannot be stored is returned with a warning. Raise what `Gallery.open` raises, and
    `InputError` for an open gallery of another version than `version`.
    """
    check_scratch(scratch)
    if not isinstance(place, Gallery):
        place = Gallery.open(str(place), version)
    elif version not in (None, place.version):
        raise InputError(f"{place.location} is open at version {place.version}, not {version}")
    stored, earlier = _stored(place, settings)
    if stored is not None:
        return stored
    found = None
    if earlier is not None:
        found = _with_new_rows(place, earlier, execution)
    if found is None:
        found = _laid_out(place, settings, execution, scratch)
    try:
        write_map(place, found)
    except (OSError, InputError, RunError) as error:
        _log.warning("the map is not stored: %s", error)
    return found


def _stored(gallery: Gallery, settings: MapSettings) -> tuple[GalleryMap | None, GalleryMap | None]:
    """The stored map of this version, or else that of an earlier one."""
    try:
        found = read_map(gallery, settings)
        if found is not None or derivation(gallery) is not None:
            return found, None
        return None, read_earlier_map(gallery, settings)
    except GalleryDamagedError as error:
        _log.warning("the map is made anew: %s", error)
        return None, None


def _with_new_rows(
    gallery: Gallery, earlier: GalleryMap, execution: Execution
) -> GalleryMap | None:
    """The earlier map without the rows that are gone, and with the new ones placed; None if too
    many are new.
    """
    ids = gallery.row_ids()
    places = positions_of(ids, earlier.row_ids)
    kept, fresh = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
    placed = earlier.placed + len(fresh)
    if placed > 0 and placed >= _MOST_PLACED * len(ids):
        return None
    points = np.empty((len(ids), 2), np.float32)
    points[kept] = earlier.points[places[kept]]
    if len(fresh):
        _log.info("%d rows are new to the map, and placed at their neighbors", len(fresh))
        points[fresh] = _placed(gallery, kept, fresh, points[kept], earlier.settings, execution)
    return GalleryMap(ids, points, gallery.version, earlier.settings, placed, earlier.laid_out)


def _placed(
    gallery: Gallery,
    kept: NDArray[np.int64],
    fresh: NDArray[np.int64],
    points: NDArray[np.float32],
    settings: MapSettings,
    execution: Execution,
) -> NDArray[np.float32]:
    """Points of the `fresh` rows (positions) among the `kept` ones with these `points`."""
    features: FeatureRows = gallery.features()
    others: FeatureRows = ChosenRows(features, kept)
    # A part of the fresh rows is held, with neighbors, in each worker.
    size = max(1, execution.worker_memory // (8 * features.dimension + 64 * settings.neighbors))
    parts = []
    for start, stop in blocks(len(fresh), size):
        queries = ArrayRows(features.take(fresh[start:stop]))
        near = search_gallery(queries, others, settings.neighbors, execution=execution)
        parts.append(place_among(near, points, tiling=execution.tiling))
    return np.concatenate(parts)


def _laid_out(
    gallery: Gallery, settings: MapSettings, execution: Execution, scratch: Path | None
) -> GalleryMap:
    """The map of all rows, laid out together."""
    ids, features = gallery.row_ids(), gallery.features()
    near = TopK.none(len(ids), settings.neighbors)
    if len(ids) > 1:
        k = min(settings.neighbors, len(ids) - 1)
        base = None if scratch is None else scratch.absolute()
        # The graph depends on `neighbors` alone.
        with scratch_folder(base, "map", [gallery], {"k": k}) as folder:
            origin = Origin(gallery.location, gallery.version, gallery.fingerprint)
            graph = build_graph(
                features, k, folder / "graph", ids=ids, origin=origin, execution=execution
            )
            near = graph.read(0, len(ids))
    _log.debug("map: %s", asdict(settings))
    points = lay_out(features, near, settings, execution=execution)
    return GalleryMap(ids, points, gallery.version, settings, 0, gallery.version)
