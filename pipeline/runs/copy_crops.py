"""The crops that a copy of a network is compared with its source on."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.decoding.images import decode
from pipeline.archive.drawn.drawing import draw_archive
from pipeline.archive.faults import Rejected
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import Listing, list_source
from pipeline.core.evaluation.labels import has_match
from pipeline.core.evaluation.metrics import summarize
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.errors import InputError
from pipeline.gallery.labels import labels_of
from pipeline.large_tables import rows_at
from pipeline.model.extractor import Extractor
from pipeline.model.feature_models import unit_features
from pipeline.model.functions import Crops
from pipeline.runs.settings import ExportSettings


def sample_crops(flags: ExportSettings) -> Crops:
    """The crops to measure on: evenly spread over the source, or drawn.

    Raise InputError if none can be decoded.
    """
    if flags.sample is None:
        with tempfile.TemporaryDirectory() as folder:
            draw_archive(
                Path(folder), identities=2, cameras=2, crops_per_camera=2, distractors=0, junk=0
            )
            drawn = sorted(Path(folder).rglob("*.jpg"))
            return [decode(path.read_bytes()) for path in drawn]
    crops = list(_crops(_spread(list_source(flags.sample), flags.sample_size)))
    if not crops:
        raise InputError(f"`sample` {flags.sample}: none of its images can be decoded")
    return crops


def labeled_sides(flags: ExportSettings) -> tuple[Listing, Listing] | None:
    """Queries and gallery to evaluate on, or None.

    Raise InputError if one of their images is in the sample.
    """
    if flags.query is None or flags.gallery is None:
        return None
    sides = list_source(flags.query, flags.layout), list_source(flags.gallery, flags.layout)
    if flags.sample is not None:
        sampled = _places(_spread(list_source(flags.sample), flags.sample_size))
        twice = sampled & (_places(sides[0]) | _places(sides[1]))
        if twice:
            raise InputError(
                f"`sample` {flags.sample}: {len(twice)} of its crops are evaluated too, as "
                f"{sorted(twice)[0]}; calibrate on crops that are not"
            )
    return sides


def accuracy(extractor: Extractor, query: Listing, gallery: Listing) -> NDArray[np.float64]:
    """Average precision and rank-1 `[2, Q]` of the queries that have a match.

    Raise InputError if there is none, and for an image without a feature.
    """
    labels = labels_of([query.images, gallery.images])
    if not has_match(*labels).any():
        raise InputError("`query` and `gallery`: no query has a match by another camera")
    features = [_features(extractor, each) for each in (query, gallery)]
    counts = rank_counts(features[0], labels[0], features[1], labels[1])
    summary = summarize(counts, len(features[1]))
    values = np.stack([summary.average_precision, summary.rank1])
    return values[:, summary.first_rank > 0]


def _spread(listing: Listing, count: int) -> Listing:
    rows = np.unique(np.linspace(0, len(listing.images) - 1, count).astype(np.int64))
    return dataclasses.replace(listing, images=rows_at(listing.images, rows))


def _crops(listing: Listing, *, strict: bool = False) -> Iterator[NDArray[np.uint8]]:
    for path in listing.images["path"].to_pylist():
        try:
            yield decode(read_image(listing.root, path))
        except Rejected as error:
            if strict:
                raise InputError(f"{listing.root}/{path}: {error.detail}") from error


def _places(listing: Listing) -> set[str]:
    return {str(Path(listing.root, path).resolve()) for path in listing.images["path"].to_pylist()}


def _features(extractor: Extractor, listing: Listing) -> NDArray[np.float32]:
    """Features `[N, D]` of all images of a listing; raise InputError for an image without a
    feature.
    """
    parts = [np.empty((0, extractor.dimension), np.float32)]
    paths = listing.images["path"].to_pylist()
    decoded = zip(paths, _crops(listing, strict=True), strict=True)
    for batch, rows, wrong in unit_features(decoded, extractor):
        for row, why in wrong.items():
            raise InputError(f"{listing.root}/{batch[row]}: {why}")
        parts.append(rows)
    return np.concatenate(parts)
