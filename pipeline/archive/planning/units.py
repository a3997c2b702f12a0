"""Plan the work: give images row ids, and divide them into the units that workers extract."""

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.archive.limits import UNIT_SIZE, check_unit_size
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.archive.video.places import unit_parts
from pipeline.errors import InputError
from pipeline.large_tables import ByPath, TableWriter, ranges, rows_at

_OF_PLAN = pa.schema([("row_id", pa.int64()), ("unit", pa.string())])
PLAN_SCHEMA = pa.schema([*MANIFEST_SCHEMA, *_OF_PLAN])
"""A manifest with each image's row id and the id of its unit; sorted by row id. A manifest of boxes
also has the other columns of `BOXES_SCHEMA`.
"""

_PATH = pa.schema([MANIFEST_SCHEMA.field("path")])

_BYTES_OF_A_CROP = 100_000


@dataclass(frozen=True)
class Unit:
    """A run of images with consecutive row ids, which one worker extracts to one file."""

    id: str
    members: pa.Table
    """Rows of `PLAN_SCHEMA` without `unit`."""

    @property
    def row_ids(self) -> range:
        """The row ids of the members."""
        first = self.members["row_id"][0].as_py()
        return range(first, first + len(self.members))

    def halves(self, fingerprint: str) -> tuple["Unit", "Unit"]:
        """Divide the unit into two; this is how the image that kills a worker is found."""
        middle = len(self.members) // 2
        if middle == 0:
            raise InputError(f"unit {self.id} holds one image and cannot be halved")
        first, second = self.members[:middle], self.members[middle:]
        return (
            Unit(unit_id(first, fingerprint), first),
            Unit(unit_id(second, fingerprint), second),
        )


class Units(Sequence[Unit]):
    """The units of a plan, in order of row id; each is made on request."""

    def __init__(self, planned: pa.Table, starts: NDArray[np.int64], stops: NDArray[np.int64]):
        self._planned, self._starts, self._stops = planned, starts, stops

    @property
    def ids(self) -> list[str]:
        """The ids of the units."""
        return rows_at(self._planned.select(["unit"]), self._starts)["unit"].to_pylist()

    @property
    def images(self) -> int:
        """The number of images in all units."""
        return int((self._stops - self._starts).sum())

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Unit: ...
    @overload
    def __getitem__(self, place: slice) -> "Units": ...
    def __getitem__(self, place: int | slice) -> "Unit | Units":
        if isinstance(place, slice):
            return Units(self._planned, self._starts[place], self._stops[place])
        members = self._planned[int(self._starts[place]) : int(self._stops[place])]
        return Unit(members["unit"][0].as_py(), members.drop_columns(["unit"]))

    def without(self, names: Container[str]) -> "Units":
        """The units with other ids."""
        kept = np.array([name not in names for name in self.ids], bool)
        return Units(self._planned, self._starts[kept], self._stops[kept])

    def largest_first(self) -> "Units":
        """The same units, those with the most work first.

        Otherwise a large unit that begins last would keep one worker busy after all others have
        ended. The work of a unit is its number of images, plus decoding for large ones: files of
        100 kB count twice.
        """
        sizes = self._planned["size"]
        runs = zip(self._starts.tolist(), self._stops.tolist(), strict=True)
        held = [pc.sum(sizes[start:stop]).as_py() or 0 for start, stop in runs]
        work = self._stops - self._starts + np.array(held, np.float64) / _BYTES_OF_A_CROP
        order = np.argsort(-work, kind="stable")
        return Units(self._planned, self._starts[order], self._stops[order])

    def sample(self, count: int) -> pa.Table:
        """A sample of `count` members, or all if there are fewer, spread over all units."""
        ends = np.cumsum(self._stops - self._starts)
        spread = np.linspace(0, ends[-1] - 1, min(count, int(ends[-1]))).round().astype(np.int64)
        unit = np.searchsorted(ends, spread, side="right")
        rows = self._stops[unit] - ends[unit] + spread
        return rows_at(self._planned.drop_columns(["unit"]), rows).combine_chunks()


def plan_units(
    images: pa.Table | ByPath,
    fingerprint: str,
    *,
    next_row_id: int = 0,
    unit_size: int = UNIT_SIZE,
    leftover: pa.Table | None = None,
) -> pa.Table:
    """Give every image a row id and a unit: a table of `PLAN_SCHEMA`.

    Images in order of path get consecutive row ids from `next_row_id`, `unit_size` per unit; boxes
    get them in the order of decoding (`places.unit_parts`). `leftover` is the plan of an
    interrupted run: its units whose images are listed unchanged keep their row ids, so their
    finished files remain valid. All other images are planned after them. Leftover units with row
    ids below `next_row_id` are ignored, because that run was committed after all. Raise InputError
    if the unit size is out of bounds.
    """
    check_unit_size(unit_size)
    images = ByPath.of(images) if isinstance(images, pa.Table) else images
    schema = pa.schema([*images.schema, *_OF_PLAN])
    planned, kept = TableWriter(schema), ByPath(_PATH)
    if leftover is not None and len(leftover):
        last = leftover["row_id"][-1].as_py()
        for unit in _still_valid(leftover, images, fingerprint, next_row_id):
            names = pa.array([unit.id] * len(unit.members))
            planned.add(unit.members.append_column("unit", names))
            kept.add(unit.members.select(["path"]))
        next_row_id = max(next_row_id, last + 1)
    if "run" in schema.names:
        rest = images.table()
        rest = rest.filter(pc.invert(pc.is_in(rest["path"], value_set=kept.table()["path"])))
        for part in unit_parts(rest, unit_size):
            planned.add(_numbered(part, next_row_id, len(part), fingerprint))
            next_row_id += len(part)
        return planned.finish()
    waiting = images.schema.empty_table()
    for some, already in ranges(images, kept):
        new = some.filter(pc.invert(pc.is_in(some["path"], value_set=already["path"])))
        waiting = pa.concat_tables([waiting, new.combine_chunks()]).combine_chunks()
        whole = len(waiting) - len(waiting) % unit_size
        planned.add(_numbered(waiting[:whole], next_row_id, unit_size, fingerprint))
        next_row_id, waiting = next_row_id + whole, waiting[whole:]
    planned.add(_numbered(waiting, next_row_id, unit_size, fingerprint))
    return planned.finish()


def _numbered(images: pa.Table, first: int, unit_size: int, fingerprint: str) -> pa.Table:
    """Give images consecutive row ids, and the ids of the units into which they are divided."""
    rows = images.append_column("row_id", pa.array(np.arange(first, first + len(images))))
    cut = range(0, len(rows), unit_size)
    names = [unit_id(rows[start : start + unit_size], fingerprint) for start in cut]
    places = pa.array(np.arange(len(rows)) // unit_size)
    return rows.append_column("unit", pa.array(names, pa.string()).take(places))


def units(planned: pa.Table) -> Units:
    """The units of a plan, in order of row id."""
    edges, before, row = [0], None, 0
    for names in planned["unit"].chunks:
        if row and len(names) and names[0] != before:
            edges.append(row)
        changes = np.flatnonzero(pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False))
        edges += (row + 1 + changes).tolist()
        before, row = (names[-1], row + len(names)) if len(names) else (before, row)
    ends = np.array([*edges, row] if row else [0], np.int64)
    return Units(planned, ends[:-1], ends[1:])


def unit_id(members: pa.Table, fingerprint: str) -> str:
    """The name of a unit: a hash of the recipe's fingerprint and of everything in its plan.

    The same work has the same name, wherever and whenever it is planned.
    """
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    told = [name for name in members.column_names if name not in _OF_PLAN.names]
    for name in [*told, "row_id"]:
        column = members[name].combine_chunks()
        digest.update(f"\n{name} {len(column)} ".encode())
        digest.update(np.packbits(np.asarray(pc.is_valid(column))).tobytes())
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            texts = column.cast(pa.binary())
            texts = texts.fill_null(b"") if texts.null_count else texts
            digest.update(pc.binary_length(texts).to_numpy().tobytes())
            digest.update(_joined(texts))
        else:
            digest.update(column.cast(pa.int64()).fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


def _joined(texts: pa.StringArray) -> pa.Buffer:
    """The bytes of all texts, one after the other, as they are in memory."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if data is None:
        return pa.py_buffer(b"")
    return data.slice(int(ends[0]), int(ends[-1] - ends[0]))


def equal_or_unknown(left: pa.ChunkedArray, right: pa.ChunkedArray) -> NDArray[np.bool_]:
    """A mask of the rows in which two columns are equal; two unknown values are equal."""
    same = pc.fill_null(pc.equal(left, right), False)
    unknown = pc.and_(pc.is_null(left), pc.is_null(right))
    return np.asarray(pc.or_(same, unknown))


def _still_valid(
    leftover: pa.Table, images: ByPath, fingerprint: str, next_row_id: int
) -> Iterator[Unit]:
    """The units of a plan, from a row id on, that today's images would give the same names."""
    first = int(np.searchsorted(leftover["row_id"].to_numpy(), next_row_id))
    leftover = leftover[first:]
    if not len(leftover) or leftover.column_names != [*images.schema.names, *_OF_PLAN.names]:
        return
    start = leftover["row_id"][0].as_py()
    alike = np.zeros(leftover["row_id"][-1].as_py() - start + 1, bool)
    for before, today in ranges(ByPath.of(leftover.drop_columns(["unit"])), images):
        place = pc.index_in(before["path"], today["path"])
        listed = pc.is_valid(place)
        then, now = before.filter(listed), today.take(place.drop_null())
        same = np.ones(len(then), bool)
        for name in images.schema.names:
            same &= equal_or_unknown(then[name], now[name])
        alike[then["row_id"].to_numpy()[same] - start] = True
    for unit in units(leftover):
        ids = unit.row_ids
        if alike[ids.start - start : ids.stop - start].all() and (
            unit_id(unit.members, fingerprint) == unit.id
        ):
            yield unit
