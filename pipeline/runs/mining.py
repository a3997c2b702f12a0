"""Propose the pairs of a gallery's rows whose verdict would change its groups most."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.identities.linking import NO_MOMENT
from pipeline.core.identities.mining import Proposals, propose_pairs
from pipeline.core.identities.verdicts import Verdicts
from pipeline.errors import InputError
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.capture_times import camera_numbers, moments
from pipeline.gallery.table import Gallery
from pipeline.output_files import check_new_file
from pipeline.runs.link_threshold import check_evidence, link_threshold, links_among
from pipeline.runs.link_verdicts import verdicts_by_position
from pipeline.runs.mined import Mined, MinedPair, MineSettings
from pipeline.runs.pair_tables import PAIR_TABLE, is_pair_table, pair_table, write_pairs
from pipeline.runs.resources import joined
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.runs.verdict_results import TABLE_SUFFIXES
from pipeline.stages.execution import StartProgress


@dataclass(frozen=True)
class _Rows:
    """The rows that are considered: all but junk, at ascending `positions` `[N]` of the gallery."""

    table: pa.Table
    positions: NDArray[np.int64]
    moments: NDArray[np.int64]
    verdicts: Verdicts

    @property
    def identity(self) -> NDArray[np.int64]:
        return pc.fill_null(self.table["identity"], DISTRACTOR).to_numpy()


def mine(
    gallery: Gallery,
    settings: MineSettings = MineSettings(),
    *,
    out: Path | None = None,
    select: RowFilter = ALL_ROWS,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> Mined:
    """Propose pairs of rows for verdicts: those that would change the groups of `link` most.

    They are near the threshold, merge or part large groups, are spread over cameras, and none has
    a verdict yet, also not by way of other rows (see `pipeline.core.identities.mining`). `select`
    says which rows are considered. A file `out`, `.csv` or `.parquet`, gets the pairs as a table
    with an empty verdict, for `read_verdict_file`. Raise the errors of `link`.
    """
    _check(out, on.scratch)
    held = _rows(gallery, select)
    evidence = np.full_like(held.moments, NO_MOMENT) if select.not_own_camera else held.moments
    if settings.threshold is None:
        check_evidence(gallery, evidence, held.identity)
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        about = {"k": settings.neighbors} | ({} if select == ALL_ROWS else {"select": str(select)})
        base = None if on.scratch is None else on.scratch.absolute()
        folder = stack.enter_context(scratch_folder(base, "mine", [gallery], about))
        execution = on.execution(progress)
        features: FeatureRows = gallery.features()
        if len(held.positions) < len(features):
            features = ChosenRows(features, held.positions)
        ids = held.table["row_id"].to_numpy()
        cameras = camera_numbers(held.table["camera"])
        rule = cameras if select.not_own_camera else None
        links = links_among(gallery, features, ids, settings.neighbors, folder, execution, rule)
    found = link_threshold(gallery, links, evidence, held.identity, settings.linking)
    proposals = propose_pairs(
        links,
        held.moments,
        cameras,
        found.threshold,
        settings.k,
        verdicts=held.verdicts,
        width=settings.width,
    )
    pairs = _pairs(held.table, proposals, found.threshold)
    if out is not None:
        with listed_in_galleries(PAIR_TABLE, out, [gallery]):
            write_pairs(out.absolute(), _table(held.table, proposals, pairs))
    return Mined(
        gallery=gallery.location,
        version=gallery.version,
        threshold=found.threshold,
        threshold_from=found.origin,
        proposed=pairs,
        out=out,
        products=execution.ledger.total.figures(),
    )


def _check(out: Path | None, scratch: Path | None) -> None:
    check_scratch(scratch)
    if out is not None:
        if out.suffix not in TABLE_SUFFIXES:
            raise InputError(f"`out` {out} must end in {' or '.join(TABLE_SUFFIXES)}")
        check_new_file(out, "out", is_pair_table)


def _rows(gallery: Gallery, select: RowFilter) -> _Rows:
    """The chosen rows but junk; raise InputError if there are less than two, or if verdicts
    contradict each other.
    """
    selected = select.positions(gallery)
    rows = gallery.rows() if selected is None else gallery.rows_at(selected, SCALAR_COLUMNS)
    kept = np.flatnonzero(pc.fill_null(rows["identity"], DISTRACTOR).to_numpy() != JUNK)
    if len(kept) < 2:
        raise InputError(
            f"{gallery.location} has {len(kept)} rows in version {gallery.version} besides junk: a"
            " pair needs two"
        )
    positions = kept if selected is None else selected[kept]
    verdicts = verdicts_by_position(gallery).implied_among(positions)
    return _Rows(rows.take(pa.array(kept)), positions, moments(rows)[kept], verdicts)


def _pairs(rows: pa.Table, found: Proposals, threshold: float) -> tuple[MinedPair, ...]:
    names = ["row_id", "path", "camera"]
    ends = [
        rows.select(names).take(pa.array(places)).to_pylist()
        for places in (found.first, found.second)
    ]
    return tuple(
        MinedPair(
            a=one["row_id"],
            b=other["row_id"],
            score=float(score),
            change=float(change),
            linked=bool(np.float64(score) >= threshold),
            path_a=one["path"],
            path_b=other["path"],
            camera_a=one["camera"],
            camera_b=other["camera"],
        )
        for one, other, score, change in zip(*ends, found.scores, found.change, strict=True)
    )


def _table(rows: pa.Table, found: Proposals, pairs: tuple[MinedPair, ...]) -> pa.Table:
    columns = {
        "a": pa.array([str(each.a) for each in pairs], pa.string()),
        "b": pa.array([str(each.b) for each in pairs], pa.string()),
        "kind": pa.array(["linked" if each.linked else "apart" for each in pairs], pa.string()),
        "score": found.scores,
        "weight": found.change,
    }
    ends = {"a": found.first, "b": found.second}
    return pair_table(columns, {end: rows.take(pa.array(n)) for end, n in ends.items()})
