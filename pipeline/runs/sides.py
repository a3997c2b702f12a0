"""Two galleries side by side: opened at a version, held against each other, labeled."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.blocks import FeatureRows
from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.ranking import DISTRACTOR, Labels, has_match
from pipeline.errors import InputError
from pipeline.gallery.derived import derivation
from pipeline.gallery.sidecars.camera_statistics import camera_numbers
from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from pipeline.runs.cameras import Cameras
from pipeline.stages.execution import Execution

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """Queries or gallery rows: the pinned table, its columns, and what the folds need of it."""

    gallery: Gallery
    rows: pa.Table
    features: FeatureRows
    labels: Labels


def open_sides(query: Gallery, gallery: Gallery) -> tuple[Side, Side]:
    """Both galleries at their versions; InputError where they cannot be compared."""
    tables = query, gallery
    recipes = [read_recipe(each.recipe_json) for each in tables]
    if recipes[0].fingerprint != recipes[1].fingerprint:
        different = "; ".join(recipes[0].differences(recipes[1]))
        raise InputError(
            f"features of two recipes are never compared: {query.location} and"
            f" {gallery.location} differ in {different}; extract one of them again"
        )
    _check_expansions(query, gallery)
    for each in tables:
        if each.count == 0:
            raise InputError(f"{each.location} has no row in version {each.version}")
    if query.location == gallery.location and gallery.rows(["camera"])["camera"].null_count:
        logger.warning(
            "%s is evaluated against itself: a query without a camera finds itself", query.location
        )
    names = ["path", "identity", "camera"]
    columns = [each.rows(names) for each in tables]
    first, second = (
        Side(each, rows, each.features(), labels)
        for each, rows, labels in zip(tables, columns, labels_of(columns), strict=True)
    )
    of_gallery = Cameras.kept_with(second.gallery)
    if of_gallery and not derivation(first.gallery):
        first = _normalized(first, of_gallery, "queries")
    return first, second


def normalize_sides(
    query: Side, gallery: Side, settings: CameraNormalization, execution: Execution
) -> tuple[Side, Side]:
    """Both sides, normalized by the cameras of the gallery."""
    cameras = Cameras.of(gallery.gallery, settings, execution)
    return (
        _normalized(query, cameras, "queries"),
        _normalized(gallery, cameras, "gallery rows"),
    )


def _normalized(side: Side, cameras: Cameras, what: str) -> Side:
    return replace(side, features=cameras.normalize(side.features, side.rows["camera"], what))


def labels_of(tables: Sequence[pa.Table]) -> list[Labels]:
    """Labels of several tables; one camera name is one number in all of them."""
    cameras = pa.chunked_array([chunk for each in tables for chunk in each["camera"].chunks])
    names = cameras.drop_null().unique().sort().to_pylist()
    return [
        Labels(
            pc.fill_null(each["identity"], DISTRACTOR).to_numpy(),
            camera_numbers(each["camera"], names),
        )
        for each in tables
    ]


def _check_expansions(query: Gallery, gallery: Gallery) -> None:
    """Say which features are expanded; refuse expanded queries of a gallery that is not."""
    ours, theirs = derivation(query), derivation(gallery)
    if ours and (theirs is None or theirs.parameters != ours.parameters):
        raise InputError(
            f"{query.location} is {ours}, and {gallery.location} is {theirs or 'not expanded'}:"
            " expanded queries are compared only with a gallery expanded in the same way; give"
            f" --query {ours.parent}"
        )
    for table, how in ((query, ours), (gallery, theirs)):
        if how:
            logger.warning("%s is %s", table.location, how)


def camera_names(*sides: Side) -> dict[int, str]:
    """The name of each camera number in the labels, in the order of the numbers."""
    names: dict[int, str] = {}
    for side in sides:
        numbers, first = np.unique(side.labels.camera, return_index=True)
        named = side.rows["camera"].take(first).to_pylist()
        known = zip(numbers.tolist(), named, strict=True)
        names |= {number: name for number, name in known if name is not None}
    return dict(sorted(names.items()))


def check_matches(query: Side, gallery: Side) -> None:
    """Tell in words, before any work, why no query can have a match."""
    for side, flag in ((query, "--query"), (gallery, "--gallery")):
        if not (side.labels.identity > 0).any():
            raise InputError(
                f"{flag} {side.gallery.location} has no identity to evaluate by: extract it with a"
                f" --layout that tells identities (it was made with {_layout(side)})"
            )
    common = np.intersect1d(query.labels.identity, gallery.labels.identity)
    if not (common > 0).any():
        raise InputError(
            f"no identity of {query.gallery.location} is in {gallery.gallery.location}:"
            " not one query has a match"
        )
    if not has_match(query.labels, gallery.labels).any():
        cameras = sorted(set(gallery.rows["camera"].drop_null().to_pylist()))
        raise InputError(
            "not one query has a match: every gallery row of a query's identity is from the"
            f" query's own camera ({gallery.gallery.location} has {len(cameras)}:"
            f" {', '.join(cameras[:10])}), and those are left out"
        )


def _layout(side: Side) -> str:
    return f"--layout {side.gallery.properties['layout']}"
