"""The work plan: which images get which row ids, cut into the units that workers extract."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.limits import UNIT_SIZE, check_unit_size
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
    Row ids of a leftover that are given already count no more: it was committed after all.
    InputError where the unit size is out of bounds.
    """
    check_unit_size(unit_size)
    kept = PLAN_SCHEMA.empty_table()
    if leftover is not None:
        leftover = leftover.filter(pc.greater_equal(leftover["row_id"], next_row_id))
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
        column = members[name]
        digest.update(f"\n{name} {len(column)} ".encode())
        digest.update(np.packbits(np.asarray(pc.is_valid(column))).tobytes())
        if pa.types.is_string(column.type):
            digest.update(pc.binary_length(column.fill_null("")).to_numpy().tobytes())
            digest.update("".join(column.fill_null("").to_pylist()).encode())
        else:
            digest.update(column.cast(pa.int64()).fill_null(0).to_numpy().tobytes())
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
