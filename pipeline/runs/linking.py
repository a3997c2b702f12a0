"""Propose identities for the rows of a gallery: neighbors, a threshold, groups, a table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.identities.clustering import Agreement, agreement
from pipeline.core.identities.linking import Groups, Links, join_rows
from pipeline.core.identities.verdicts import Verdicts
from pipeline.errors import InputError
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.candidates import candidates, is_candidates, write_candidates
from pipeline.gallery.table import Gallery
from pipeline.output_files import check_new_file
from pipeline.runs.link_rows import RowsToLink, rows_to_link
from pipeline.runs.link_threshold import check_evidence, link_threshold, links_among
from pipeline.runs.link_verdicts import verdicts_digest, verdicts_used
from pipeline.runs.linked import TABLE_SUFFIXES, Linked, LinkSettings, stored_settings
from pipeline.runs.resources import joined
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.runs.travel import excluded
from pipeline.runs.travelled import TravelEffect
from pipeline.runs.union import GalleryUnion, as_one, owners, parts_of
from pipeline.stages.execution import Execution, StartProgress

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
    among = rows_to_link(as_one(gallery), settings, select)
    if settings.threshold is None:
        check_evidence(among.gallery, among.evidence, among.identity)
    verdicts = among.verdicts
    implied = verdicts.implied_among(among.positions)
    execution = on.execution(progress)
    links, plain = _neighbors(among, out, settings, select, on, execution)
    found = link_threshold(
        among.gallery, links, among.evidence, among.identity, settings, among.walk
    )
    reached = links.from_score(found.threshold)
    groups = join_rows(reached, among.moments, among.conflicts, implied)
    _write(among, groups, found.threshold, out, settings, select, safe_csv=safe_csv)
    labeled = among.labeled
    linked = Linked(
        gallery=among.gallery.location,
        version=among.gallery.version,
        out=out,
        k=settings.k,
        threshold=found.threshold,
        threshold_from=found.origin,
        estimate=found.estimate,
        rows_linked=len(among.kept),
        junk=len(among.rows) - len(among.kept),
        links=len(reached),
        refused=groups.refused,
        **_sizes(groups),
        agreement=_agreement(among, groups) if labeled.any() else None,
        travel=_travel(among, plain, settings, implied),
        verdicts_used=verdicts_used(verdicts.among(among.positions), among.moments),
        products=execution.ledger.total.figures(),
    )
    _warn_of_proportion(linked)
    return linked


def _neighbors(
    among: RowsToLink,
    out: Path,
    settings: LinkSettings,
    select: RowFilter,
    on: FoldSettings,
    execution: Execution,
) -> tuple[Links, Links | None]:
    """The mutual neighbors, and those without regard to travel times if that can be judged: where
    people are known.
    """
    held, features, ids = among.gallery, among.features, among.ids
    about_graph = {"k": settings.k} | ({} if select == ALL_ROWS else {"select": str(select)})
    base = (on.scratch or out.parent).absolute()
    plain = None
    with (
        joined(on.workers, on.address, on.num_gpus),
        scratch_folder(base, "link", parts_of(held), about_graph) as folder,
    ):
        links = links_among(held, features, ids, settings.k, folder, execution, among.rule())
        if among.walk is not None and among.labeled.any():
            bare = among.rule(with_times=False)
            plain = links_among(held, features, ids, settings.k, folder / "plain", execution, bare)
    _log.debug("neighbors: %s", execution.ledger.total)
    return links, plain


def _write(
    among: RowsToLink,
    groups: Groups,
    threshold: float,
    out: Path,
    settings: LinkSettings,
    select: RowFilter,
    *,
    safe_csv: bool,
) -> None:
    """Write the table of candidates, with what it was made of."""
    held = among.gallery
    about: dict[str, Any] = {
        "gallery": held.location,
        "version": held.version,
        "fingerprint": held.fingerprint,
        "k": settings.k,
        "threshold": threshold,
        "asked": stored_settings(settings, select),
        "verdicts": verdicts_digest(among.verdicts),
    }
    if isinstance(held, GalleryUnion):
        about["galleries"] = [[each.location, each.version] for each in held.parts]
    with listed_in_galleries("link table", out, parts_of(held)):
        galleries = owners(held)
        if galleries is not None and among.selected is not None:
            galleries = galleries.take(pa.array(among.selected))
        table = candidates(among.rows, among.kept, groups, galleries)
        write_candidates(out.absolute(), table, about, safe_csv=safe_csv)


def _travel(
    among: RowsToLink, plain: Links | None, settings: LinkSettings, verdicts: Verdicts
) -> TravelEffect | None:
    """What travel times left out, and how groups without them agree with the known people."""
    if among.walk is None or among.times_from is None:
        return None
    told = excluded(among.walk, among.identity, among.times_from)
    if plain is None:
        return told
    limit = link_threshold(among.gallery, plain, among.evidence, among.identity, settings).threshold
    without = join_rows(plain.from_score(limit), among.moments, verdicts=verdicts)
    return replace(told, without=_agreement(among, without))


def _agreement(among: RowsToLink, groups: Groups) -> Agreement:
    """How the groups of known people agree with their identities."""
    return agreement(groups.group[among.labeled], among.identity[among.labeled])


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
