"""calibrate: find the similarity threshold at which two crops count as the same identity."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ResamplingFlags, RuleFlags, TravelFlags
from jobs.command.progress import working
from jobs.command.travel_lines import effect_lines
from pipeline.errors import InputError
from pipeline.runs.calibrated import Calibrated, CalibrationSettings
from pipeline.runs.locations import Location
from pipeline.runs.settings import ResamplingSettings, RuleSettings
from pipeline.runs.travelled import TRAVEL, TravelLearned

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.runs.camera_thresholds import CameraPair


def calibrate(
    gallery: Location,
    *,
    query: Location | None = None,
    gallery_version: int | None = None,
    query_version: int | None = None,
    rule: Literal["far", "percentile"] = CalibrationSettings.rule,
    settings: RuleFlags = RuleSettings(),
    by_camera: bool = CalibrationSettings.by_camera,
    query_rows: int = CalibrationSettings.query_rows,
    resampling: ResamplingFlags = ResamplingSettings(),
    travel_times: Annotated[bool, Parameter(negative=())] = False,
    travel: TravelFlags = TRAVEL,
) -> Calibrated | TravelLearned:
    """Find the similarity threshold at which two crops count as the same identity.

    Rule far: the least threshold at which at most the given share of the
    pairs of different identities match. Rule percentile: a percentile of
    the distances within identities, multiplied by a factor. Junk and
    pairs of one identity and one camera are left out; distractors count
    as other identities. The threshold is stored with the version; search
    and link use it.

    With --travel-times, learn instead how long people are on the way from
    camera to camera, from pairs of rows that are certainly one person; no
    identities are needed. search and link then leave out what nobody can
    have walked (their --travel-times learned).

    For example:

        regallery calibrate --gallery galleries/test
        --query galleries/query --far 1e-3

    Args:
        gallery: Folder of the gallery to calibrate; it needs identities.
        query: Gallery of queries with the same recipe (default: the gallery against itself).
        gallery_version: Version of the gallery (default: the latest).
        query_version: Version of the queries (default: the latest).
        rule: far to set the false-match rate; percentile to use distances within identities.
        by_camera: Also find the threshold of each pair of cameras.
        travel_times: Learn the travel times between cameras, instead of a threshold.
        query_rows: Compare at most this many query rows: whole identities, chosen at random.
    """
    chosen = CalibrationSettings(rule, settings, by_camera, query_rows)
    if query is None and query_version is not None:
        raise InputError("`query_version` goes with `query`")
    if travel_times:
        if query is not None:
            raise InputError("`travel_times` are learned of one gallery: leave out `query`")
        with working("learning travel times"):
            from pipeline.gallery.table import Gallery
            from pipeline.runs.travel_learning import learn_travel_times

            return learn_travel_times(Gallery.open(gallery, gallery_version), travel)
    with working("calibrating"):
        from pipeline.gallery.table import Gallery
        from pipeline.runs.calibrating import calibrate as calibrate_gallery

        return calibrate_gallery(
            Gallery.open(gallery, gallery_version),
            Gallery.open(query, query_version) if query else None,
            chosen,
            resampling,
        )


def describe(result: Calibrated | TravelLearned) -> RenderableType:
    """The threshold with its figures and intervals, then the pairs of cameras; or what was learned
    of ways.
    """
    if isinstance(result, TravelLearned):
        return Group(*map(Text, _travel_lines(result)))
    found = result.figures
    lines = [
        f"threshold {found.threshold:.4f} ({_between(found.threshold_interval, '.4f')}), by"
        f" {result.rule}: {', '.join(f'{k} {v:g}' for k, v in result.parameters.items())}",
        f"false-match rate {found.far:.3g} ({_between(found.far_interval, '.3g')}): "
        f"{found.false_matches:,} of {found.negatives:,} negative pairs",
        f"true-match rate {found.tar:.4f} ({_between(found.tar_interval, '.4f')}) of"
        f" {found.positives:,} positive pairs",
        f"intervals of {result.resampling['level']:.0%}, by resampling the"
        f" {found.identities:,} identities of {result.query_rows:,} query rows",
    ]
    parts: list[RenderableType] = [Text(line) for line in lines]
    if result.by_camera is not None:
        parts += [Text(), _camera_table(result.by_camera)]
    kept = "/".join(result.file.split("/")[-2:])
    return Group(*parts, Text(f"{result.gallery}, version {result.version}: stored as {kept}"))


def _travel_lines(result: TravelLearned) -> list[str]:
    """How many ways were learned, and what they exclude."""
    effect = result.effect
    lines = [
        f"{result.links:,} pairs from similarity {result.threshold:.4f} on"
        f" ({result.threshold_from}): times of {result.ways} ways between cameras,"
        f" {result.unreachable} that nobody goes, {result.unknown} unknown",
        *effect_lines(effect),
    ]
    kept = "/".join(result.file.split("/")[-2:])
    return [*lines, f"{result.gallery}, version {result.version}: stored as {kept}"]


def _between(interval: Any, form: str) -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _camera_table(pairs: "tuple[CameraPair, ...]") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("query camera")
    table.add_column("gallery camera")
    for name in ("positives", "negatives", "threshold", "interval"):
        table.add_column(name, justify="right")
    for each in pairs:
        found = each.figures
        shown = ("too few", "")
        if found is not None:
            shown = f"{found.threshold:.4f}", _between(found.threshold_interval, ".4f")
        counts = f"{each.positives:,}", f"{each.negatives:,}"
        table.add_row(Text(each.query_camera), Text(each.gallery_camera), *counts, *shown)
    return table


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["calibrate", *sys.argv[1:]]))
