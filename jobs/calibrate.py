"""calibrate: find the similarity threshold at which two crops count as the same identity."""

import sys
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ResamplingFlags, RuleFlags
from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.runs.calibrated import Calibrated, CalibrationSettings
from pipeline.runs.locations import Location
from pipeline.runs.settings import ResamplingSettings, RuleSettings

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
) -> Calibrated:
    """Find the similarity threshold at which two crops count as the same identity.

    Rule far: the least threshold at which at most the given share of the
    pairs of different identities match. Rule percentile: a percentile of
    the distances within identities, multiplied by a factor. Junk and
    pairs of one identity and one camera are left out; distractors count
    as other identities. The threshold is stored with the version; search
    and link use it.

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
        query_rows: Compare at most this many query rows: whole identities, chosen at random.
    """
    chosen = CalibrationSettings(rule, settings, by_camera, query_rows)
    if query is None and query_version is not None:
        raise InputError("`query_version` goes with `query`")
    with working("calibrating"):
        from pipeline.gallery.table import Gallery
        from pipeline.runs.calibrating import calibrate as calibrate_gallery

        return calibrate_gallery(
            Gallery.open(gallery, gallery_version),
            Gallery.open(query, query_version) if query else None,
            chosen,
            resampling,
        )


def describe(result: Calibrated) -> RenderableType:
    """The threshold with its figures and intervals, then the pairs of cameras."""
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
