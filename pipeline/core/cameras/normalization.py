"""Camera-aware normalization: remove from each feature what all crops of its camera have in common.

Light, color and viewpoint of a camera shift all its features in the same way, so crops of one
camera look alike, whoever they show. Song et al., "Exploring the camera bias of person
re-identification" (ICLR 2025): f' = (f - mean of the camera) / deviation of the camera, in each
dimension; earlier, Zhuang et al. did this inside a network, "Camera-based batch normalization"
(ECCV 2020).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, as_rows
from pipeline.core.cameras.sums import CameraSums, check_cameras
from pipeline.core.evaluation.labels import NO_CAMERA

CameraMode = Literal["mean", "zscore"]


@dataclass(frozen=True)
class CameraNormalization:
    """The settings of camera normalization, which precedes the scaling to unit length.

    `mean` subtracts the mean of the camera's gallery rows; `zscore` also divides by their standard
    deviation in each dimension. A camera of fewer than `least_rows` gallery rows, and rows of
    unknown camera, use the mean and deviation of all gallery rows.
    """

    mode: CameraMode = "zscore"
    least_rows: int = 16

    def __post_init__(self) -> None:
        if self.mode not in ("mean", "zscore"):
            raise ValueError(f"mode must be mean or zscore, not {self.mode!r}")
        if self.least_rows < 1:
            raise ValueError(
                f"a mean needs a row: least_rows must be at least 1, not {self.least_rows}"
            )

    @property
    def name(self) -> str:
        """The name of the figures; it always includes the mode."""
        return f"camera {self.mode}"

    @property
    def parameters(self) -> dict[str, str | int]:
        """The settings to record with the figures and features that they produced."""
        return {"camera_normalize": self.mode, "camera_rows": self.least_rows}

    def own_statistics(self, sums: CameraSums) -> NDArray[np.bool_]:
        """A mask `[C + 1]` of the entries of `sums` that are cameras with statistics of their
        own.
        """
        enough = sums.rows >= self.least_rows
        enough[NO_CAMERA] = False
        return enough


@dataclass(frozen=True, eq=False)
class NormalizedRows:
    """Unit vectors `[N, D]` after camera normalization, computed from `rows` when they are read.

    `camera` int64 `[N]` selects the line of `means` and `scales` float64 `[C + 1, D]` by which a
    row is shifted and then multiplied. A row's bits do not depend on the rows read with it. A row
    that equals its camera's mean has no direction left, and stays unchanged. Picklable if `rows`
    is.
    """

    rows: FeatureRows
    camera: NDArray[np.int64]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """D."""
        return self.rows.dimension

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, normalized."""
        return self._normalized(self.rows.read(start, stop), self.camera[start:stop])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions`, normalized."""
        return self._normalized(self.rows.take(positions), self.camera[positions])

    def _normalized(
        self, block: NDArray[np.float32], camera: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        out = np.empty_like(block)
        _normalize(block, camera, self.means, self.scales, out)
        return out


def normalize_cameras(
    rows: NDArray[np.float32] | FeatureRows,
    camera: NDArray[np.int64],
    sums: CameraSums,
    settings: CameraNormalization,
) -> NormalizedRows:
    """Normalize `rows` `[N, D]` (unit vectors, of `camera` `[N]`) with the `sums` of a gallery.

    Gallery rows and queries use the statistics of the gallery's rows of their camera. Queries do
    not contribute to the statistics, so a query's list does not depend on other queries. Deviations
    are those of the population (over n). A dimension in which a camera hardly varies, with a
    deviation of at most 1e-5, is only shifted.

    >>> from pipeline.core.cameras.sums import camera_sums
    >>> rows = np.array([[0.6, 0.8], [0.8, 0.6], [0.6, 0.8], [1, 0]], np.float32)
    >>> camera = np.array([0, 0, -1, -1])
    >>> settings = CameraNormalization("mean", least_rows=2)
    >>> normalize_cameras(rows, camera, camera_sums(rows, camera, 1), settings).read(0, 2).round(3)
    array([[-0.707,  0.707],
           [ 0.707, -0.707]], dtype=float32)
    """
    rows = as_rows(rows)
    check_cameras(rows, camera, sums.cameras)
    if rows.dimension != sums.dimension:
        raise ValueError(
            f"features have {rows.dimension} dimensions, the sums of the gallery {sums.dimension}"
        )
    total = int(sums.rows.sum())
    if total == 0:
        raise ValueError("the gallery has no row whose mean could be taken")
    own = settings.own_statistics(sums)[:, None]
    count = np.where(own, sums.rows[:, None], total)
    means = np.where(own, sums.sums, sums.sums.sum(axis=0)) / count
    scales = np.ones_like(means)
    if settings.mode == "zscore":
        squares = np.where(own, sums.squares, sums.squares.sum(axis=0)) / count
        variances = squares - means**2
        # Features have length 1, so a smaller deviation is not part of them. The limit also exceeds
        # the rounding error in a constant dimension: a sum of `PART` squares is off by up to 2^-37
        # of it.
        varies = variances > 1e-10
        scales[varies] = 1 / np.sqrt(variances[varies])
    return NormalizedRows(rows, camera, means, scales)


@njit(nogil=True, cache=True)
def _normalize(
    block: NDArray[np.float32],
    camera: NDArray[np.int64],
    means: NDArray[np.float64],
    scales: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    dimension = block.shape[1]
    row = np.empty(dimension, np.float64)
    for i in range(block.shape[0]):
        # Camera -1 is the last entry.
        entry = camera[i] if camera[i] >= 0 else means.shape[0] - 1
        left, scaled = 0.0, 0.0
        for t in range(dimension):
            shifted = block[i, t] - means[entry, t]
            row[t] = shifted * scales[entry, t]
            left += shifted * shifted
            scaled += row[t] * row[t]
        length = np.sqrt(scaled)
        # Rounding may leave up to 1e-6 of a float32 unit vector that equals its mean.
        for t in range(dimension):
            out[i, t] = np.float32(row[t] / length) if np.sqrt(left) > 1e-6 else block[i, t]
