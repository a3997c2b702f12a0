"""A listing held against a gallery: which images are new, changed, missing or as they were."""

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
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.schemas import SEEN_SCHEMA

ROW_COLUMNS = ("row_id", "path", "size", "mtime", "content_hash")
"""What `compare` needs of a gallery's rows, beside the labels that a manifest told."""

_DOUBTFUL_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        ("row_id", pa.int64()),
        ("content_hash", pa.binary()),
        ("other_time", pa.bool_()),
    ]
)
_READERS = 8
_READ_AT_ONCE = 4096


@dataclass(frozen=True)
class SourceChanges:
    """What a listing holds beyond a gallery, and what it lacks."""

    new: pa.Table
    """Rows of `MANIFEST_SCHEMA`: images that the gallery neither holds nor has rejected as is."""
    changed: pa.Table
    """Images of another size, other labels or, once `settle` has read them, other bytes."""
    doubtful: pa.Table
    """Images whose bytes must tell whether they have changed; none once they are settled."""
    touched: pa.Table
    """Rows of `SEEN_SCHEMA`: images with another time and the bytes that they had."""
    unchanged: int
    """Images that are as they were extracted or rejected, those touched included."""
    missing: NDArray[np.int64]
    """Ids of the rows whose image is not listed, nor in a folder or tar that cannot be read."""
    missing_rejects: list[str]
    """Paths of the rejects of images that are as little listed."""
    mended: list[str]
    """Paths of the rejects of folders and tars that are readable again, or gone."""

    @property
    def new_or_changed(self) -> pa.Table:
        """The images to extract."""
        return pa.concat_tables([self.new, self.changed])


def compare(
    listing: Listing,
    rows: pa.Table,
    rejects: pa.Table,
    *,
    seen: pa.Table | None = None,
    verify: bool = False,
) -> SourceChanges:
    """What a listing holds beyond a gallery's `rows` (`ROW_COLUMNS`, labels) and `rejects`.

    Paths decide who is who. An image of the same size and another time is doubtful; with `verify`
    everyone is whose size and labels are the same. `seen` are rows touched before. An image that
    was rejected is new again once its size or time differ, or where it was missing and is listed.
    """
    images = listing.images
    place = pc.index_in(images["path"], rows["path"])
    known = pc.is_valid(place)
    listed, place = images.filter(known), place.filter(known)
    held = _as_seen(rows, seen).take(place)
    alike = _equal(listed, held, ("size", *listing.told))
    same_time = _equal(listed, held, ("mtime",))
    doubtful = alike & (verify | ~same_time)
    doubts = pa.array(doubtful)
    refused = pc.index_in(images["path"], rejects["path"])
    again = pc.is_valid(refused)
    still = np.zeros(len(images), bool)
    told = rejects.take(refused.filter(again))
    alike_told = _equal(images.filter(again), told, ("size", "mtime"))
    still[np.asarray(again)] = alike_told & np.asarray(pc.not_equal(told["reason"], MISSING))
    gone = np.ones(len(rows), bool)
    gone[place.to_numpy()] = False
    missing = _unlisted(rows.select(["path", "row_id"]).filter(pa.array(gone)), listing)
    gone = np.ones(len(rejects), bool)
    gone[refused.drop_null().to_numpy()] = False
    rejected = _unlisted(rejects.filter(pa.array(gone)), listing)
    a_place = pc.is_in(rejected["reason"], value_set=pa.array(PLACES))
    return SourceChanges(
        new=images.filter(pa.array(~np.asarray(known) & ~still)),
        changed=listed.filter(pa.array(~alike)),
        doubtful=_doubtful(listed.filter(doubts), held.filter(doubts), same_time[doubtful]),
        touched=SEEN_SCHEMA.empty_table(),
        unchanged=int((alike & ~doubtful).sum() + still.sum()),
        missing=missing["row_id"].to_numpy(),
        missing_rejects=rejected.filter(pc.invert(a_place))["path"].to_pylist(),
        mended=rejected.filter(a_place)["path"].to_pylist(),
    )


def settle(
    changes: SourceChanges,
    root: str,
    hash_of: Callable[[bytes], bytes],
    *,
    max_bytes: int = MAX_BYTES,
) -> SourceChanges:
    """Read the doubtful images, on threads: by their bytes they have changed or not.

    `hash_of` gives what the gallery keeps as `content_hash`. One that cannot be read has changed:
    its extraction says why.
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
            names = ("path", "offset", "size", "content_hash")
            found = pool.map(is_same, *(part[name].to_pylist() for name in names))
            same[start : start + len(part)] = list(found)
    other = changes.doubtful.filter(pa.array(~same)).select(MANIFEST_SCHEMA.names)
    touched = pc.and_(pa.array(same), changes.doubtful["other_time"])
    return replace(
        changes,
        changed=pa.concat_tables([changes.changed, other]),
        doubtful=_DOUBTFUL_SCHEMA.empty_table(),
        touched=changes.doubtful.filter(touched).select(SEEN_SCHEMA.names),
        unchanged=changes.unchanged + int(same.sum()),
    )


def _doubtful(listed: pa.Table, held: pa.Table, same_time: NDArray[np.bool_]) -> pa.Table:
    columns = [listed[name] for name in MANIFEST_SCHEMA.names]
    columns += [held["row_id"], held["content_hash"], pa.array(~same_time)]
    return pa.table(columns, names=_DOUBTFUL_SCHEMA.names).cast(_DOUBTFUL_SCHEMA)


def _unlisted(gone: pa.Table, listing: Listing) -> pa.Table:
    """Those of the rows or rejects `gone` that are no rejects of the listing either.

    Nor do those count that lie in a folder or tar which cannot be read: nobody knows of them.
    """
    gone = gone.filter(pc.invert(pc.is_in(gone["path"], value_set=listing.rejects["path"])))
    unseen = pc.is_in(listing.rejects["reason"], value_set=pa.array(UNSEEN))
    for place in listing.rejects.filter(unseen)["path"].to_pylist():
        begin = place if place.endswith("/") else f"{place}#"
        gone = gone.filter(pc.invert(pc.starts_with(gone["path"], begin)))
    return gone


def _as_seen(rows: pa.Table, seen: pa.Table | None) -> pa.Table:
    """The rows with the times at which their images were seen last with the same bytes."""
    if seen is None or not len(seen):
        return rows
    place = pc.index_in(rows["row_id"], seen["row_id"])
    times = pc.if_else(pc.is_valid(place), seen["mtime"].take(place), rows["mtime"])
    return rows.set_column(rows.schema.get_field_index("mtime"), "mtime", times)


def _equal(left: pa.Table, right: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """Row by row, whether these columns are the same; two unknown values are."""
    equal = np.ones(len(left), bool)
    for name in names:
        same = pc.fill_null(pc.equal(left[name], right[name]), False)
        unknown = pc.and_(pc.is_null(left[name]), pc.is_null(right[name]))
        equal &= np.asarray(pc.or_(same, unknown))
    return equal
