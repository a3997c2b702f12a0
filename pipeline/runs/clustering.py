"""Clusters of features that probably show one identity, without labels."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows
from pipeline.core.clusters.dbscan import NOISE, checked_links, dbscan
from pipeline.core.clusters.encoding import (
    CameraEncoding,
    PlainEncoding,
    encode,
    encode_by_camera,
)
from pipeline.core.clusters.jaccard import jaccard_pairs
from pipeline.core.clusters.stability import EpsChoice, EpsGrid, choose_eps
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK
from pipeline.core.row_hashes import row_signatures
from pipeline.errors import InputError
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.capture_times import camera_numbers
from pipeline.gallery.sidecars.graph import positions_of
from pipeline.gallery.table import Gallery
from pipeline.runs.arrays import Features, feature_rows, make_labels
from pipeline.runs.resources import joined
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.runs.split_graph import build_split_graph
from pipeline.stages.clusters import encode_rows, encode_rows_by_camera, near_pairs
from pipeline.stages.execution import Execution, StartProgress
from pipeline.stages.neighbors import build_graph


def jaccard_clusters(
    features: Features,
    cameras: Sequence[Any] | NDArray[Any] | None = None,
    *,
    eps: float | EpsGrid = 0.6,
    min_samples: int = 4,
    must: ArrayLike = (),
    cannot: ArrayLike = (),
    encoding: PlainEncoding | CameraEncoding | None = None,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """The cluster int64 `[N]` of every row of `features` `[N, D]`, from 0; -1 is noise.

    DBSCAN on Jaccard distances of k-reciprocal encodings: two rows are near if their distance is at
    most `eps`, and a row with `min_samples` near rows (itself among them) is a core row. If `eps`
    is an `EpsGrid`, that of its eps is taken around which the number of clusters changes least.
    With `cameras` `[N]` (numbers, text, or None) the encoding is camera-aware (CA-Jaccard, CVPR
    2024), and without them that of Cluster-Contrast; `encoding` holds other sizes. Rows of each
    pair in `must` `[L, 2]` are put into one cluster, and those of each pair in `cannot` are kept
    apart.
    No N x N array exists: memory is that of the neighbors and of the near pairs.

    Rows must have length 1; with `normalize` they are scaled to it. Raise ValueError for other
    rows, for cameras that do not fit, and for links that contradict each other.

    >>> x = [[1, 0], [0.96, 0.28], [0, 1], [0.28, 0.96]]
    >>> jaccard_clusters(x, min_samples=2, encoding=PlainEncoding(k1=2, k2=1))
    array([0, 0, 1, 1])
    """
    rows = as_rows(feature_rows(features, "features", normalize))
    if encoding is None:
        encoding = PlainEncoding() if cameras is None else CameraEncoding()
    if isinstance(encoding, CameraEncoding):
        if cameras is None or len(cameras) != len(rows):
            given = "none" if cameras is None else len(cameras)
            raise ValueError(f"a camera is needed for each of {len(rows)} rows, and {given} given")
        (labels,) = make_labels((np.zeros(len(rows), np.int64), cameras))
        same, other = neighbors_by_camera(
            rows.read(0, len(rows)), labels.camera, *encoding.neighbors, tiling=tiling
        )
        weights = encode_by_camera(same, other, encoding, tiling=tiling)
    else:
        near = neighbors(rows, encoding.neighbors, tiling=tiling)
        weights = encode(rows, near, encoding, tiling=tiling)
    pairs = jaccard_pairs(weights, eps.highest if isinstance(eps, EpsGrid) else eps, tiling=tiling)
    if isinstance(eps, EpsGrid):
        pairs = pairs.within(choose_eps(pairs, min_samples, eps).eps)
    return dbscan(pairs, min_samples, must=np.asarray(must), cannot=np.asarray(cannot))


@dataclass(frozen=True)
class ClusterSettings:
    """How rows are clustered: DBSCAN on Jaccard distances."""

    eps: float | None = None
    """Greatest distance of two rows that are near each other (default: that of `grid` around which
    the number of clusters changes least)."""
    grid: EpsGrid = EpsGrid()
    """The eps among which one is chosen."""
    min_samples: int = 4
    """Rows that must be near a core row, itself among them."""
    encoding: PlainEncoding | CameraEncoding | None = None
    """Sizes of the lists (default: camera-aware where cameras are known)."""

    def __post_init__(self) -> None:
        if self.eps is not None and not 0 <= self.eps < 1:
            raise InputError(f"`eps` lies from 0 to below 1, not {self.eps}")
        if self.min_samples < 1:
            raise InputError(f"`min_samples` must be at least 1, not {self.min_samples}")


@dataclass(frozen=True, eq=False)
class RowClusters:
    """The clusters of a set of rows: `labels` int64 `[N]` from 0, or -1 for noise, by position.

    `eps` is the one in use, and `choice` says how it was chosen; None if it was given.
    """

    labels: NDArray[np.int64]
    eps: float
    choice: EpsChoice | None

    @property
    def count(self) -> int:
        """The number of clusters."""
        return int(self.labels.max(initial=NOISE)) + 1

    @property
    def noise(self) -> float:
        """The share of rows of no cluster; 0 without rows."""
        return float((self.labels == NOISE).mean()) if len(self.labels) else 0.0


def cluster_rows(
    rows: FeatureRows,
    folder: Path,
    settings: ClusterSettings = ClusterSettings(),
    *,
    cameras: NDArray[np.int64] | None = None,
    must: ArrayLike = (),
    cannot: ArrayLike = (),
    execution: Execution = Execution(),
) -> RowClusters:
    """Cluster unit `rows` `[N, D]`, read block by block, here or on Ray.

    Labels are those of `jaccard_clusters`, to the bit. `cameras` int64 `[N]` are numbers from 0, or
    -1 where unknown; `must` and `cannot` are pairs of positions `[L, 2]`. Graphs and near pairs are
    written to `folder`, which every worker sees; after a kill, the same call resumes. Beside two
    blocks of rows for each worker, memory holds 12 bytes for each neighbor, twice the weights (some
    tens of 8 bytes for each row), and 32 bytes for each near pair. ValueError for cameras that do
    not fit, and for links that contradict each other.
    """
    links = checked_links(np.asarray(must), np.asarray(cannot), len(rows))
    encoding = settings.encoding
    if encoding is None:
        encoding = PlainEncoding() if cameras is None else CameraEncoding()
    if isinstance(encoding, CameraEncoding):
        if cameras is None:
            raise ValueError("a camera-aware encoding needs cameras")
        lists = build_split_graph(rows, cameras, *encoding.neighbors, folder, execution=execution)
        weights = encode_rows_by_camera(*lists, encoding, execution=execution)
    else:
        near = TopK.none(len(rows), encoding.neighbors)
        if len(rows) > 1:
            k = min(encoding.neighbors, len(rows) - 1)
            signatures = row_signatures(rows, tiling=execution.tiling)
            graph = build_graph(
                rows, k, folder / "graph", signatures=signatures, execution=execution
            )
            near = graph.read(0, len(rows))
        weights = encode_rows(rows, near, encoding, execution=execution)
    limit = settings.grid.highest if settings.eps is None else settings.eps
    pairs = near_pairs(weights, limit, folder, execution=execution)
    choice = None
    if settings.eps is None:
        choice = choose_eps(pairs, settings.min_samples, settings.grid)
        limit = choice.eps
        pairs = pairs.within(limit)
    labels = dbscan(pairs, settings.min_samples, must=links[0], cannot=links[1])
    return RowClusters(labels, limit, choice)


def cluster_gallery(
    gallery: Gallery,
    settings: ClusterSettings = ClusterSettings(),
    *,
    must: ArrayLike = (),
    cannot: ArrayLike = (),
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> RowClusters:
    """Cluster the rows of a gallery; labels are in the order of its row ids.

    Where any row has a camera, the encoding is camera-aware by default. `must` and `cannot` are
    pairs of row ids `[L, 2]`. Scratch files, named by the contents of the gallery and the settings,
    go below `on.scratch`; memory is that of `cluster_rows`. InputError for a row that does not
    exist, and for links that contradict each other.
    """
    check_scratch(on.scratch)
    rows = gallery.rows(["row_id", "camera"])
    ids, cameras = rows["row_id"].to_numpy(), camera_numbers(rows["camera"])
    known = cameras if (cameras >= 0).any() else None
    if known is None and isinstance(settings.encoding, CameraEncoding):
        raise InputError(f"{gallery.location} has no row of a camera: use `PlainEncoding`")
    together, apart = (_positions(gallery, ids, links) for links in (must, cannot))
    try:
        checked_links(together, apart, len(ids))
    except ValueError as error:
        raise InputError(f"{gallery.location}: {error} (rows by position)") from error
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        about = asdict(settings)
        folder = stack.enter_context(scratch_folder(on.scratch, "cluster", [gallery], about))
        return cluster_rows(
            gallery.features(), folder, settings, cameras=known, must=together, cannot=apart,
            execution=on.execution(progress),
        )  # fmt: skip


def _positions(gallery: Gallery, ids: NDArray[np.int64], links: ArrayLike) -> NDArray[np.int64]:
    pairs = np.asarray(links, np.int64).reshape(-1, 2)
    places = positions_of(pairs, ids)
    if (places < 0).any():
        raise InputError(
            f"{gallery.location} has no row {pairs[places < 0][0]}, which a link names"
        )
    return places
