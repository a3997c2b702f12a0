"""What the features of each camera add up to, part by part of the rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, blocks
from pipeline.core.cameras import sums as camera_sums
from pipeline.core.cameras.sums import CameraSums, check_cameras, part_sums
from pipeline.stages.tasks import run_parts


def sum_cameras(
    rows: FeatureRows,
    camera: NDArray[np.int64],
    cameras: int,
    *,
    workers: int = 0,
    progress: Callable[[int], None] = lambda _rows: None,
) -> CameraSums:
    """The sums of `core.camera_sums.camera_sums`, on `workers` Ray tasks (0: in this process).

    Parts are the same for any number of workers and added in their order, so the bits are too.
    `progress` is told the rows of every part. Memory is a block of rows, and C x D sums in each.
    """
    check_cameras(rows, camera, cameras)
    total = CameraSums.nothing(cameras, rows.dimension)
    parts = list(blocks(len(rows), camera_sums.PART))
    waiting: dict[int, CameraSums] = {}
    added = 0
    for start, stop, found in run_parts(_sum_part, (rows, camera, cameras), parts, workers):
        waiting[start] = found
        while added < len(parts) and parts[added][0] in waiting:
            total = total + waiting.pop(parts[added][0])
            added += 1
        progress(stop - start)
    return total


def _sum_part(
    rows: FeatureRows, camera: NDArray[np.int64], cameras: int, start: int, stop: int
) -> tuple[int, int, CameraSums]:
    return start, stop, part_sums(rows, camera, cameras, (start, stop))
