"""Propose identities for the rows of a gallery: neighbors, a threshold, groups, a table."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.identities.clustering import agreement
from pipeline.core.identities.linking import (
    NO_MOMENT,
    Groups,
    join_rows,
)
from pipeline.core.travel.conflicts import Conflicts
from pipeline.core.travel.nearby import Walkable
from pipeline.errors import InputError
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.candidates import candidates, is_candidates, write_candidates
from pipeline.gallery.sidecars.capture_times import camera_numbers, moments
from pipeline.gallery.table import Gallery
from pipeline.output_files import check_new_file
from pipeline.runs.link_threshold import check_evidence, link_threshold, links_among
from pipeline.runs.link_verdicts import verdicts_by_position, verdicts_digest, verdicts_used
from pipeline.runs.linked import TABLE_SUFFIXES, Linked, LinkSettings, stored_settings
from pipeline.runs.resources import joined
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.runs.travel import excluded, travel_table, walkable
from pipeline.runs.union import GalleryUnion, as_one, owners, parts_of
from pipeline.stages.execution import StartProgress
from pipeline.stages.neighbors import Apart

_log = logging.getLogger(__name__)


def _check(out: Path, scratch: Path | None, safe_csv: bool) -> None:
    """Raise InputError if the table cannot be written to `out`, or scratch files to `scratch`."""
    if out.suffix not in TABLE_SUFFIXES:
        raise InputError(f"`out` {out} must end in {' or '.join(TABLE_SUFFIXES)}")
    check_new_file(out, "out", is_candidates)
    check_scratch(scratch)
    if safe_csv and out.suffix != ".csv":
        raise InputError(f"`safe_csv` needs a .csv file, not `out` {out}")


def link(
    gallery: Gallery | Sequence[Gallery],
    out: Path,
    settings: LinkSettings = LinkSettings(),
    *,
    select: RowFilter = ALL_ROWS,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
    safe_csv: bool = False,
) -> Linked:
    """Write the identity candidates of the rows of a gallery, or of several, to `out`.

    `out` ends in .parquet or .csv. If the settings give no threshold, the least is taken at which
    groups are estimated to have the wanted precision: from rows of one camera at one moment, or
    else from the known identities. `select` says which rows are linked, and written. Verdicts of
    people are kept, and do not change the threshold. Raise InputError if there are too few of both,
    if verdicts contradict each other, or if `out` cannot be written.
    """
    _check(out, on.scratch, safe_csv)
    held = as_one(gallery)
    selected = select.positions(held)
    rows = held.rows() if selected is None else held.rows_at(selected, SCALAR_COLUMNS)
    kept = np.flatnonzero(pc.fill_null(rows["identity"], DISTRACTOR).to_numpy() != JUNK)
    if len(kept) < 2:
        raise InputError(
            f"{held.location} has {len(kept)} rows in version {held.version} besides junk: a"
            " link needs two"
        )
    told = verdicts_by_position(held)
    chosen = kept if selected is None else selected[kept]
    verdicts = told.implied_among(chosen)
    apart = moments(rows)[kept]
    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()[kept]
    walk = None
    if settings.travel_times is not None:
        times = travel_table(settings.travel_times, held)
        walk = walkable(rows.take(pa.array(kept)), times)
    rule = _rule(rows["camera"].take(pa.array(kept)), walk, select)
    evidence = _evidence(apart, walk, select)
    if settings.threshold is None:
        check_evidence(held, evidence, identity)
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        about_graph = {"k": settings.k} | ({} if select == ALL_ROWS else {"select": str(select)})
        base = (on.scratch or out.parent).absolute()
        folder = stack.enter_context(scratch_folder(base, "link", parts_of(held), about_graph))
        execution = on.execution(progress)
        features: FeatureRows = held.features()
        if len(kept) < len(features):
            features = ChosenRows(features, chosen)
        ids = None if isinstance(held, GalleryUnion) else rows["row_id"].to_numpy()[kept]
        links = links_among(held, features, ids, settings.k, folder, execution, rule)
        plain = None
        if walk is not None and (identity > DISTRACTOR).any():
            # What travel times are worth is told where people are known.
            bare = _rule(rows["camera"].take(pa.array(kept)), None, select)
            plain = links_among(held, features, ids, settings.k, folder / "plain", execution, bare)
    _log.debug("neighbors: %s", execution.ledger.total)
    found = link_threshold(held, links, evidence, identity, settings, walk)
    reached = links.from_score(found.threshold)
    conflicts = None if walk is None else Conflicts.of(walk.seen, walk.travel)
    groups = join_rows(reached, apart, conflicts, verdicts)
    about: dict[str, Any] = {
        "gallery": held.location,
        "version": held.version,
        "fingerprint": held.fingerprint,
        "k": settings.k,
        "threshold": found.threshold,
        "asked": stored_settings(settings, select),
        "verdicts": verdicts_digest(told),
    }
    if isinstance(held, GalleryUnion):
        about["galleries"] = [[each.location, each.version] for each in held.parts]
    with listed_in_galleries("link table", out, parts_of(held)):
        galleries = owners(held)
        if galleries is not None and selected is not None:
            galleries = galleries.take(pa.array(selected))
        table = candidates(rows, kept, groups, galleries)
        write_candidates(out.absolute(), table, about, safe_csv=safe_csv)
    labeled = identity > DISTRACTOR
    travel = None
    if walk is not None:
        travel = excluded(walk, identity, times.origin)
    if travel is not None and plain is not None:
        limit = link_threshold(held, plain, evidence, identity, settings).threshold
        without = join_rows(plain.from_score(limit), apart, verdicts=verdicts)
        compared = agreement(without.group[labeled], identity[labeled])
        travel = replace(travel, without=compared)
    linked = Linked(
        gallery=held.location,
        version=held.version,
        out=out,
        k=settings.k,
        threshold=found.threshold,
        threshold_from=found.origin,
        estimate=found.estimate,
        rows_linked=len(kept),
        junk=len(rows) - len(kept),
        links=len(reached),
        refused=groups.refused,
        **_sizes(groups),
        agreement=agreement(groups.group[labeled], identity[labeled]) if labeled.any() else None,
        travel=travel,
        verdicts_used=verdicts_used(told.among(chosen), apart),
        products=execution.ledger.total.figures(),
    )
    _warn_of_proportion(linked)
    return linked


def _rule(cameras: pa.ChunkedArray, walk: Walkable | None, select: RowFilter) -> Apart | None:
    """Which rows are not linked."""
    if walk is not None:
        travel = walk.travel.apart() if select.not_own_camera else walk.travel
        return Walkable(walk.seen, travel)
    return camera_numbers(cameras) if select.not_own_camera else None


def _evidence(
    apart: NDArray[np.int64], walk: Walkable | None, select: RowFilter
) -> NDArray[np.int64]:
    """The moments `[N]` that say something about links: not those of rows that are never linked."""
    if select.not_own_camera:
        return np.full_like(apart, NO_MOMENT)
    if walk is None:
        return apart
    never = np.append(np.diag(walk.travel.least) > 0, False)  # the last one: an unknown camera
    return np.where(never[walk.seen.camera], NO_MOMENT, apart)


def _sizes(groups: Groups) -> dict[str, int]:
    """The fields of `Linked` that count groups."""
    sizes = np.sort(np.unique(groups.group, return_counts=True)[1])[::-1].tolist()
    return {
        "candidates": sum(size > 1 for size in sizes),
        "alone": sizes.count(1),
        "largest": sizes[0],
        "second_largest": sizes[1] if len(sizes) > 1 else 0,
    }


def _warn_of_proportion(linked: Linked) -> None:
    if linked.out_of_proportion:
        _log.warning(
            "the largest candidate has %s of %s rows, the next %s: it may hold several people;"
            " raise `group_precision` or `threshold`",
            *(f"{rows:,}" for rows in (linked.largest, linked.rows_linked, linked.second_largest)),
        )
