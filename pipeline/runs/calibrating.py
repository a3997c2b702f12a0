"""Find the threshold of a gallery over its pairs, and store it with its version."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from math import ceil
from typing import Any

from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.thresholds.calibration import (
    FEWEST_FALSE_MATCHES,
    FarRule,
    PercentileRule,
    Threshold,
)
from pipeline.core.thresholds.calibration import calibrate as threshold_of
from pipeline.errors import InputError
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.files.storage import record_of
from pipeline.gallery.sidecars.calibrations import (
    calibration_file,
    check_calibration,
    read_calibration,
    write_calibration,
)
from pipeline.gallery.table import Gallery
from pipeline.runs.calibrated import Calibrated, CalibrationSettings
from pipeline.runs.calibration_pairs import Pairs, open_pairs
from pipeline.runs.camera_thresholds import CameraPair, calibrate_camera_pairs
from pipeline.runs.settings import ResamplingSettings, stated

_log = logging.getLogger(__name__)

_BASES = {
    "far": ("false matches", "give more queries, or a larger `far`"),
    "percentile": ("positive pairs", "give more queries"),
}
"""What the threshold of each rule rests on, and what to do if there are few of them."""


def calibrate(
    gallery: Gallery,
    query: Gallery | None = None,
    settings: CalibrationSettings = CalibrationSettings(),
    resampling: ResamplingSettings = ResamplingSettings(),
) -> Calibrated:
    """Find the threshold of a gallery against `query`, or itself, and store it with its version.

    Raise InputError if the pairs give no threshold, or if the version has one that rests on more
    pairs.
    """
    try:
        rule = (FarRule if settings.rule == "far" else PercentileRule)(**stated(settings.of_rule))
        resamples = Bootstrap(**stated(resampling))
    except ValueError as error:
        raise InputError(str(error)) from error
    pairs = open_pairs(gallery, query, settings.query_rows, resamples.seed)
    check_calibration(gallery)
    found = _threshold(pairs, rule, resamples)
    stands_on = _basis(settings.rule, asdict(found))
    if stands_on < FEWEST_FALSE_MATCHES:
        _spare_firmer(gallery, settings.rule, stands_on)
        _log.warning(
            "the threshold rests on few %s (%d; at least %d make it reliable): %s",
            _BASES[settings.rule][0],
            stands_on,
            FEWEST_FALSE_MATCHES,
            _BASES[settings.rule][1],
        )
    cameras = calibrate_camera_pairs(pairs, rule, resamples) if settings.by_camera else None
    file = _keep(pairs, settings.rule, rule, resamples, found, cameras)
    return Calibrated(
        gallery=gallery.location,
        version=gallery.version,
        query=query.location if query else None,
        query_version=query.version if query else None,
        query_rows=len(pairs.queries),
        rule=settings.rule,
        parameters=asdict(rule),
        resampling=asdict(resamples),
        threshold=found.threshold,
        figures=found,
        by_camera=cameras,
        file=str(file),
    )


def _threshold(pairs: Pairs, rule: FarRule | PercentileRule, resampling: Bootstrap) -> Threshold:
    """The threshold over all pairs; raise InputError if there are too few for one."""

    found = threshold_of(
        pairs.queries, pairs.query_labels, pairs.rows, pairs.labels, rule, resampling
    )
    if found is not None:
        return found
    positives, negatives = pairs.counts()
    if not positives or not negatives or isinstance(rule, PercentileRule):
        raise InputError(
            f"{pairs.gallery.location} has {positives:,} pairs of one identity from two cameras and"
            f" {negatives:,} of two identities: a threshold needs both; give `query`, or a gallery"
            " with identities"
        )
    raise InputError(
        f"a false-match rate of {rule.far:g} needs at least {ceil(1 / rule.far):,} negative"
        f" pairs, and there are {negatives:,}: give a larger `far`, or more data"
    )


def _basis(rule: str, figures: Mapping[str, Any]) -> int:
    """The number of pairs that decide where the threshold lies."""
    return int(figures["false_matches" if rule == "far" else "positives"])


def _spare_firmer(gallery: Gallery, rule: str, stands_on: int) -> None:
    """Raise InputError if this would replace a threshold of the same rule that rests on enough
    pairs.
    """

    held = read_calibration(gallery)
    if held is None or (held["version"], held["rule"]) != (gallery.version, rule):
        return
    if (firm := _basis(rule, held["figures"])) >= FEWEST_FALSE_MATCHES:
        pairs, advice = _BASES[rule]
        path = calibration_file(gallery)
        raise InputError(
            f"the threshold of version {gallery.version} rests on {firm:,} {pairs} and is kept:"
            f" this one would rest on {stands_on:,}; {advice}, or delete"
            f" {path} and its record {record_of(path)} first"
        )


def _keep(
    pairs: Pairs,
    name: str,
    rule: FarRule | PercentileRule,
    resampling: Bootstrap,
    found: Threshold,
    cameras: tuple[CameraPair, ...] | None,
) -> GalleryPlace:
    """Store the threshold beside the gallery's table."""

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
