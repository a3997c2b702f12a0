"""The pairs that an evaluation gets wrong at a threshold, as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.blocks import Tiling
from pipeline.core.thresholds.misidentified import Misidentified, misidentified
from pipeline.errors import InputError
from pipeline.gallery.copies import below
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.table import Gallery
from pipeline.output_files import check_replaceable
from pipeline.runs.outcomes import Mistakes
from pipeline.runs.pair_tables import PAIR_TABLE, is_pair_table, pair_table, write_pairs
from pipeline.runs.settings import MistakeSettings
from pipeline.runs.sides import LabeledSide
from pipeline.runs.thresholds import thresholds_of
from pipeline.runs.union import parts_of

FILE = "misidentified.csv"
_KINDS = "false accept", "false reject"


def mistake_threshold(gallery: LabeledSide, settings: MistakeSettings, out: Path) -> float | None:
    """The threshold from which on pairs match; None if no mistakes are wanted.

    Raise InputError if there is none, or if the table cannot be written.
    """
    if not settings.mine:
        return None
    check_replaceable(out / FILE, "out", is_pair_table)
    if settings.mine_threshold is not None:
        return settings.mine_threshold
    parts = parts_of(gallery.gallery)
    found = thresholds_of(parts[0], None).general if len(parts) == 1 else None
    if found is None:
        raise InputError(
            f"{gallery.gallery.location} has no threshold of its own, which tells mistakes:"
            " calibrate it, or give `mine_threshold`"
        )
    return found


def write_mistakes(
    query: LabeledSide,
    gallery: LabeledSide,
    threshold: float,
    out: Path,
    *,
    most: int,
    other_cameras: bool,
    tiling: Tiling,
) -> Mistakes:
    """Write the most doubtful mistakes, `most` of each kind, to a table in the folder `out`."""
    found = misidentified(
        query.features, query.labels, gallery.features, gallery.labels, threshold, most,
        other_cameras=other_cameras, tiling=tiling,
    )  # fmt: skip
    table = _table(query, gallery, threshold, found)
    path = out / FILE
    with listed_in_galleries(PAIR_TABLE, path, parts_of(query.gallery, gallery.gallery)):
        write_pairs(path.absolute(), table)
    return Mistakes(path, threshold, found.accepts, found.rejects, len(table))


def _table(
    query: LabeledSide, gallery: LabeledSide, threshold: float, found: Misidentified
) -> pa.Table:
    rows = {
        "a": query.rows.take(pa.array(found.query)),
        "b": gallery.rows.take(pa.array(found.row)),
    }
    names = _names([query, gallery], [found.query, found.row])
    kinds = pa.array(_KINDS).take(pa.array(found.is_match.astype(np.int64)))
    # A row of unknown identity counts as another person, but may be the same one.
    is_known = pa.array(np.asarray(pc.is_valid(rows["b"]["identity"])))
    words = pa.array(["different", "same"]).take(pa.array(found.is_match.astype(np.int64)))
    unknown = pa.scalar(None, pa.string())
    columns = {
        "a": names[0],
        "b": names[1],
        "verdict": pc.if_else(is_known, words, unknown),
        "comment": pc.if_else(is_known, kinds, unknown),
        "kind": kinds,
        "score": found.scores,
        "weight": np.abs(found.scores.astype(np.float64) - threshold),
    }
    return _each_once(pair_table(columns, rows))


def _names(
    sides: Sequence[LabeledSide], positions: Sequence[np.ndarray]
) -> list[pa.Array | pa.ChunkedArray]:
    """What names the rows: their ids in one gallery, or else their paths."""
    query, gallery = sides[0].gallery, sides[1].gallery
    if isinstance(gallery, Gallery) and query.location == gallery.location:
        return [
            pa.array(_ids(side)[places]).cast(pa.string())
            for side, places in zip(sides, positions, strict=True)
        ]
    sources = [side.gallery.properties["source"] for side in sides]
    paths = [
        side.rows["path"].take(pa.array(places))
        for side, places in zip(sides, positions, strict=True)
    ]
    if sources[0] == sources[1]:
        return paths
    # As in a gallery that is merged of both.
    return [below(source, each) for source, each in zip(sources, paths, strict=True)]


def _ids(side: LabeledSide) -> np.ndarray:
    (part,) = parts_of(side.gallery)
    ids = part.row_ids()
    return ids if side.positions is None else ids[side.positions]


def _each_once(table: pa.Table) -> pa.Table:
    """The pairs without those that came before, with the rows the other way round."""
    ends = zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)
    seen: dict[tuple[str, ...], int] = {}
    for place, pair in enumerate(ends):
        seen.setdefault(tuple(sorted(pair)), place)
    return table.take(pa.array(list(seen.values()), pa.int64()))
