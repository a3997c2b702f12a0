"""Identities proposed for the rows of a gallery: neighbors, a threshold, groups, a table."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.identities.clustering import agreement
from pipeline.core.identities.linking import (
    NO_MOMENT,
    Groups,
    Linking,
    Links,
    join_rows,
    mutual_links,
)
from pipeline.core.identities.precision import (
    FEWEST_PAIRS,
    Estimate,
    estimate_precision,
    least_threshold,
)
from pipeline.errors import InputError
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.candidates import candidates, is_candidates, write_candidates
from pipeline.gallery.sidecars.capture_times import camera_numbers, moments
from pipeline.gallery.sidecars.graph import Origin
from pipeline.gallery.table import Gallery
from pipeline.output_files import check_new_file
from pipeline.runs.linked import TABLE_SUFFIXES, Linked, LinkSettings, asked_of
from pipeline.runs.resources import joined
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.runs.union import AnyGallery, GalleryUnion, as_one, owners, parts_of
from pipeline.stages.execution import Execution, StartProgress
from pipeline.stages.neighbors import build_graph

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """The threshold of links, its origin, and the evidence if it was estimated."""

    threshold: float
    origin: str
    estimate: Estimate | None = None


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
    else from the known identities. `select` says which rows are linked, and written. Raise
    InputError if there are too few of both, or if `out` cannot be written.
    """
    _check(out, on.scratch, safe_csv)
    held = as_one(gallery)
    rows = held.rows()
    kept = np.flatnonzero(pc.fill_null(rows["identity"], DISTRACTOR).to_numpy() != JUNK)
    selected = select.positions(held)
    count = len(rows) if selected is None else len(selected)
    if selected is not None:
        kept = np.intersect1d(kept, selected)
    if len(kept) < 2:
        raise InputError(
            f"{held.location} has {len(kept)} rows in version {held.version} besides junk: a"
            " link needs two"
        )
    apart = moments(rows)[kept]
    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()[kept]
    # Rows of one camera that are never linked say nothing about links.
    evidence = np.full_like(apart, NO_MOMENT) if select.not_own_camera else apart
    if settings.threshold is None:
        _check_evidence(held, evidence, identity)
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        about_graph = {"k": settings.k} | ({} if select == ALL_ROWS else {"select": str(select)})
        base = (on.scratch or out.parent).absolute()
        folder = stack.enter_context(scratch_folder(base, "link", parts_of(held), about_graph))
        execution = on.execution(progress)
        cameras = camera_numbers(rows["camera"])[kept] if select.not_own_camera else None
        links = _links(held, kept, settings.k, folder, execution, cameras)
    _log.debug("neighbors: %s", execution.ledger.total)
    found = _threshold(held, links, evidence, identity, settings)
    reached = links.from_score(found.threshold)
    groups = join_rows(reached, apart)
    about: dict[str, Any] = {
        "gallery": held.location,
        "version": held.version,
        "fingerprint": held.fingerprint,
        "k": settings.k,
        "threshold": found.threshold,
        "asked": asked_of(settings, select.where),
    }
    if isinstance(held, GalleryUnion):
        about["galleries"] = [[each.location, each.version] for each in held.parts]
    with listed_in_galleries("link table", out, parts_of(held)):
        table = candidates(rows, kept, groups, owners(held))
        write_candidates(out.absolute(), table, about, safe_csv=safe_csv)
    labeled = identity > DISTRACTOR
    linked = Linked(
        gallery=held.location,
        version=held.version,
        out=out,
        k=settings.k,
        threshold=found.threshold,
        threshold_from=found.origin,
        estimate=found.estimate,
        rows_linked=len(kept),
        junk=count - len(kept),
        links=len(reached),
        refused=groups.refused,
        **_sizes(groups),
        agreement=agreement(groups.group[labeled], identity[labeled]) if labeled.any() else None,
        products=execution.ledger.total.figures(),
    )
    _warn_of_proportion(linked)
    return linked


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


def _links(
    gallery: AnyGallery,
    kept: NDArray[np.int64],
    k: int,
    scratch: Path,
    execution: Execution,
    apart: NDArray[np.int64] | None = None,
) -> Links:
    """The mutual neighbors among the rows `kept`, whatever their similarity.

    Rows of one of the numbers `apart` are no neighbors.
    """
    features: FeatureRows = gallery.features()
    if len(kept) < len(features):
        features = ChosenRows(features, kept)
    graph = build_graph(
        features,
        k,
        scratch / "graph",
        ids=None if isinstance(gallery, GalleryUnion) else gallery.row_ids()[kept],
        origin=Origin(gallery.location, gallery.version, gallery.fingerprint),
        apart=apart,
        execution=execution,
    )
    return mutual_links(graph.read(0, len(graph)), Linking(-1.0, k))


def _check_evidence(
    gallery: AnyGallery, apart: NDArray[np.int64], identity: NDArray[np.int64]
) -> None:
    """Raise InputError if no threshold can be estimated; called before the search for neighbors."""
    pairs = _certain_pairs(apart)
    known = len(np.unique(identity[identity > DISTRACTOR]))
    if pairs < FEWEST_PAIRS and known < 2:
        raise InputError(
            f"{gallery.location} has {pairs} pairs of rows that are certainly different people (one"
            " camera at one moment, and not left out by `not_own_camera`) and no two known"
            f" identities: an estimate needs {FEWEST_PAIRS} such pairs, or two identities; give"
            " `threshold`"
        )


def _certain_pairs(apart: NDArray[np.int64]) -> int:
    sizes = np.unique(apart[apart >= 0], return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def _threshold(
    gallery: AnyGallery,
    links: Links,
    apart: NDArray[np.int64],
    identity: NDArray[np.int64],
    settings: LinkSettings,
) -> _Found:
    if settings.threshold is not None:
        return _Found(settings.threshold, "given")
    wanted, count = settings.wanted, len(apart)
    if _certain_pairs(apart) >= FEWEST_PAIRS:

        def measure(groups: Groups) -> float:
            return estimate_precision(groups, apart).precision

        origin = f"estimated group precision of {wanted:g}"
    else:
        labeled = identity > DISTRACTOR

        def measure(groups: Groups) -> float:
            return agreement(groups.group[labeled], identity[labeled]).precision

        origin = f"group precision of {wanted:g} over the known identities"
    threshold = least_threshold(links, count, wanted, measure)
    if threshold is None:
        raise InputError(
            f"{gallery.location}: no threshold gives groups a precision of {wanted:g}: give a lower"
            " `group_precision`, or a `threshold`"
        )
    free = join_rows(links.from_score(threshold), np.full(count, -1))
    estimate = estimate_precision(free, apart)
    return _Found(threshold, origin, estimate if estimate.pairs >= FEWEST_PAIRS else None)
