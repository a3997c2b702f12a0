"""The work plan: which images get which row ids, cut into the units that workers extract."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.limits import UNIT_SIZE, UNIT_SIZES
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError

PLAN_SCHEMA = pa.schema([*MANIFEST_SCHEMA, ("row_id", pa.int64()), ("unit", pa.string())])
"""A manifest with each image's row id and the id of its unit; sorted by row id."""


@dataclass(frozen=True)
class Unit:
    """A run of images with consecutive row ids: what one worker extracts into one file."""

    id: str
    members: pa.Table
    """Rows of `PLAN_SCHEMA` without `unit`."""

    @property
    def row_ids(self) -> range:
        """The row ids of the members."""
        first = self.members["row_id"][0].as_py()
        return range(first, first + len(self.members))

    def halves(self, fingerprint: str) -> tuple["Unit", "Unit"]:
        """The unit in two units of its own: how the image that kills a worker is found."""
        middle = len(self.members) // 2
        if middle == 0:
            raise InputError(f"unit {self.id} holds one image and cannot be halved")
        first, second = self.members[:middle], self.members[middle:]
        return (
            Unit(unit_id(first, fingerprint), first),
            Unit(unit_id(second, fingerprint), second),
        )


@dataclass(frozen=True)
class Changes:
    """A listing held against a gallery: `new` images, and how many of the others changed."""

    new: pa.Table
    """Rows of `MANIFEST_SCHEMA`: images that the gallery neither holds nor has rejected as is."""
    changed: pa.Table
    """Images of another size or time than when they were extracted."""
    missing: int
    """Rows of the gallery whose image is not listed, not even as a reject."""
    unchanged: int

    @property
    def new_or_changed(self) -> pa.Table:
        """The images to extract."""
        return pa.concat_tables([self.new, self.changed])


def compare(
    images: pa.Table, listed_rejects: pa.Table, rows: pa.Table, rejects: pa.Table
) -> Changes:
    """What a listing (its `images` and rejects) holds beyond a gallery's `rows` and `rejects`.

    Of each table path, size and mtime count. Paths decide who is who. An image that was rejected
    is new again once its size or time differ.
    """
    place = pc.index_in(images["path"], rows["path"])
    known = pc.is_valid(place)
    held = rows.select(["size", "mtime"]).take(place.filter(known))
    listed = images.filter(known)
    same = _equal(listed, held)
    refused = pc.index_in(images["path"], rejects["path"])
    again = pc.is_valid(refused)
    still = np.zeros(len(images), bool)
    told = rejects.select(["size", "mtime"]).take(refused.filter(again))
    still[np.asarray(again)] = _equal(images.filter(again), told)
    new = images.filter(pa.array(~np.asarray(known) & ~still))
    gone = pc.invert(pc.is_in(rows["path"], value_set=listed["path"]))
    gone = pc.and_(gone, pc.invert(pc.is_in(rows["path"], value_set=listed_rejects["path"])))
    missing = pc.sum(gone).as_py() or 0
    return Changes(new, listed.filter(pa.array(~same)), missing, int(same.sum()) + int(still.sum()))


def plan(
    images: pa.Table,
    fingerprint: str,
    *,
    next_row_id: int = 0,
    unit_size: int = UNIT_SIZE,
    leftover: pa.Table | None = None,
) -> pa.Table:
    """Give every image a row id and a unit: a table of `PLAN_SCHEMA`.

    Images in order of path get consecutive row ids from `next_row_id`, `unit_size` a unit. Of a
    `leftover` plan, which an interrupted run left, the units whose images are listed as they were
    keep their row ids, so that their finished files still count; the rest is planned behind it.
    InputError where the unit size is out of bounds.
    """
    check_unit_size(unit_size)
    kept = PLAN_SCHEMA.empty_table()
    if leftover is not None and len(leftover):
        kept = _still_valid(leftover, images, fingerprint)
        next_row_id = max(next_row_id, pc.max(leftover["row_id"]).as_py() + 1)
    rest = images.filter(pc.invert(pc.is_in(images["path"], value_set=kept["path"])))
    rest = rest.sort_by("path").combine_chunks()
    numbers = pa.array(np.arange(next_row_id, next_row_id + len(rest)))
    rest = rest.append_column("row_id", numbers)
    names: list[str] = []
    for start in range(0, len(rest), unit_size):
        members = rest[start : start + unit_size]
        names += [unit_id(members, fingerprint)] * len(members)
    rest = rest.append_column("unit", pa.array(names, pa.string()))
    return pa.concat_tables([kept, rest.cast(PLAN_SCHEMA)]).sort_by("row_id").combine_chunks()


def check_unit_size(unit_size: int) -> None:
    """Raise InputError where no unit may be of this size."""
    low, high = UNIT_SIZES
    if not low <= unit_size <= high:
        raise InputError(f"a work unit holds {low} to {high} images, not {unit_size}")


def units(planned: pa.Table) -> Iterator[Unit]:
    """The units of a plan, in order of row id."""
    names = planned["unit"].to_numpy()
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(names)]):
        if stop > start:
            yield Unit(names[start], planned[start:stop].drop_columns(["unit"]))


def unit_id(members: pa.Table, fingerprint: str) -> str:
    """The name of a unit: a hash of the recipe's fingerprint and of all that the plan says of it.

    The same work has the same name wherever and whenever it is planned.
    """
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    for name in [*MANIFEST_SCHEMA.names, "row_id"]:
        digest.update(json.dumps([name, members[name].to_pylist()], default=str).encode())
    return digest.hexdigest()


def _still_valid(leftover: pa.Table, images: pa.Table, fingerprint: str) -> pa.Table:
    """The rows of a plan whose whole unit would be named as it is from the images as listed now."""
    place = pc.index_in(leftover["path"], images["path"])
    good: list[str] = []
    today = images.take(place).append_column("row_id", leftover["row_id"])
    listed = np.asarray(pc.is_valid(place))
    start = 0
    for unit in units(leftover):
        stop = start + len(unit.members)
        if listed[start:stop].all() and unit_id(today[start:stop], fingerprint) == unit.id:
            good.append(unit.id)
        start = stop
    return leftover.filter(pc.is_in(leftover["unit"], value_set=pa.array(good, pa.string())))


def _equal(left: pa.Table, right: pa.Table) -> np.ndarray:
    """Row by row, whether size and time are the same; two unknown times are."""
    equal = np.ones(len(left), bool)
    for name in ("size", "mtime"):
        same = pc.fill_null(pc.equal(left[name], right[name]), False)
        unknown = pc.and_(pc.is_null(left[name]), pc.is_null(right[name]))
        equal &= np.asarray(pc.or_(same, unknown))
    return equal
