"""Compare a listing with a gallery: find new, changed, missing and unchanged images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.archive.faults import ReadError
from pipeline.archive.limits import MAX_BYTES
from pipeline.archive.listing.files import MISSING, PLACES, UNSEEN
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import Listing
from pipeline.archive.planning.units import equal_or_unknown
from pipeline.large_tables import ByPath, TableWriter, ranges
from pipeline.schemas import SEEN_SCHEMA

ROW_COLUMNS = ("row_id", "path", "size", "mtime", "content_hash")
"""The columns of a gallery's rows that `compare` needs, apart from the labels of a manifest."""

_OF_ROW = pa.schema(
    [("row_id", pa.int64()), ("held_hash", pa.binary()), ("other_time", pa.bool_())]
)
_READERS = 8
_READ_AT_ONCE = 4096


@dataclass(frozen=True)
class SourceChanges:
    """The differences between a listing and a gallery."""

    new: pa.Table
    """Rows of `MANIFEST_SCHEMA`: images that the gallery neither has nor has rejected in this
    state.
    """
    changed: pa.Table
    """Images with another size, other labels or, once they are settled, other bytes."""
    doubtful: pa.Table
    """Images whose bytes must be compared to see a change; none once they are settled."""
    touched: pa.Table
    """Rows of `SEEN_SCHEMA`: images with another time but the same bytes."""
    unchanged: int
    """Images in the state in which they were extracted or rejected, including the touched ones."""
    missing: NDArray[np.int64]
    """Ids of the rows whose image is not listed and not in a folder or tar that cannot be read."""
    missing_rejects: list[str]
    """Paths of the rejects of images that are not listed either."""
    mended: list[str]
    """Paths of the rejects of folders and tars that are readable again, or gone."""

    @property
    def new_or_changed(self) -> ByPath:
        """The images to extract."""
        return ByPath.of_sorted(self.new, self.changed)


def compare(
    listing: Listing,
    rows: ByPath,
    rejects: pa.Table,
    *,
    seen: pa.Table | None = None,
    verify: bool = False,
) -> SourceChanges:
    """Compare a listing with a gallery's `rows` (`ROW_COLUMNS`, labels) and `rejects`.

    The path identifies an image. Same size, different mtime: must be compared by bytes. With
    `verify`, every image of unchanged size and labels is. `seen` are rows touched before. A
    rejected image counts as new if its size or time differs, or if it was missing and is now
    listed.
    """
    if not len(rows) and not len(rejects):  # nothing to compare, so no copy is needed
        return SourceChanges(
            new=listing.images,
            changed=listing.images.schema.empty_table(),
            doubtful=_doubtful_schema(listing.images.schema).empty_table(),
            touched=SEEN_SCHEMA.empty_table(),
            unchanged=0,
            missing=np.zeros(0, np.int64),
            missing_rejects=[],
            mended=[],
        )
    found = _Comparison(listing.images.schema)
    seen = None if seen is None or not len(seen) else seen.sort_by("row_id")
    refused_again = np.zeros(len(rejects), bool)
    for images, held in ranges(ByPath.of_sorted(listing.images), rows):
        place = pc.index_in(images["path"], held["path"])
        known = pc.is_valid(place)
        listed, place = images.filter(known), place.filter(known)
        before = _as_seen(held.take(place), seen)
        alike = _equal(listed, before, ("size", *listing.label_names))
        same_time = _equal(listed, before, ("mtime",))
        hashed = np.zeros(len(listed), bool)
        if "content_hash" in listed.column_names:  # of videos: it shows what has changed
            hashed = np.asarray(pc.is_valid(listed["content_hash"]))
            alike &= ~hashed | _equal(listed, before, ("content_hash",))
        doubtful = alike & (verify | ~same_time) & ~hashed
        doubts = pa.array(doubtful)
        touched = pa.array(alike & hashed & ~same_time)
        found.touched.add(
            pa.table([before["row_id"], listed["mtime"]], SEEN_SCHEMA.names).filter(touched)
        )
        refused = pc.index_in(images["path"], rejects["path"])
        again = pc.is_valid(refused)
        still = np.zeros(len(images), bool)
        told = rejects.take(refused.filter(again))
        asked_again = images.filter(again)
        alike_told = _equal(asked_again, told, ("size",))
        same_told = _equal(asked_again, told, ("mtime",))
        if "content_hash" in images.column_names:
            same_told |= np.asarray(pc.is_valid(asked_again["content_hash"]))
        alike_told &= same_told
        still[np.asarray(again)] = alike_told & np.asarray(pc.not_equal(told["reason"], MISSING))
        refused_again[refused.drop_null().to_numpy()] = True
        gone = np.ones(len(held), bool)
        gone[place.to_numpy()] = False
        found.new.add(images.filter(pa.array(~np.asarray(known) & ~still)))
        found.changed.add(listed.filter(pa.array(~alike)))
        found.doubtful.add(
            _doubtful(listed.filter(doubts), before.filter(doubts), same_time[doubtful])
        )
        found.unchanged += int((alike & ~doubtful).sum() + still.sum())
        gone_rows = held.select(["path", "row_id"]).filter(pa.array(gone))
        found.missing.append(_unlisted(gone_rows, listing)["row_id"].to_numpy())
    rejected = _unlisted(rejects.filter(pa.array(~refused_again)), listing)
    a_place = pc.is_in(rejected["reason"], value_set=pa.array(PLACES))
    return SourceChanges(
        new=found.new.finish(),
        changed=found.changed.finish(),
        doubtful=found.doubtful.finish(),
        touched=found.touched.finish(),
        unchanged=found.unchanged,
        missing=np.sort(np.concatenate([np.zeros(0, np.int64), *found.missing])),
        missing_rejects=rejected.filter(pc.invert(a_place))["path"].to_pylist(),
        mended=rejected.filter(a_place)["path"].to_pylist(),
    )


class _Comparison:
    """The result of a comparison so far."""

    def __init__(self, schema: pa.Schema) -> None:
        self.new, self.changed = TableWriter(schema), TableWriter(schema)
        self.doubtful = TableWriter(_doubtful_schema(schema))
        self.touched = TableWriter(SEEN_SCHEMA)
        self.unchanged = 0
        self.missing: list[NDArray[np.int64]] = []


def settle_doubtful(
    changes: SourceChanges,
    root: str,
    hash_of: Callable[[bytes], bytes],
    *,
    max_bytes: int = MAX_BYTES,
) -> SourceChanges:
    """Read the doubtful images, on threads, and decide by their bytes whether they have changed.

    `hash_of` computes what the gallery stores as `content_hash`. An image that cannot be read
    counts as changed; its extraction gives the reason.
    """
    same = np.zeros(len(changes.doubtful), bool)

    def is_same(path: str, offset: int | None, size: int | None, hashed: bytes | None) -> bool:
        place = None if offset is None or size is None else (offset, size)
        try:
            data = read_image(root, path, place, size=size, max_bytes=max_bytes)
            return hash_of(data) == hashed
        except ReadError:
            return False

    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(same), _READ_AT_ONCE):
            part = changes.doubtful.slice(start, _READ_AT_ONCE)
            names = ("path", "offset", "size", "held_hash")
            found = pool.map(is_same, *(part[name].to_pylist() for name in names))
            same[start : start + len(part)] = list(found)
    other, touched = TableWriter(changes.new.schema), TableWriter(SEEN_SCHEMA)
    touched.add(changes.touched)
    for start in range(0, len(same), _READ_AT_ONCE):
        part = changes.doubtful.slice(start, _READ_AT_ONCE)
        as_before = pa.array(same[start : start + len(part)])
        other.add(part.filter(pc.invert(as_before)))
        touched.add(part.filter(pc.and_(as_before, part["other_time"])))
    return replace(
        changes,
        changed=ByPath.of_sorted(changes.changed, other.finish()).table(),
        doubtful=changes.doubtful.schema.empty_table(),
        touched=touched.finish(),
        unchanged=changes.unchanged + int(same.sum()),
    )


def _doubtful(listed: pa.Table, held: pa.Table, same_time: NDArray[np.bool_]) -> pa.Table:
    columns = [*listed.columns, held["row_id"], held["content_hash"], pa.array(~same_time)]
    schema = _doubtful_schema(listed.schema)
    return pa.table(columns, names=schema.names).cast(schema)


def _doubtful_schema(images: pa.Schema) -> pa.Schema:
    return pa.schema([*images, *_OF_ROW])


def _unlisted(gone: pa.Table, listing: Listing) -> pa.Table:
    """The rows or rejects of `gone` that are not rejects of the listing either.

    Those in a folder or tar that cannot be read are left out, because their state is unknown.
    """
    gone = gone.filter(pc.invert(pc.is_in(gone["path"], value_set=listing.rejects["path"])))
    unseen = pc.is_in(listing.rejects["reason"], value_set=pa.array(UNSEEN))
    for place in listing.rejects.filter(unseen)["path"].to_pylist():
        begin = place if place.endswith("/") else f"{place}#"
        gone = gone.filter(pc.invert(pc.starts_with(gone["path"], begin)))
    return gone


def _as_seen(rows: pa.Table, seen: pa.Table | None) -> pa.Table:
    """The rows with the last times at which their images had the same bytes.

    `seen` is sorted by row id.
    """
    if seen is None:
        return rows
    ids, known = rows["row_id"].to_numpy(), seen["row_id"].to_numpy()
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    times = seen["mtime"].take(pa.array(place))
    times = pc.if_else(pa.array(known[place] == ids), times, rows["mtime"])
    return rows.set_column(rows.schema.get_field_index("mtime"), "mtime", times)


def _equal(left: pa.Table, right: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """A mask of the rows in which these columns are equal; two unknown values are equal."""
    equal = np.ones(len(left), bool)
    for name in names:
        equal &= equal_or_unknown(left[name], right[name])
    return equal
