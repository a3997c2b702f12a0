"""The sums of the features of each camera, in one pass over the rows."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, as_rows, blocks
from pipeline.core.evaluation.labels import NO_CAMERA

PART = 65_536
"""Number of consecutive rows that are summed one after the other; the sums of parts are then added
in order. Float64 sums depend on their order, so the order follows from the positions of the rows
alone.
"""

_READ_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class CameraSums:
    """Count, sum and sum of squares of the features of every camera; `+` adds those of other rows.

    `rows` int64 `[C + 1]`, `sums` and `squares` float64 `[C + 1, D]`: entry c is camera c, and the
    last entry is for rows of unknown camera.
    """

    rows: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.sums.ndim != 2 or self.sums.shape != self.squares.shape:
            raise ValueError(
                f"sums {self.sums.shape} and squares {self.squares.shape} must be one shape"
                " [C + 1, D]"
            )
        if len(self.rows) != len(self.sums) or len(self.rows) == 0:
            raise ValueError(f"{len(self.rows)} counts do not go with {len(self.sums)} sums")

    @classmethod
    def nothing(cls, cameras: int, dimension: int) -> "CameraSums":
        """The sums of no rows, for this number of known cameras."""
        shape = cameras + 1, dimension
        return cls(np.zeros(cameras + 1, np.int64), np.zeros(shape), np.zeros(shape))

    @property
    def cameras(self) -> int:
        """C, the number of known cameras."""
        return len(self.rows) - 1

    @property
    def dimension(self) -> int:
        """D."""
        return self.sums.shape[1]

    def __add__(self, other: "CameraSums") -> "CameraSums":
        if self.sums.shape != other.sums.shape:
            raise ValueError(f"sums {self.sums.shape} and {other.sums.shape} cannot be added")
        return CameraSums(
            self.rows + other.rows, self.sums + other.sums, self.squares + other.squares
        )


def camera_sums(
    rows: NDArray[np.float32] | FeatureRows, camera: NDArray[np.int64], cameras: int
) -> CameraSums:
    """Add up `rows` `[N, D]` by their `camera` int64 `[N]`: 0 to `cameras` - 1, or -1.

    >>> camera_sums(np.array([[1, 0], [0, 1], [1, 0]], np.float32), np.array([0, 0, -1]), 1).sums
    array([[1., 1.],
           [1., 0.]])
    """
    rows = as_rows(rows)
    check_cameras(rows, camera, cameras)
    total = CameraSums.nothing(cameras, rows.dimension)
    for part in blocks(len(rows), PART):
        total = total + part_sums(rows, camera, cameras, part)
    return total


def part_sums(
    rows: FeatureRows,
    camera: NDArray[np.int64],
    cameras: int,
    part: tuple[int, int],
    at_once: int = _READ_AT_ONCE,
) -> CameraSums:
    """The sums of the rows of one part; `at_once`, the number of rows per read, changes no bit of
    them.
    """
    found = CameraSums.nothing(cameras, rows.dimension)
    first, last = part
    for start, stop in blocks(last, at_once, first):
        _add(rows.read(start, stop), camera[start:stop], found.rows, found.sums, found.squares)
    return found


def check_cameras(rows: FeatureRows, camera: NDArray[np.int64], cameras: int) -> None:
    """Raise ValueError unless every row has a camera from 0 to `cameras` - 1, or `NO_CAMERA`."""
    if len(rows) != len(camera):
        raise ValueError(f"{len(rows)} features do not go with {len(camera)} cameras")
    if len(camera) and not NO_CAMERA <= camera.min() <= camera.max() < cameras:
        raise ValueError(
            f"cameras from {camera.min()} to {camera.max()}, where {cameras} are known"
        )


@njit(nogil=True, cache=True)
def _add(
    block: NDArray[np.float32],
    camera: NDArray[np.int64],
    rows: NDArray[np.int64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    for i in range(block.shape[0]):
        # Camera -1 is the last entry.
        entry = camera[i] if camera[i] >= 0 else rows.shape[0] - 1
        rows[entry] += 1
        for t in range(block.shape[1]):
            value = np.float64(block[i, t])
            sums[entry, t] += value
            squares[entry, t] += value * value
