"""Which verdicts count in a version: the latest entry of each pair of rows that the version has."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.identities.verdicts import Verdicts
from pipeline.gallery.files.places import root_of
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.entries import DIFFERENT, SAME, WITHDRAWN, read_entries

NO_ROW = -1
"""In place of the id of a row that the version does not have."""

_KEY = ("row_id", "path", "content_hash")
_OTHER_END = {
    "a": "b", "b": "a", "path_a": "path_b", "path_b": "path_a", "hash_a": "hash_b",
    "hash_b": "hash_a",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class CountedVerdicts:
    """The latest entry of each pair of rows of a version, in the order in which they were added.

    `latest` `[n]` has the columns of `VERDICT_SCHEMA`. The ids are those that the rows have in the
    version; the smaller one is `a`. `rows_gone` is the number of entries on rows that it does not
    have.
    """

    latest: pa.Table
    rows_gone: int

    @property
    def entries(self) -> pa.Table:
        """The entries that count: those that are no withdrawals."""
        return self.latest.filter(pc.not_equal(self.latest["verdict"], WITHDRAWN))

    @property
    def verdicts(self) -> Verdicts:
        """The pairs."""
        entries = self.entries
        pairs = np.stack([entries[name].to_numpy() for name in ("a", "b")], axis=1)
        words = np.asarray(entries["verdict"].to_pylist(), object)
        return Verdicts(pairs[words == SAME], pairs[words == DIFFERENT])


def count_verdicts(gallery: Gallery) -> CountedVerdicts:
    """The entries that count in a version of a gallery, by whichever version they were given.

    A row never changes under its id. A row that the version does not have stands for the row of
    the same path and the same bytes, if there is one. Raise `GalleryDamagedError` naming a file
    of verdicts that is gone or has changed.
    """
    entries = read_entries(root_of(gallery.location))
    if not len(entries):
        return CountedVerdicts(entries, 0)
    present = with_present_rows(gallery, entries)
    known = present.filter(has_both_rows(present))
    return CountedVerdicts(_latest_of_each_pair(known), len(entries) - len(known))


def read_verdicts(gallery: Gallery) -> Verdicts:
    """The verdicts that count in a version of a gallery, as pairs of its row ids.

    Withdrawn ones are not among them, nor those on rows that the version does not have. They may
    contradict each other (`pipeline.core.identities.verdicts.contradictions`). Raise what
    `count_verdicts` raises.
    """
    return count_verdicts(gallery).verdicts


def has_both_rows(entries: pa.Table) -> pa.ChunkedArray:
    """Whether both rows of each of the entries of `with_present_rows` are in the version."""
    return pc.and_(pc.not_equal(entries["a"], NO_ROW), pc.not_equal(entries["b"], NO_ROW))


def with_present_rows(gallery: Gallery, entries: pa.Table) -> pa.Table:
    """The entries, with the ids that their rows have in a version of a gallery, or `NO_ROW`; the
    smaller id is `a`.
    """
    ids = gallery.row_ids()
    for end in ("a", "b"):
        found = _present_ids(gallery, ids, entries, end)
        place = entries.schema.get_field_index(end)
        entries = entries.set_column(place, entries.schema.field(end), pa.array(found))
    exchanged = entries.select([_OTHER_END.get(name, name) for name in entries.column_names])
    both = pa.concat_tables([entries, exchanged.rename_columns(entries.column_names)])
    places = np.arange(len(entries))
    is_wrong = entries["a"].to_numpy() > entries["b"].to_numpy()
    return both.take(pa.array(np.where(is_wrong, places + len(entries), places)))


def _present_ids(
    gallery: Gallery, ids: NDArray[np.int64], entries: pa.Table, end: str
) -> NDArray[np.int64]:
    """The id of the row at one end of each entry in a version whose rows have these `ids`, or
    `NO_ROW`.
    """
    wanted = entries[end].to_numpy()
    found = np.full(len(entries), NO_ROW)
    at = np.flatnonzero(np.isin(wanted, ids))
    rows = gallery.rows_at(np.searchsorted(ids, wanted[at]), ["path"])
    as_named = np.asarray(pc.equal(rows["path"], entries[f"path_{end}"].take(pa.array(at))))
    found[at[as_named]] = wanted[at[as_named]]
    left = np.flatnonzero(found == NO_ROW)
    if len(left):
        names = [f"path_{end}", f"hash_{end}"]
        found[left] = _ids_of_images(gallery, entries.take(pa.array(left)).select(names))
    return found


def _ids_of_images(gallery: Gallery, images: pa.Table) -> NDArray[np.int64]:
    """The ids of the rows with these paths and content hashes, or `NO_ROW`."""
    rows = gallery.rows(_KEY)
    places = pc.index_in(images[0], value_set=rows["path"])
    told = rows.take(places)
    is_same = pc.fill_null(pc.equal(told["content_hash"], images[1]), False)
    return np.where(np.asarray(is_same), np.asarray(pc.fill_null(told["row_id"], NO_ROW)), NO_ROW)


def _latest_of_each_pair(entries: pa.Table) -> pa.Table:
    """The last entry of each pair, in the order of the entries."""
    pairs = np.stack([entries[name].to_numpy() for name in ("a", "b")], axis=1)
    _, last = np.unique(pairs[::-1], axis=0, return_index=True)
    return entries.take(pa.array(np.sort(len(pairs) - 1 - last)))
