"""Counters of workers and drivers on Ray, for Prometheus: see docs/operations.md.

Ray's agent on each machine serves the counts of all its processes. Without Ray, nothing is counted.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import ray
from ray.util.metrics import Counter

METRICS = MappingProxyType(
    {
        "regallery_units": "Work units that were finished.",
        "regallery_crops": "Crops that became rows.",
        "regallery_rejects": "Inputs that became rejects.",
        "regallery_bytes": "Bytes of the files of rows that were written.",
        "regallery_seconds": "Seconds of workers, by step: waiting for pictures to be read and"
        " decoded, the network, writing.",
        "regallery_tiles": "Tiles and other parts of stages that workers finished.",
        "regallery_restarts": "Work units that were begun again after their worker had died.",
    }
)
"""Every metric with its meaning; all are counters. Prometheus sees them as `ray_NAME_total`."""

STEPS = ("decode", "network", "write")
"""The values of the tag `step` of `regallery_seconds`."""


def add_to_metric(name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
    """Add to a metric of `METRICS`; without Ray, and for 0 or less, this does nothing."""
    if value > 0 and ray.is_initialized():
        _counter(name).inc(value, dict(tags or {}))


@cache
def _counter(name: str) -> Counter:
    tags = ("step",) if name == "regallery_seconds" else ()
    return Counter(name, description=METRICS[name], tag_keys=tags)
