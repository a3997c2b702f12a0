"""Rows as sparse weights over the rows that they resemble, as the clustering of features uses them.

The plain form is that of SpCL and Cluster-Contrast (Ge et al., NeurIPS 2020; Dai et al., ACCV
2022). It is k-reciprocal encoding (see `reranking.reciprocal`) with lists of `k1` members, the row
itself among them, and weights softmax(-d), d = 2 - 2 s, that no column maximum scales.

The camera-aware form is CA-Jaccard (Chen et al., CVPR 2024). A row is encoded by its reciprocal
neighbors within its own camera and by those among all other cameras, without an expansion, and the
mean is over neighbors of both kinds.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, blocks
from pipeline.core.neighbors.topk import TopK
from pipeline.core.products.kernels import read_only
from pipeline.core.reranking.reciprocal import (
    SparseRows,
    distance,
    is_among,
    mean_over,
    stacked,
    weights,
)


@dataclass(frozen=True)
class PlainEncoding:
    """Sizes of the plain form; both lists count the row itself."""

    k1: int = 30
    """Members of a list of neighbors."""
    k2: int = 6
    """Rows over which the weights are averaged; 1 for no mean."""

    def __post_init__(self) -> None:
        if self.k1 < 2 or self.k2 < 1:
            raise ValueError(f"k1 must be 2 or more and k2 1 or more, not {self.k1} and {self.k2}")

    @property
    def neighbors(self) -> int:
        """How many neighbors of each row it reads, the row itself not counted."""
        return max(self.k1 - 1, self.k2 - 1, round(self.k1 / 2))


@dataclass(frozen=True)
class CameraEncoding:
    """Sizes of the camera-aware form.

    The published code takes `k1_other` + 1 rows of other cameras: its lists have room for the row
    itself, which no list of other cameras holds. So does this one.
    """

    k1_same: int = 5
    """Nearest rows of the row's own camera."""
    k1_other: int = 20
    """Nearest rows of other cameras, less one."""
    k2_same: int = 2
    """Rows of the own camera in the mean, the row itself among them; 3 in the first round."""
    k2_other: int = 4
    """Rows of other cameras in the mean; 3 in the first round."""

    def __post_init__(self) -> None:
        if min(self.k1_same, self.k1_other, self.k2_same) < 1 or self.k2_other < 0:
            raise ValueError(
                "k1_same, k1_other and k2_same must be 1 or more, and k2_other 0 or more, not"
                f" {self.k1_same}, {self.k1_other}, {self.k2_same} and {self.k2_other}"
            )

    @property
    def neighbors(self) -> tuple[int, int]:
        """How many neighbors of each row it reads: of its own camera, and of all others."""
        return max(self.k1_same, self.k2_same - 1), max(self.k1_other + 1, self.k2_other)


def encode(
    rows: FeatureRows,
    neighbors: TopK,
    settings: PlainEncoding = PlainEncoding(),
    *,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The plain weights of N `rows` `[N, D]` of unit length: a column for each row.

    `neighbors` are the `settings.neighbors` best neighbors of every row, or more, a row not counted
    among its own. ValueError if there are fewer although there are enough rows.

    >>> from pipeline.core.blocks import ArrayRows
    >>> x = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> near = TopK(np.array([[1, 0], [1, 0], [0, 0]], np.float32),
    ...             np.array([[1, 2], [0, 2], [0, 1]]))
    >>> encode(ArrayRows(x), near, PlainEncoding(k1=2, k2=1)).arrays[:2]
    (array([0, 2, 4, 5]), array([0, 1, 0, 1, 2], dtype=int32))
    """
    own = plain_weights(rows, neighbors, settings, tiling=tiling)
    return mean_over(own, neighbors.rows[:, : settings.k2 - 1], tiling=tiling)


def plain_weights(
    rows: FeatureRows,
    neighbors: TopK,
    settings: PlainEncoding,
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The plain weights of the rows `part` (all by default) before the mean; see `encode`."""
    needed = min(settings.neighbors, len(rows) - 1)
    if neighbors.k < needed:
        raise ValueError(f"lists of {neighbors.k} neighbors are given, and {needed} are needed")
    return weights(
        rows, neighbors, np.ones(len(rows)), settings.k1 - 1, False,
        half=round(settings.k1 / 2), part=part, tiling=tiling,
    )  # fmt: skip


def encode_by_camera(
    same: TopK,
    other: TopK,
    settings: CameraEncoding = CameraEncoding(),
    *,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The camera-aware weights of N rows, from their lists by `neighbors_by_camera`.

    `same` `[N, K]` and `other` `[N, L]` hold the `settings.neighbors` best rows, or more.
    ValueError if a list is shorter.

    >>> same = TopK(np.array([[0.9], [0.9]], np.float32), np.array([[1], [0]]))
    >>> made = encode_by_camera(same, TopK.none(2, 21), CameraEncoding(k1_same=1))
    >>> made.columns, made.values.round(2)
    (array([0, 1, 0, 1], dtype=int32), array([0.5, 0.5, 0.5, 0.5], dtype=float32))
    """
    own = camera_weights(same, other, settings, tiling=tiling)
    return mean_over(own, lists_of_mean(same, other, settings), tiling=tiling)


def camera_weights(
    same: TopK,
    other: TopK,
    settings: CameraEncoding,
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The camera-aware weights of the rows `part` (all by default) before the mean."""
    for found, needed, name in zip(
        (same, other), settings.neighbors, ("same", "other"), strict=True
    ):
        if found.k < needed:
            raise ValueError(f"{name}: lists of {found.k} are given, and {needed} are needed")
    made: dict[int, SparseRows] = {}

    def fill(start: int, stop: int) -> None:
        made[start] = SparseRows(
            *_reciprocal_of_both(
                read_only(same.rows), read_only(same.scores), settings.k1_same,
                read_only(other.rows), read_only(other.scores), settings.k1_other + 1, start, stop,
            )
        )  # fmt: skip

    first, last = part or (0, len(same.rows))
    with tiling.workers() as run:
        run(fill, blocks(last, 8192, first))
    return stacked([made[start] for start in sorted(made)])


def lists_of_mean(same: TopK, other: TopK, settings: CameraEncoding) -> NDArray[np.int64]:
    """The rows int64 `[N, K]` whose camera-aware weights are averaged with those of each row."""
    lists = [same.rows[:, : settings.k2_same - 1], other.rows[:, : settings.k2_other]]
    return np.concatenate(lists, axis=1)


@njit(nogil=True, cache=True)
def _reciprocal_of_both(
    same: NDArray[np.int64],
    same_scores: NDArray[np.float32],
    k_same: int,
    other: NDArray[np.int64],
    other_scores: NDArray[np.float32],
    k_other: int,
    start: int,
    stop: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """softmax(-d) over a row and its reciprocal neighbors of both kinds, columns ascending."""
    room = 1 + k_same + k_other
    starts = np.zeros(stop - start + 1, np.int64)
    columns = np.empty((stop - start) * room, np.int32)
    values = np.empty((stop - start) * room, np.float32)
    members = np.empty(room, np.int32)
    distances = np.empty(room, np.float64)
    end = 0
    for i in range(start, stop):
        members[0], distances[0], size = i, 0.0, 1
        for x in range(k_same):
            j = same[i, x]
            if j >= 0 and is_among(i, same[j], k_same):
                members[size] = j
                distances[size] = distance(same_scores[i, x], False)
                size += 1
        for x in range(k_other):
            j = other[i, x]
            if j >= 0 and is_among(i, other[j], k_other):
                members[size] = j
                distances[size] = distance(other_scores[i, x], False)
                size += 1
        order = np.argsort(members[:size])
        total = 0.0
        for x in order:
            total += math.exp(-distances[x])
        for x in order:
            columns[end] = members[x]
            values[end] = np.float32(math.exp(-distances[x]) / total)
            end += 1
        starts[i - start + 1] = end
    return starts, columns[:end].copy(), values[:end].copy()
