"""calibrate: find the similarity threshold at which two crops count as the same identity."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ResamplingFlags, RuleFlags
from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.runs.settings import ResamplingSettings, RuleSettings, stated

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from pipeline.core.evaluation.bootstrap import Bootstrap
    from pipeline.core.thresholds.calibration import FarRule, PercentileRule, Threshold
    from pipeline.gallery.table import Gallery
    from pipeline.runs.calibration_pairs import Pairs
    from pipeline.runs.camera_thresholds import CameraPair

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """A threshold as it was stored: how it was found, what it accepts, and its uncertainty.

    Without a `query` the gallery was compared with itself. `query_rows` are the rows with an
    identity that were compared with every row of the gallery. `by_camera` has the threshold of each
    pair of cameras, None where the pairs are too few.
    """

    gallery: str
    version: int
    query: str | None
    query_version: int | None
    query_rows: int
    rule: str
    parameters: dict[str, float]
    resampling: dict[str, float]
    threshold: float
    figures: "Threshold"
    by_camera: "tuple[CameraPair, ...] | None"
    file: Path


BASES = {
    "far": ("false matches", "give more queries, or a larger --far"),
    "percentile": ("positive pairs", "give more queries"),
}
"""What a threshold by each rule stands on, and what to do where that is little."""

FIELDS = {"samples": "replicates", "confidence": "level"}
"""The fields of `Bootstrap` that these flags set."""


def calibrate(
    gallery: Location,
    *,
    query: Location | None = None,
    gallery_version: int | None = None,
    query_version: int | None = None,
    rule: Literal["far", "percentile"] = "far",
    settings: RuleFlags = RuleSettings(),
    by_camera: bool = False,
    query_rows: int = 10_000,
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
    if query_rows < 1:
        raise InputError(f"--query-rows must be at least 1, not {query_rows}")
    if query is None and query_version is not None:
        raise InputError("--query-version goes with --query")
    wrong = ("percentile", "factor") if rule == "far" else ("far",)
    for name in stated(settings):
        if name in wrong:
            raise InputError(f"--{name} does not go with --rule {rule}")
    from pipeline.core.evaluation.bootstrap import Bootstrap
    from pipeline.core.thresholds.calibration import FEWEST_FALSE_MATCHES, FarRule, PercentileRule
    from pipeline.gallery.sidecars.calibrations import calibration_file
    from pipeline.output_files import check_new_folder
    from pipeline.runs.calibration_pairs import open_pairs
    from pipeline.runs.camera_thresholds import calibrate_camera_pairs

    try:
        chosen = (FarRule if rule == "far" else PercentileRule)(**stated(settings))
        resamples = Bootstrap(
            **{FIELDS.get(name, name): value for name, value in stated(resampling).items()}
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    pairs = open_pairs(gallery, gallery_version, query, query_version, query_rows, resamples.seed)
    check_new_folder(calibration_file(pairs.gallery).parent)
    found = _threshold(pairs, chosen, resamples)
    stands_on = _basis(rule, asdict(found))
    if stands_on < FEWEST_FALSE_MATCHES:
        _spare_firmer(pairs.gallery, rule, stands_on)
        logger.warning(
            "the threshold rests on few %s (%d; at least %d make it reliable): %s",
            BASES[rule][0],
            stands_on,
            FEWEST_FALSE_MATCHES,
            BASES[rule][1],
        )
    cameras = calibrate_camera_pairs(pairs, chosen, resamples) if by_camera else None
    file = _keep(pairs, rule, chosen, resamples, found, cameras)
    return Calibrated(
        gallery=gallery,
        version=pairs.gallery.version,
        query=query,
        query_version=pairs.query.version if pairs.query else None,
        query_rows=len(pairs.queries),
        rule=rule,
        parameters=asdict(chosen),
        resampling=asdict(resamples),
        threshold=found.threshold,
        figures=found,
        by_camera=cameras,
        file=file,
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
    kept = f"{result.file.parent.name}/{result.file.name}"
    return Group(*parts, Text(f"{result.gallery}, version {result.version}: stored as {kept}"))


def _threshold(
    pairs: "Pairs", rule: "FarRule | PercentileRule", resampling: "Bootstrap"
) -> "Threshold":
    """The threshold over all pairs; InputError where the data do not give it."""
    from pipeline.core.thresholds.calibration import PercentileRule, calibrate

    found = calibrate(pairs.queries, pairs.query_labels, pairs.rows, pairs.labels, rule, resampling)
    if found is not None:
        return found
    positives, negatives = pairs.counts()
    if not positives or not negatives or isinstance(rule, PercentileRule):
        raise InputError(
            f"{pairs.gallery.location} has {positives:,} pairs of one identity from two cameras and"
            f" {negatives:,} of two identities: a threshold needs both; give --query, or a gallery"
            " with identities"
        )
    raise InputError(
        f"a false-match rate of {rule.far:g} needs at least {ceil(1 / rule.far):,} negative"
        f" pairs, and there are {negatives:,}: give a larger --far, or more data"
    )


def _basis(rule: str, figures: Mapping[str, Any]) -> int:
    """How many pairs decide where the threshold lies."""
    return int(figures["false_matches" if rule == "far" else "positives"])


def _spare_firmer(gallery: "Gallery", rule: str, stands_on: int) -> None:
    """InputError where the version has a firm threshold by the same rule, which would be lost."""
    from pipeline.core.thresholds.calibration import FEWEST_FALSE_MATCHES
    from pipeline.gallery.files.storage import record_of
    from pipeline.gallery.sidecars.calibrations import calibration_file, read_calibration

    held = read_calibration(gallery)
    if held is None or (held["version"], held["rule"]) != (gallery.version, rule):
        return
    if (firm := _basis(rule, held["figures"])) >= FEWEST_FALSE_MATCHES:
        pairs, advice = BASES[rule]
        path = calibration_file(gallery)
        raise InputError(
            f"the threshold of version {gallery.version} rests on {firm:,} {pairs} and is kept:"
            f" this one would rest on {stands_on:,}; {advice}, or delete"
            f" {path} and its record {record_of(path)} first"
        )


def _keep(
    pairs: "Pairs",
    name: str,
    rule: "FarRule | PercentileRule",
    resampling: "Bootstrap",
    found: "Threshold",
    cameras: "tuple[CameraPair, ...] | None",
) -> Path:
    """Keep the threshold beside the gallery's table."""
    from pipeline.gallery.sidecars.calibrations import write_calibration

    about: dict[str, Any] = {
        "threshold": found.threshold,
        "rule": name,
        "parameters": asdict(rule),
        "resampling": asdict(resampling),
        "query": pairs.query.location if pairs.query else None,
        "query_version": pairs.query.version if pairs.query else None,
        "query_rows": len(pairs.queries),
        "figures": asdict(found),
        "by_camera": None if cameras is None else [asdict(each) for each in cameras],
    }
    return write_calibration(pairs.gallery, about)


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
