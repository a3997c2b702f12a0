"""Thresholds of pairs of cameras: similarity falls where views differ, so one fits not all."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.core.blocks import ChosenRows
from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.evaluation.labels import Labels
from pipeline.core.thresholds.calibration import (
    FEWEST_FALSE_MATCHES,
    FarRule,
    PercentileRule,
    Threshold,
    calibrate,
)
from pipeline.runs.calibration_pairs import Pairs


@dataclass(frozen=True)
class CameraPair:
    """The pairs of a query camera and another camera of the gallery.

    `figures` is None if there are too few pairs: fewer than 30 false matches at the given rate, or,
    for the percentile rule, fewer than 30 positive pairs.
    """

    query_camera: str
    gallery_camera: str
    positives: int
    negatives: int
    figures: Threshold | None


def calibrate_camera_pairs(
    pairs: Pairs, rule: FarRule | PercentileRule, resampling: Bootstrap
) -> tuple[CameraPair, ...]:
    """The threshold of each pair of different cameras, in the order of their names."""
    found = []
    for first, query_camera in pairs.cameras.items():
        asked = np.flatnonzero(pairs.query_labels.camera == first)
        for second, gallery_camera in pairs.cameras.items():
            rows = np.flatnonzero(pairs.labels.camera == second)
            if first == second or not len(asked) or not len(rows):
                continue
            part = Pairs(
                gallery=pairs.gallery,
                query=pairs.query,
                queries=ChosenRows(pairs.queries, asked),
                query_labels=_labels(pairs.query_labels, asked),
                rows=ChosenRows(pairs.rows, rows),
                labels=_labels(pairs.labels, rows),
                cameras=pairs.cameras,
            )
            figures = _figures(part, rule, resampling)
            found.append(CameraPair(query_camera, gallery_camera, *part.counts(), figures))
    return tuple(found)


def _figures(
    part: Pairs, rule: FarRule | PercentileRule, resampling: Bootstrap
) -> Threshold | None:
    positives, negatives = part.counts()
    enough = negatives * rule.far if isinstance(rule, FarRule) else positives
    if enough < FEWEST_FALSE_MATCHES:
        return None
    found = calibrate(part.queries, part.query_labels, part.rows, part.labels, rule, resampling)
    # Hundreds of cameras make too many pairs for a curve of each.
    return None if found is None else replace(found, curve=())


def _labels(labels: Labels, chosen: np.ndarray) -> Labels:
    return Labels(labels.identity[chosen], labels.camera[chosen])
