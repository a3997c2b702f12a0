"""Add up the features of each camera, part by part of the rows."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, blocks
from pipeline.core.cameras import sums as camera_sums
from pipeline.core.cameras.sums import CameraSums, check_cameras, part_sums
from pipeline.stages.execution import Execution


def sum_cameras(
    rows: FeatureRows,
    camera: NDArray[np.int64],
    cameras: int,
    *,
    execution: Execution = Execution(),
) -> CameraSums:
    """The sums of `core.cameras.sums.camera_sums`, computed part by part.

    Parts are the same for any number of workers and are added in order, so the bits are the same,
    too. Progress counts the rows of the finished parts. Memory per worker is a block of rows, and C
    x D sums.
    """
    check_cameras(rows, camera, cameras)
    total = CameraSums.nothing(cameras, rows.dimension)
    parts = list(blocks(len(rows), camera_sums.PART))
    waiting: dict[int, CameraSums] = {}
    added = 0
    step = execution.progress("summing cameras", len(rows))
    for start, stop, found in execution.run_parts(_sum_part, (rows, camera, cameras), parts):
        waiting[start] = found
        while added < len(parts) and parts[added][0] in waiting:
            total = total + waiting.pop(parts[added][0])
            added += 1
        step(stop - start)
    return total


def _sum_part(
    rows: FeatureRows, camera: NDArray[np.int64], cameras: int, start: int, stop: int
) -> tuple[int, int, CameraSums]:
    return start, stop, part_sums(rows, camera, cameras, (start, stop))
