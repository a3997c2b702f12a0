"""link: propose identities for the rows of a gallery."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.flags import FilterFlags, FoldFlags
from jobs.command.galleries import open_galleries
from jobs.command.progress import progress_lines
from jobs.command.travel_lines import effect_lines
from pipeline.runs.linked import Linked, LinkSettings, VerdictsUsed
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.selection import ALL_ROWS
from pipeline.runs.settings import FoldSettings


def link(
    gallery: tuple[Location, ...],
    *,
    out: Annotated[Path, LOCATION],
    k: int = LinkSettings.k,
    threshold: float | None = None,
    group_precision: float | None = None,
    travel_times: str | None = None,
    version: tuple[int, ...] = (),
    safe_csv: Annotated[bool, Parameter(negative=())] = False,
    select: FilterFlags = ALL_ROWS,
    on: FoldFlags = FoldSettings(),
) -> Linked:
    """Propose identities for the rows of a gallery, by their features alone.

    Two rows are linked if each is among the k nearest of the other and
    their similarity reaches the threshold. Links are taken strongest
    first; a link that would join two crops of one camera at one time is
    refused. Verdicts on rows (see verdict) are kept: those that are the
    same are in one group, those that are different never. Writes one row
    for each crop: its candidate, named by the candidate's first row id, its
    size, and the score of the crop's strongest link in it. If identities
    are known, the agreement of the candidates with them is measured.

    Unless it is given, the threshold is estimated from crops that are
    certainly different people, because one camera took them at one time:
    it is the least at which groups reach the wanted precision.

    For example:

        regallery link --gallery galleries/test --out identities.parquet
        --group-precision 0.95

    Args:
        gallery: Folder of the gallery whose rows are linked; repeat for further galleries, whose
            rows are linked together.
        out: File to write, .parquet or .csv.
        k: Neighbors of each row that are considered for links.
        threshold: Least similarity of a link (default: estimated from the group precision).
        group_precision: Wanted precision of the groups: the share of a row's group that is the same
            person, averaged over rows (default: 0.9).
        travel_times: Do not link rows that nobody can have walked between: a .csv or .parquet file
            of least and most seconds between cameras, or learned (see calibrate).
        version: Version to link (default: the latest); one for each gallery, in their order.
        safe_csv: Put an apostrophe before text in a .csv that a spreadsheet would read as a
            formula.
    """
    settings = LinkSettings(k, threshold, group_precision, travel_times)
    tables = open_galleries(gallery, version)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.runs.linking import link as link_gallery

        return link_gallery(
            tables, out, settings, select=select, on=on, progress=progress, safe_csv=safe_csv
        )


def describe(result: Linked) -> RenderableType:
    """What was linked, how large the candidates are, and how well they agree with identities."""
    lines = [
        f"{result.links:,} links of {result.rows_linked:,} rows, k {result.k}, similarity at least"
        f" {result.threshold:.4f} ({result.threshold_from}); {result.refused:,} of them refused"
        f" ({' or '.join(_reasons(result))})",
    ]
    if (used := result.verdicts_used) != VerdictsUsed(0, 0, 0):
        lines.append(
            f"verdicts: {used.same:,} pairs the same, {used.different:,} different;"
            f" {used.overruled:,} of the same are of one camera at one time"
        )
    if (travel := result.travel) is not None:
        lines += effect_lines(travel)
    if (found := result.estimate) is not None:
        lines.append(
            f"estimated group precision {max(0.0, found.precision):.3f}: of {found.pairs:,} pairs"
            f" of one camera at one time, {found.together:,} would share a group"
        )
    lines.append(
        f"{result.candidates:,} candidates, the largest of {result.largest:,} rows;"
        f" {result.alone:,} rows alone"
    )
    if result.junk:
        lines.append(f"{result.junk:,} junk rows left out")
    if result.agreement is not None:
        known = result.agreement
        lines.append(
            f"B-cubed precision {known.precision:.3f}, recall {known.recall:.3f}, F"
            f" {known.f_score:.3f}; NMI {known.nmi:.3f} (over {known.rows_labeled:,} rows of"
            f" {known.identities:,} known identities)"
        )
    lines.append(f"{result.gallery}, version {result.version}: {result.out}")
    return Group(*(Text(line) for line in lines))


def _reasons(result: Linked) -> list[str]:
    """Why links can be refused."""
    reasons = ["one camera at one time"]
    if result.travel is not None:
        reasons.append("travel times")
    if result.verdicts_used.different:
        reasons.append("verdicts")
    return reasons


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["link", *sys.argv[1:]]))
