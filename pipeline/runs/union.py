"""Several galleries as one: the rows of the first, then those of the second, and so on.

Positions follow each other in the order in which the galleries were given, so that ties fall as in
one gallery that holds all of their rows in that order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.blocks import StackedRows
from pipeline.errors import InputError
from pipeline.gallery.copies import named_below
from pipeline.gallery.derived import derivation
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.log.conditions import Condition
from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from pipeline.runs.cameras import normalization_of


@dataclass(frozen=True, eq=False)
class GalleryUnion:
    """Several galleries, each at its version, read as one.

    Their recipes agree. Paths and tracklets are those of the galleries where all have one source;
    otherwise each begins with its source. A camera of one name is one camera in all of them.
    """

    parts: tuple[Gallery, ...]

    def __post_init__(self) -> None:
        first = self.parts[0]
        for number, each in enumerate(self.parts):
            if each.location in {other.location for other in self.parts[:number]}:
                raise InputError(f"{each.location} is given twice")
            if different := differences(first, each):
                raise InputError(
                    f"features of two recipes are never compared: {first.location} and"
                    f" {each.location} differ in {'; '.join(different)}"
                )
            if normalization_of(each):
                raise InputError(
                    f"{each.location} was made with normalization by its own cameras: it goes with"
                    " no other gallery; give the galleries that they were made from"
                )

    @property
    def location(self) -> str:
        """All locations, for people."""
        return " + ".join(each.location for each in self.parts)

    @property
    def version(self) -> int:
        """The version of the first gallery."""
        return self.parts[0].version

    @property
    def count(self) -> int:
        """Rows of all."""
        return sum(each.count for each in self.parts)

    @property
    def dimension(self) -> int:
        """Numbers in a feature."""
        return self.parts[0].dimension

    @property
    def dtype(self) -> str:
        """How features are stored: float32 unless all are stored as float16."""
        kinds = {each.dtype for each in self.parts}
        return kinds.pop() if len(kinds) == 1 else "float32"

    @property
    def recipe_json(self) -> str:
        """The recipe as its JSON text."""
        return self.parts[0].recipe_json

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the first gallery."""
        return self.parts[0].fingerprint

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """Those of the first gallery; the source is empty, and the layout `several`, where they
        differ."""
        other = {
            name: value
            for name, value in (("source", ""), ("layout", "several"))
            if len({each.properties[name] for each in self.parts}) > 1
        }
        return {**self.parts[0].properties, **other}

    @property
    def has_one_source(self) -> bool:
        """Whether all paths are below one source, and stay as they are."""
        return len({each.properties["source"] for each in self.parts}) == 1

    def features(self) -> StackedRows:
        """The features by position."""
        return StackedRows(*(each.features() for each in self.parts))

    def rows(self, columns: Sequence[str] = SCALAR_COLUMNS) -> pa.Table:
        """The scalar columns by position; row ids are those of each gallery."""
        return pa.concat_tables([self._whole(each, each.rows(columns)) for each in self.parts])

    def rows_at(self, positions: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """The scalar columns of the rows at positions int64 `[n]`, in their order."""
        owner, places = self.locate(positions)
        tables, order = [], []
        for number, each in enumerate(self.parts):
            mine = np.flatnonzero(owner == number)
            tables.append(self._whole(each, each.rows_at(places[mine], columns)))
            order.append(mine)
        return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(order))))

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The gallery of each position int64 `[n]`, by number, and the position there."""
        starts = np.cumsum([0, *(each.count for each in self.parts)])
        owner = np.searchsorted(starts, positions, side="right") - 1
        return owner, positions - starts[owner]

    def select_positions(self, condition: Condition) -> NDArray[np.int64]:
        """Positions int64 `[n]`, ascending, of the rows for which a condition holds, by the columns
        as each gallery has them.
        """
        starts = np.cumsum([0, *(each.count for each in self.parts)])
        found = [
            start + each.select_positions(condition)
            for start, each in zip(starts[:-1], self.parts, strict=True)
        ]
        return np.concatenate(found)

    def rejects(self) -> pa.Table:
        """The inputs of all galleries that became no row."""
        return pa.concat_tables([self._whole(each, each.rejects()) for each in self.parts])

    def _whole(self, part: Gallery, table: pa.Table) -> pa.Table:
        """The table of a part, with the paths and tracklets that it has here."""
        table = table.replace_schema_metadata(None)
        return table if self.has_one_source else named_below(part.properties["source"], table)


AnyGallery = Gallery | GalleryUnion


def as_one(galleries: Gallery | Sequence[Gallery]) -> AnyGallery:
    """One gallery as it is, several as one; raise InputError where their features cannot be
    compared.
    """
    if isinstance(galleries, Gallery):
        return galleries
    if not galleries:
        raise InputError("no gallery is given")
    return galleries[0] if len(galleries) == 1 else GalleryUnion(tuple(galleries))


def parts_of(*galleries: AnyGallery) -> list[Gallery]:
    """The galleries themselves."""
    return [
        part
        for each in galleries
        for part in (each.parts if isinstance(each, GalleryUnion) else (each,))
    ]


def owners(gallery: AnyGallery) -> pa.ChunkedArray | None:
    """The location of the gallery of each row `[N]`; None if there is only one."""
    if not isinstance(gallery, GalleryUnion):
        return None
    names = pa.array([each.location for each in gallery.parts])
    numbers = np.repeat(np.arange(len(names)), [each.count for each in gallery.parts])
    return pa.chunked_array([names.take(pa.array(numbers))])


def differences(first: Gallery, second: Gallery) -> list[str]:
    """In what the recipes of two galleries differ, the arithmetic and expansion included."""
    recipes = [read_recipe(each.recipe_json) for each in (first, second)]
    found: list[str] = []
    if recipes[0].fingerprint != recipes[1].fingerprint:
        found += recipes[0].differences(recipes[1])
    kinds = [each.properties["precision"] for each in (first, second)]
    if kinds[0] != kinds[1]:
        found.append(f"precision ({kinds[0]}, {kinds[1]})")
    ways = [derivation(each) for each in (first, second)]
    told = [None if way is None or way.of_tracklets else dict(way.parameters) for way in ways]
    if told[0] != told[1]:
        found.append(f"expansion ({told[0] or 'none'}, {told[1] or 'none'})")
    return found
