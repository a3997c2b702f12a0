"""link: propose identities for the rows of a gallery."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.console import progress_lines
from jobs.command.flags import FoldFlags
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.resources import joined
from pipeline.runs.settings import FoldSettings, check_scratch

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from pipeline.core.identities.clustering import Agreement
    from pipeline.core.identities.linking import Groups, Linking
    from pipeline.core.neighbors.topk import TopK
    from pipeline.gallery.table import Gallery
    from pipeline.stages.execution import Execution

logger = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Linked:
    """The identity candidates of a gallery.

    `rows` are linked, `junk` are left out; `candidates` are groups of two rows or more, `alone` the
    rows in none, `largest` the rows of the largest. `links` are the mutual neighbors that reach the
    threshold, `refused` those that would have joined two crops of one camera at one time.
    `agreement` compares the groups with the known identities.
    """

    gallery: str
    version: int
    out: Path
    k: int
    threshold: float
    threshold_from: str
    rows: int
    junk: int
    links: int
    refused: int
    candidates: int
    alone: int
    largest: int
    agreement: "Agreement | None"
    products: dict[str, int | float] = field(compare=False, default_factory=dict)


def link(
    gallery: Location,
    *,
    out: Annotated[Path, LOCATION],
    k: Annotated[int, Parameter(name=("--k", "-k"))] = 20,
    threshold: float | None = None,
    version: int | None = None,
    safe_csv: Annotated[bool, Parameter(negative=())] = False,
    on: FoldFlags = FoldSettings(),
) -> Linked:
    """Propose identities for the rows of a gallery, by their features alone.

    Two rows are linked if each is among the k nearest of the other and
    their similarity reaches the threshold. Links are taken strongest
    first; a link that would join two crops of one camera at one time is
    refused. Writes one row for each crop: its candidate, named by the
    candidate's first row id, its size, and the score of the crop's
    strongest link in it. If identities are known, the agreement of the
    candidates with them is measured.

    For example:

        regallery link --gallery galleries/test --out identities.parquet
        --threshold 0.75

    Args:
        gallery: Folder of the gallery whose rows are linked.
        out: File to write, .parquet or .csv.
        k: Neighbors of each row that are considered for links.
        threshold: Least similarity of a link (default: the gallery's calibrated threshold).
        version: Version to link (default: the latest).
        safe_csv: Put an apostrophe before text in a .csv that a spreadsheet would read as a
            formula.
    """
    _check(out, on.scratch)
    if safe_csv and out.suffix != ".csv":
        raise InputError(f"--safe-csv needs a .csv file, not --out {out}")
    from pipeline.core.identities.linking import Linking
    from pipeline.gallery.scratch import scratch_folder
    from pipeline.gallery.sidecars.candidates import candidates
    from pipeline.gallery.table import Gallery
    from pipeline.runs.thresholds import thresholds_of

    table = Gallery.open(gallery, version)
    thresholds = thresholds_of(table, threshold)
    wanted, origin = thresholds.general, thresholds.origin
    if wanted is None or origin is None:
        raise InputError(
            f"{gallery} has no calibrated threshold: give --threshold, or run regallery calibrate"
        )
    try:
        on.execution()
        settings = Linking(wanted, k)
    except ValueError as error:
        raise InputError(str(error)) from error
    rows = table.rows()
    kept = _kept(rows)
    if len(kept) < 2:
        raise InputError(
            f"{gallery} has {len(kept)} rows in version {table.version} besides junk: a link"
            " needs two"
        )
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        base = on.scratch.absolute() if on.scratch else None
        folder = stack.enter_context(scratch_folder(base, "link", [table], {"k": k}))
        execution = on.execution(stack.enter_context(progress_lines()))
        near = _neighbors(table, kept, k, folder, execution)
    logger.debug("neighbors: %s", execution.ledger.total)
    groups, links = _groups(near, rows, kept, settings)
    _write(out, table, candidates(rows, kept, groups), settings, safe_csv)
    sizes = groups.sizes
    return Linked(
        gallery=gallery,
        version=table.version,
        out=out,
        k=k,
        threshold=wanted,
        threshold_from=origin,
        rows=len(kept),
        junk=len(rows) - len(kept),
        links=links,
        refused=groups.refused,
        candidates=len(set(groups.group[sizes > 1].tolist())),
        alone=int((sizes == 1).sum()),
        largest=int(sizes.max()),
        agreement=_agreement(rows, kept, groups),
        products=execution.ledger.total.figures(),
    )


def describe(result: Linked) -> RenderableType:
    """What was linked, how large the candidates are, and how well they agree with identities."""
    lines = [
        f"{result.links:,} links of {result.rows:,} rows, k {result.k}, similarity at least"
        f" {result.threshold:.4f} ({result.threshold_from}); {result.refused:,} of them refused"
        " (one camera at one time)",
        f"{result.candidates:,} candidates, the largest of {result.largest:,} rows;"
        f" {result.alone:,} rows alone",
    ]
    if result.junk:
        lines.append(f"{result.junk:,} junk rows left out")
    if result.agreement is not None:
        known = result.agreement
        lines.append(
            f"B-cubed precision {known.precision:.3f}, recall {known.recall:.3f}, F"
            f" {known.f_score:.3f}; NMI {known.nmi:.3f} (over {known.rows:,} rows of"
            f" {known.identities:,} known identities)"
        )
    lines.append(f"{result.gallery}, version {result.version}: {result.out}")
    return Group(*(Text(line) for line in lines))


def _check(out: Path, scratch: Path | None) -> None:
    if out.suffix not in SUFFIXES:
        raise InputError(f"--out {out} must end in {' or '.join(SUFFIXES)}")
    from pipeline.gallery.sidecars.candidates import is_candidates
    from pipeline.output_files import check_new_file

    check_new_file(out, "out", is_candidates)
    check_scratch(scratch)


def _kept(rows: "pa.Table") -> "NDArray[np.int64]":
    """Positions of the rows that are not junk."""
    import numpy as np
    import pyarrow.compute as pc

    from pipeline.core.evaluation.labels import DISTRACTOR, JUNK

    return np.flatnonzero(pc.fill_null(rows["identity"], DISTRACTOR).to_numpy() != JUNK)


def _neighbors(
    table: "Gallery",
    kept: "NDArray[np.int64]",
    k: int,
    scratch: Path,
    execution: "Execution",
) -> "TopK":
    from pipeline.core.blocks import ChosenRows, FeatureRows
    from pipeline.gallery.sidecars.graph import Origin
    from pipeline.stages.neighbors import build_graph

    features: FeatureRows = table.features()
    if len(kept) < len(features):
        features = ChosenRows(features, kept)
    graph = build_graph(
        features,
        k,
        scratch / "graph",
        ids=table.row_ids()[kept],
        origin=Origin(table.location, table.version, table.fingerprint),
        execution=execution,
    )
    return graph.read(0, len(graph))


def _groups(
    near: "TopK", rows: "pa.Table", kept: "NDArray[np.int64]", settings: "Linking"
) -> "tuple[Groups, int]":
    """The groups, and how many links there were."""
    from pipeline.core.identities.linking import connect, mutual_links
    from pipeline.gallery.sidecars.capture_times import moments

    links = mutual_links(near, settings)
    return connect(links, moments(rows)[kept]), len(links)


def _agreement(rows: "pa.Table", kept: "NDArray[np.int64]", groups: "Groups") -> "Agreement | None":
    """Agreement of the groups with the known identities; None if none is known."""
    import pyarrow.compute as pc

    from pipeline.core.evaluation.labels import DISTRACTOR
    from pipeline.core.identities.clustering import agreement

    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()[kept]
    labeled = identity > DISTRACTOR
    if not labeled.any():
        return None
    return agreement(groups.group[labeled], identity[labeled])


def _write(
    out: Path, table: "Gallery", found: "pa.Table", settings: "Linking", safe_csv: bool
) -> None:
    """The table of candidates, with what it stands on."""
    from pipeline.gallery.sidecars.candidates import write_candidates

    about = {
        "gallery": table.location,
        "version": table.version,
        "fingerprint": table.fingerprint,
        "k": settings.k,
        "threshold": settings.threshold,
    }
    write_candidates(out.absolute(), found, about, safe_csv=safe_csv)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["link", *sys.argv[1:]]))
