"""The links of a gallery's rows, and the similarity from which on they count."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR
from pipeline.core.identities.clustering import agreement
from pipeline.core.identities.linking import Groups, Linking, Links, join_rows, mutual_links
from pipeline.core.identities.precision import (
    FEWEST_PAIRS,
    Estimate,
    estimate_precision,
    least_threshold,
)
from pipeline.core.travel.conflicts import Conflicts
from pipeline.core.travel.nearby import Walkable, allowed_pairs
from pipeline.errors import InputError
from pipeline.gallery.sidecars.graph import Origin
from pipeline.runs.linked import LinkSettings
from pipeline.runs.union import AnyGallery
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import Apart, build_graph


@dataclass(frozen=True)
class LinkThreshold:
    """The threshold of links, its origin, and the evidence if it was estimated."""

    threshold: float
    origin: str
    estimate: Estimate | None = None


def links_among(
    gallery: AnyGallery,
    features: FeatureRows,
    ids: NDArray[np.int64] | None,
    k: int,
    scratch: Path,
    execution: Execution,
    apart: Apart | None = None,
) -> Links:
    """The mutual neighbors among rows with these `ids`, whatever their similarity.

    Rows that `apart` keeps apart are no neighbors.
    """
    graph = build_graph(
        features,
        k,
        scratch / "graph",
        ids=ids,
        origin=Origin(gallery.location, gallery.version, gallery.fingerprint),
        apart=apart,
        execution=execution,
    )
    return mutual_links(graph.read(0, len(graph)), Linking(-1.0, k))


def check_evidence(
    gallery: AnyGallery, apart: NDArray[np.int64], identity: NDArray[np.int64]
) -> None:
    """InputError if no threshold can be estimated; called before the search for neighbors."""
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


def link_threshold(
    gallery: AnyGallery,
    links: Links,
    apart: NDArray[np.int64],
    identity: NDArray[np.int64],
    settings: LinkSettings,
    walk: Walkable | None = None,
) -> LinkThreshold:
    """The given threshold, or the least at which groups have the wanted precision.

    `apart` are the moments `[N]` of rows that surely differ. Groups honor the travel times of
    `walk`, where they are given: a row can then share its group only with rows that they allow.
    InputError if no threshold is high enough.
    """
    if settings.threshold is not None:
        return LinkThreshold(settings.threshold, "given")
    wanted, count = settings.target_precision, len(apart)
    conflicts, others = None, None
    if walk is not None:
        conflicts = Conflicts.of(walk.seen, walk.travel)
        others = 2 * allowed_pairs(walk) / max(1, count)
    if _certain_pairs(apart) >= FEWEST_PAIRS:

        def measure(groups: Groups) -> float:
            return estimate_precision(groups, apart, others).precision

        origin = f"estimated group precision of {wanted:g}"
    else:
        labeled = identity > DISTRACTOR

        def measure(groups: Groups) -> float:
            return agreement(groups.group[labeled], identity[labeled]).precision

        origin = f"group precision of {wanted:g} over the known identities"
    threshold = least_threshold(links, count, wanted, measure, conflicts)
    if threshold is None:
        raise InputError(
            f"{gallery.location}: no threshold gives groups a precision of {wanted:g}: give a lower"
            " `group_precision`, or a `threshold`"
        )
    free = join_rows(links.from_score(threshold), np.full(count, -1), conflicts)
    estimate = estimate_precision(free, apart, others)
    return LinkThreshold(threshold, origin, estimate if estimate.pairs >= FEWEST_PAIRS else None)
