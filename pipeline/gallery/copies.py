"""Galleries with copies of other galleries' rows: merged galleries, and the parts of a split one.

The columns `origin` and `origin_row` name the gallery and the row that a row is a copy of. A row
never changes under its id, so a copy follows its origins by adding and removing rows.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.schema import SCALAR_COLUMNS, encode_features
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json

MERGED, PART = "merged gallery", "part of a split gallery"
COPIES = (MERGED, PART)
"""The kinds of copies in the list of outputs of a gallery."""

_COLUMNS = ("row_id", "origin", "origin_row")


def is_copy(gallery: Gallery) -> bool:
    """Whether its rows are copies of other galleries' rows."""
    return "copies" in parse_json(gallery.properties.get("derived", "{}"))


def copied_how(gallery: Gallery) -> str | None:
    """How a gallery of copies was made, in words; None for another one."""
    about = parse_json(gallery.properties.get("derived", "{}"))
    return str(about["copies"]) if "copies" in about else None


def origins(gallery: Gallery) -> list[str]:
    """The locations of the galleries that its rows are copies of."""
    column = gallery.rows(["origin"])["origin"]
    return sorted(column.drop_null().unique().to_pylist())


def copied_rows(gallery: Gallery, origin: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids int64 `[n]` of the rows that are copies of an origin's rows, and their ids in the origin.

    Both are in the order of the gallery's ids.
    """
    rows = gallery.rows(_COLUMNS)
    mine = rows.filter(pc.fill_null(pc.equal(rows["origin"], origin), False))
    return mine["row_id"].to_numpy(), mine["origin_row"].to_numpy()


def place_of(gallery: Gallery) -> str:
    """The name of a gallery in the column `origin`: its location, with links resolved."""
    return str(root_of(gallery.location).resolve())


def rows_without_origin(gallery: Gallery, origin: Gallery) -> NDArray[np.int64]:
    """Ids int64 `[n]` of the copies of rows that an origin, at its version, does not have."""
    ids, theirs = copied_rows(gallery, place_of(origin))
    return ids[~np.isin(theirs, origin.row_ids())]


def holds_others(location: str, origin: str, kept: NDArray[np.int64]) -> bool:
    """Whether any version of the gallery of copies at a location has a row of `origin` with an id
    that is not in `kept`.

    Raise the errors of `Gallery.open`.
    """
    for version in Gallery.open(location).history():
        _, theirs = copied_rows(Gallery.open(location, version.version), origin)
        if not np.isin(theirs, kept).all():
            return True
    return False


def copies_of(
    origin: Gallery,
    positions: NDArray[np.int64],
    first_id: int,
    into: Gallery,
    *,
    with_source: bool = False,
) -> pa.Table:
    """The rows of `origin` at `positions` `[n]` as a unit of `into`, with ids from `first_id`.

    Features are the same to the byte if both are stored in one type. With `with_source`, paths and
    tracklets begin with the source of `origin`.
    """
    rows = origin.rows_at(positions, SCALAR_COLUMNS)
    if with_source:
        rows = named_below(origin.properties["source"], rows)
    features = origin.features()
    if origin.dtype == into.dtype:
        stored = np.ascontiguousarray(features.stored(positions))
        kind = into.target.schema.field("feature").type
        feature = pa.FixedSizeBinaryArray.from_buffers(
            kind, len(positions), [None, pa.py_buffer(stored)]
        )
    else:
        feature = encode_features(features.take(positions), into.dtype)
    told = {name: rows[name] for name in SCALAR_COLUMNS}
    told["origin_row"] = told["row_id"]
    told["row_id"] = pa.array(np.arange(first_id, first_id + len(rows)))
    told["origin"] = pa.array([place_of(origin)] * len(rows), pa.string())
    return (
        pa.table({**told, "feature": feature})
        .select(into.target.schema.names)
        .cast(into.target.schema)
    )


def holds_rejects(location: str, origin: Gallery, paths: set[str]) -> bool:
    """Whether any version of the gallery of copies there has a reject of one of these paths of
    `origin`.

    Raises what `Gallery.open` raises.
    """
    source = origin.properties["source"]
    joined = below(source, pa.chunked_array([sorted(paths)], pa.string()))
    for version in Gallery.open(location).history():
        copy = Gallery.open(location, version.version)
        wanted = paths if copy.properties["source"] == source else {*joined.to_pylist()}
        if not wanted.isdisjoint(copy.rejects()["path"].to_pylist()):
            return True
    return False


def compare(
    gallery: Gallery, origin: Gallery, wanted: NDArray[np.int64], *, with_source: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What differs between a gallery of copies and the rows of `origin` at the positions `wanted`
    `[n]`: ids `[r]` of copies that are not of these rows, and positions `[m]` of rows without a
    copy.

    A copy has the id, the path and the content of its row: another gallery may have been made in
    the folder of `origin` since.
    """
    names = ["path", "content_hash"]
    held = gallery.rows([*_COLUMNS, *names])
    held = held.filter(pc.fill_null(pc.equal(held["origin"], place_of(origin)), False))
    rows = origin.rows(["row_id", *names]).take(pa.array(wanted))
    if with_source:
        rows = named_below(origin.properties["source"], rows)
    ids, theirs = rows["row_id"].to_numpy(), held["origin_row"].to_numpy()
    if not len(ids):
        return held["row_id"].to_numpy(), wanted
    place = np.minimum(np.searchsorted(ids, theirs), len(ids) - 1)
    same = ids[place] == theirs
    for name in names:
        one, other = held[name].combine_chunks(), rows[name].take(pa.array(place)).combine_chunks()
        both_unknown = pc.and_(pc.is_null(one), pc.is_null(other))
        alike = pc.or_(both_unknown, pc.fill_null(pc.equal(one, other), False))
        same &= np.asarray(alike)
    return held["row_id"].to_numpy()[~same], wanted[~np.isin(ids, theirs[same])]


def below(source: str, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """The location of each path (see `archive.locations.join`).

    >>> below("/data", pa.chunked_array([["a.jpg", "/b.jpg", "s3://c/d.jpg"]])).to_pylist()
    ['/data/a.jpg', '/b.jpg', 's3://c/d.jpg']
    """
    is_whole = pc.match_substring_regex(paths, "^/|://")
    joined = pc.binary_join_element_wise(source.rstrip("/"), paths, "/")
    return pc.if_else(is_whole, paths, joined)


def named_below(source: str, table: pa.Table) -> pa.Table:
    """The table with its paths and tracklets, if any, below their source.

    Two sources may have videos with the same name, and therefore tracklets with the same name.
    """
    for name in ("path", "tracklet"):
        place = table.schema.get_field_index(name)
        if place >= 0:
            field = table.schema.field(place)
            table = table.set_column(place, field, below(source, table[name]))
    return table
