"""The map of a set: its rows as points in the plane, on the threads of this process."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows
from pipeline.core.maps.fuzzy import fuzzy_weights
from pipeline.core.maps.moving import STEPS_AN_EPOCH, Pulls, move_points
from pipeline.core.maps.settings import MapSettings
from pipeline.core.maps.start import principal_points
from pipeline.core.neighbors.topk import TopK
from pipeline.stages.execution import Execution


def lay_out(
    rows: FeatureRows,
    near: TopK,
    settings: MapSettings = MapSettings(),
    *,
    start: NDArray[np.float32] | None = None,
    execution: Execution = Execution(),
) -> NDArray[np.float32]:
    """The points float32 `[N, 2]` of unit `rows` `[N, D]`, from their neighbor graph.

    `near` `[N, k]` are the best neighbors of every row, a row not counted among its own. Points
    begin at `start` float32 `[N, 2]` (default: `principal_points`). Every step needs the points of
    all rows, so all threads of this process work, whatever the number of workers; the result is the
    same to the bit for any number of threads. Memory is about 50 bytes for each neighbor in `near`.
    Progress counts epochs.
    """
    tiling = execution.tiling
    if start is None:
        start = principal_points(rows, seed=settings.seed, tiling=tiling)
    pulls = Pulls.of(fuzzy_weights(near, tiling=tiling), settings)
    points = start
    step = execution.progress("map", pulls.steps // STEPS_AN_EPOCH)
    with tiling.workers() as run:
        for first in range(0, pulls.steps, STEPS_AN_EPOCH):
            part = first, first + STEPS_AN_EPOCH
            points = move_points(points, pulls, part, run, tiling.thread_count())
            step(1)
    return points
