"""Two galleries side by side: opened at a version, compared, labeled."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.layouts.datasets import CLOTHES, DATA_SETS, clothes_reader
from pipeline.archive.layouts.labels import camera_name
from pipeline.archive.listing.source import seen_path
from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA, NO_CLOTHES, Labels, has_match
from pipeline.errors import InputError
from pipeline.gallery.derived import derivation
from pipeline.gallery.labels import labels_of
from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from pipeline.runs.cameras import Cameras
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.union import AnyGallery, GalleryUnion, parts_of
from pipeline.stages.execution import Execution

SHOWN_CAMERAS = 10
# This many times more queries than gallery rows is hardly intended.
_SWAPPED = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabeledSide:
    """Queries or gallery rows: the table at its version, its columns, features and labels.

    They are those of the rows at `positions` int64 `[n]`, or of all rows if that is None.
    """

    gallery: AnyGallery
    rows: pa.Table
    features: FeatureRows
    labels: Labels
    positions: NDArray[np.int64] | None = None

    def take(self, positions: NDArray[np.int64]) -> "LabeledSide":
        """Some of its rows, in that order."""
        return replace(
            self,
            rows=self.rows.take(pa.array(positions)),
            features=ChosenRows(self.features, positions),
            labels=self.labels.take(positions),
            positions=positions if self.positions is None else self.positions[positions],
        )


def open_sides(
    query: Gallery,
    gallery: AnyGallery,
    same_place: Sequence[str] = (),
    *,
    clothes_changed: bool = False,
    select: RowFilter = ALL_ROWS,
) -> tuple[LabeledSide, LabeledSide]:
    """Both galleries at their versions; raise InputError if they cannot be compared.

    `same_place` names cameras at one place, such as `2,3`: a match must come from another place.
    With `clothes_changed`, a match must also show other clothes. `select` says which rows of the
    gallery are compared; queries are not selected.
    """
    tables: tuple[AnyGallery, AnyGallery] = query, gallery
    recipes = [read_recipe(each.recipe_json) for each in tables]
    if recipes[0].fingerprint != recipes[1].fingerprint:
        different = "; ".join(recipes[0].differences(recipes[1]))
        raise InputError(
            f"features of two recipes are never compared: {query.location} and"
            f" {gallery.location} differ in {different}; extract one of them again"
        )
    _check_expansions(query, gallery)
    for each in parts_of(*tables):
        if each.count == 0:
            raise InputError(f"{each.location} has no row in version {each.version}")
    names = ["path", "identity", "camera"]
    chosen = None, select.positions(gallery)
    columns = [
        each.rows(names) if positions is None else each.rows_at(positions, names)
        for each, positions in zip(tables, chosen, strict=True)
    ]
    if (
        query.location in [each.location for each in parts_of(gallery)]
        and columns[1]["camera"].null_count
    ):
        _log.warning(
            "%s is evaluated against itself: a query without a camera finds itself", query.location
        )
    first, second = (
        LabeledSide(each, rows, _features(each, positions), labels, positions)
        for each, rows, labels, positions in zip(
            tables, columns, placed_labels(columns, same_place), chosen, strict=True
        )
    )
    if clothes_changed:
        first, second = (replace(each, labels=_with_clothes(each)) for each in (first, second))
    of_gallery = Cameras.kept_with(parts_of(gallery)[0])  # several have none
    if of_gallery and not derivation(query):
        first = _normalized(first, of_gallery, "queries")
    return first, second


def _features(gallery: AnyGallery, positions: NDArray[np.int64] | None) -> FeatureRows:
    rows = gallery.features()
    return rows if positions is None else ChosenRows(rows, positions)


def normalize_sides(
    query: LabeledSide, gallery: LabeledSide, settings: CameraNormalization, execution: Execution
) -> tuple[LabeledSide, LabeledSide]:
    """Both sides, normalized by the cameras of the gallery."""
    held = gallery.gallery
    if isinstance(held, GalleryUnion):
        camera = held.rows(["camera"])["camera"]
        cameras = Cameras.computed(held.features(), camera, settings, execution)
    else:
        cameras = Cameras.of(held, settings, execution)
    return (
        _normalized(query, cameras, "queries"),
        _normalized(gallery, cameras, "gallery rows"),
    )


def _normalized(side: LabeledSide, cameras: Cameras, what: str) -> LabeledSide:
    return replace(side, features=cameras.normalize(side.features, side.rows["camera"], what))


def placed_labels(tables: Sequence[pa.Table], same_place: Sequence[str] = ()) -> list[Labels]:
    """Labels of several tables. A camera has one number in all of them, however it is spelled, and
    so have the cameras of one place (see `open_sides`).
    """
    places = _places(same_place)
    cameras = [_placed(each["camera"], places) for each in tables]
    names = {name for each in cameras for name in each.unique().drop_null().to_pylist()}
    if unknown := [name for name, place in places.items() if place not in names]:
        raise InputError(
            f"`same_place`: no row is from camera {', '.join(unknown)}; there are"
            f" {', '.join(sorted(names)[:SHOWN_CAMERAS])}"
        )
    return labels_of(
        [
            pa.table({"identity": each["identity"], "camera": column})
            for each, column in zip(tables, cameras, strict=True)
        ]
    )


def _with_clothes(side: LabeledSide) -> Labels:
    """The labels of a side, with the clothes that its layout reads."""
    layout = side.gallery.properties["layout"].partition(",")[0]
    known = [each for each in DATA_SETS if each.name == layout and layout in CLOTHES]
    if not known:
        raise InputError(
            f"`clothes_changed`: the layout {layout} of {side.gallery.location} has no"
            f" labels of clothes; {' and '.join(CLOTHES)} have"
        )
    read = clothes_reader(known[0])
    worn = [read(seen_path(path)) for path in side.rows["path"].to_pylist()]
    clothes = np.array([NO_CLOTHES if each is None else each for each in worn], np.int64)
    return replace(side.labels, clothes=clothes)


def _places(same_place: Sequence[str]) -> dict[str, str]:
    """The place of each camera that shares one, by camera name.

    >>> _places(["2,3"])
    {'2': '2', '3': '2'}
    """
    places: dict[str, str] = {}
    for group in same_place:
        names = [camera_name(name) or "" for name in group.split(",")]
        if len(names) < 2 or "" in names:
            raise InputError(
                f"`same_place`: {group!r} is not of the form 2,3: cameras of one place"
            )
        if twice := {name for name in names if name in places or names.count(name) > 1}:
            raise InputError(f"`same_place` names camera {', '.join(sorted(twice))} twice")
        places |= dict.fromkeys(names, names[0])
    return places


def _placed(cameras: pa.ChunkedArray, places: Mapping[str, str]) -> pa.ChunkedArray:
    """The column with one name for each place."""
    distinct = cameras.combine_chunks().dictionary_encode()
    read = [camera_name(name) for name in distinct.dictionary.to_pylist()]
    names = pa.array([name and places.get(name, name) for name in read], pa.string())
    return pa.chunked_array([names.take(distinct.indices)])


def _check_expansions(query: Gallery, gallery: AnyGallery) -> None:
    """Log which features are expanded; refuse expanded queries of a gallery that is not."""
    ours, theirs = (
        None if how is not None and how.of_tracklets else how  # their features are plain ones
        for how in map(derivation, (query, parts_of(gallery)[0]))
    )
    if ours and (theirs is None or theirs.parameters != ours.parameters):
        raise InputError(
            f"{query.location} is {ours}, and {gallery.location} is {theirs or 'not expanded'}:"
            " expanded queries are compared only with a gallery expanded in the same way; give"
            f" `query` {ours.parent}"
        )
    for place, how in ((query.location, ours), (gallery.location, theirs)):
        if how:
            _log.warning("%s is %s", place, how)


def camera_names(*sides: LabeledSide) -> dict[int, str]:
    """The name of each camera number in the labels, in the order of the numbers."""
    names: dict[int, set[str]] = {}
    for side in sides:
        columns = pa.table({"number": side.labels.camera, "name": side.rows["camera"]})
        for pair in columns.group_by(["number", "name"]).aggregate([]).to_pylist():
            if pair["name"] is not None and pair["number"] != NO_CAMERA:
                names.setdefault(pair["number"], set()).add(pair["name"])
    return {number: "+".join(sorted(spelled)) for number, spelled in sorted(names.items())}


def warn_of_odd_sides(query: LabeledSide, gallery: LabeledSide) -> None:
    """Warn of what looks wrong with two sides that can be compared."""
    cameras = [np.unique(side.labels.camera) for side in (query, gallery)]
    known = [numbers[numbers != NO_CAMERA] for numbers in cameras]
    if gallery.positions is None and all(map(len, known)) and not np.intersect1d(*known).size:
        _log.warning(
            "queries and gallery have no camera in common, so that no row of a query's own camera"
            " is left out: %s has %s, %s has %s", query.gallery.location, _cameras(query),
            gallery.gallery.location, _cameras(gallery),
        )  # fmt: skip
    if gallery.positions is not None:
        labeled = query.labels.identity > DISTRACTOR
        if lost := int((labeled & ~has_match(query.labels, gallery.labels)).sum()):
            _log.warning(
                "%d of %d queries with an identity have no match among the %d selected rows, and"
                " count in no mean", lost, int(labeled.sum()), len(gallery.rows),
            )  # fmt: skip
    if distractors := int((query.labels.identity == DISTRACTOR).sum()):
        _log.warning(
            "%d queries of %s are distractors (identity 0) or unknown, and have no match; where"
            " labels count people from 0, extract again with `first_identity` 0", distractors,
            query.gallery.location,
        )  # fmt: skip
    many, few = len(query.rows), len(gallery.rows)
    others = [int((side.labels.identity <= DISTRACTOR).sum()) for side in (query, gallery)]
    swapped = many >= _SWAPPED * few or (many > few and others[0] and not others[1])
    if swapped and gallery.positions is None:
        _log.warning(
            "%s has %d queries and %s %d rows: are the two swapped?", query.gallery.location, many,
            gallery.gallery.location, few,
        )  # fmt: skip


def _cameras(side: LabeledSide) -> str:
    names = list(camera_names(side).values())
    return ", ".join(names[:SHOWN_CAMERAS]) + (", ..." if len(names) > SHOWN_CAMERAS else "")


def check_matches(query: LabeledSide, gallery: LabeledSide) -> None:
    """Raise InputError before any work if no query can have a match; it says why."""
    for side, setting in ((query, "`query`"), (gallery, "`gallery`")):
        if not (side.labels.identity > 0).any():
            raise InputError(
                f"{setting} {side.gallery.location} has no identities, which an evaluation needs:"
                f" extract it with a layout that reads them (it was made with {_layout(side)})"
            )
    common = np.intersect1d(query.labels.identity, gallery.labels.identity)
    if not (common > 0).any():
        raise InputError(
            f"no identity of {query.gallery.location} is in {_described(gallery)}: no query has a"
            " match"
        )
    if not has_match(query.labels, gallery.labels).any():
        cameras = sorted(set(gallery.rows["camera"].drop_null().to_pylist()))
        raise InputError(
            "no query has a match: every gallery row of a query's identity is from the"
            f" query's own camera ({_described(gallery)} has {len(cameras)}:"
            f" {', '.join(cameras[:10])}), and those are left out"
        )


def _described(side: LabeledSide) -> str:
    """The gallery, and how many of its rows are compared if not all."""
    if side.positions is None:
        return side.gallery.location
    return f"the {len(side.rows):,} selected rows of {side.gallery.location}"


def _layout(side: LabeledSide) -> str:
    return f"layout {side.gallery.properties['layout']}"
