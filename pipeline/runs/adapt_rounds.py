"""One round of adaptation: cluster what the network sees now, and train it on the clusters."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, as_rows
from pipeline.core.clusters.dbscan import NOISE, dbscan
from pipeline.core.clusters.encoding import CameraEncoding, PlainEncoding, encode, encode_by_camera
from pipeline.core.clusters.jaccard import JaccardPairs, jaccard_pairs
from pipeline.core.clusters.stability import EpsChoice, EpsGrid, choose_eps
from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA
from pipeline.core.identities.clustering import Agreement, agreement
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.core.neighbors.pairs import neighbors
from pipeline.errors import RunError
from pipeline.gallery.labels import camera_numbers
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.output_files import replace_file
from pipeline.runs.adapted import AdaptRound, RoundSettings
from pipeline.training.losses.camera_proxies import CameraProxies
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.objectives import ClusterObjective

CLUSTERS = "clusters.parquet"
_ROUND = "round.json"
_FIRST_ROUND = CameraEncoding(k2_same=3, k2_other=3)


@dataclass(frozen=True)
class SeenRows:
    """The rows that a round learns from.

    These are their features `[N, D]` and, int64 `[N]` each, cameras and tracklets (-1 for none) and
    places among the prepared crops; `identity` is only for figures.
    """

    features: NDArray[np.float32]
    camera: NDArray[np.int64]
    tracklet: NDArray[np.int64]
    crop: NDArray[np.int64]
    identity: NDArray[np.int64]
    path: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.features)


def seen_rows(gallery: Gallery, crops: pa.ChunkedArray, held_out: NDArray[np.bool_]) -> SeenRows:
    """The rows of a gallery whose path is among `crops`, without those that are held out `[N]`."""
    rows = gallery.rows(["path", "camera", "identity", "tracklet"])
    crop = pc.fill_null(pc.index_in(rows["path"], crops.combine_chunks()), -1).to_numpy()
    kept = np.flatnonzero((crop >= 0) & ~held_out)
    names = rows["camera"].drop_null().unique().sort().to_pylist()
    return SeenRows(
        features=gallery.features().take(kept),
        camera=camera_numbers(rows["camera"], names)[kept],
        tracklet=camera_numbers(rows["tracklet"], rows["tracklet"].drop_null().unique())[kept],
        crop=crop[kept].astype(np.int64),
        identity=pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()[kept],
        path=rows["path"].take(pa.array(kept)),
    )


@dataclass(frozen=True)
class FoundClusters:
    """The cluster int64 `[N]` of each row, from 0, or -1 for noise; and how eps was chosen."""

    labels: NDArray[np.int64]
    eps: float
    choice: EpsChoice | None

    @property
    def count(self) -> int:
        """The number of clusters."""
        return int(self.labels.max(initial=NOISE)) + 1


def find_clusters(
    rows: SeenRows,
    settings: RoundSettings,
    links: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    first: bool,
    tiling: Tiling = Tiling(),
) -> FoundClusters:
    """Cluster rows by camera-aware Jaccard distances, or by plain ones if no camera is known.

    `links` are pairs of rows that must and that must not be of one cluster. Raise RunError if fewer
    clusters are found than a batch needs.
    """
    must, cannot = links
    if settings.tracklets:
        must = np.concatenate([must, _tracklet_links(rows.tracklet)])
    pairs = _near_pairs(rows, settings, first=first, tiling=tiling)
    choice = None if settings.eps is not None else choose_eps(pairs, settings.min_samples)
    eps = settings.eps if choice is None else choice.eps
    labels = dbscan(pairs.within(eps or 0.0), settings.min_samples, must=must, cannot=cannot)
    found = FoundClusters(labels, eps or 0.0, choice)
    if found.count < settings.people:
        raise RunError(
            f"{len(rows)} rows fall into {found.count} clusters at eps {found.eps:g}, and a batch"
            f" takes {settings.people} (`people`): give another `eps`, fewer `people` or fewer"
            " `min_samples`, or more crops"
        )
    return found


def _tracklet_links(tracklet: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of rows `[L, 2]` that together link all rows of each tracklet; -1 is no tracklet."""
    order = np.argsort(tracklet, kind="stable")
    order = order[tracklet[order] >= 0]
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    return pairs[tracklet[pairs[:, 0]] == tracklet[pairs[:, 1]]]


def _near_pairs(
    rows: SeenRows, settings: RoundSettings, *, first: bool, tiling: Tiling
) -> JaccardPairs:
    largest = EpsGrid().highest if settings.eps is None else settings.eps
    if (rows.camera == NO_CAMERA).all():
        plain = PlainEncoding()
        near = neighbors(as_rows(rows.features), plain.neighbors, tiling=tiling)
        return jaccard_pairs(
            encode(as_rows(rows.features), near, plain, tiling=tiling), largest, tiling=tiling
        )
    aware = _FIRST_ROUND if first else CameraEncoding()
    same, other = neighbors_by_camera(rows.features, rows.camera, *aware.neighbors, tiling=tiling)
    return jaccard_pairs(
        encode_by_camera(same, other, aware, tiling=tiling), largest, tiling=tiling
    )


def objective_of(rows: SeenRows, labels: NDArray[np.int64]) -> ClusterObjective:
    """The memories of clusters, and of each cluster's cameras if there are several cameras."""
    features, clusters = torch.from_numpy(rows.features), torch.from_numpy(labels)
    memory = ClusterMemory.of(features, clusters)
    if len(np.unique(rows.camera[labels >= 0])) < 2:
        return ClusterObjective(memory)
    cameras = torch.from_numpy(rows.camera)
    return ClusterObjective(memory, CameraProxies.of(features, clusters, cameras))


def describe_round(
    number: int, rows: SeenRows, found: FoundClusters, losses: list[dict[str, float]]
) -> AdaptRound:
    """What a round found and did."""
    inside = found.labels != NOISE
    labeled = inside & (rows.identity > DISTRACTOR)
    seen = np.unique(np.stack([found.labels[inside], rows.camera[inside]]), axis=1)
    return AdaptRound(
        number=number,
        rows=len(rows),
        clusters=found.count,
        noise=int((~inside).sum()),
        cameras=seen.shape[1] / max(1, found.count),
        eps=found.eps,
        choice=found.choice,
        agreement=agreement(found.labels[labeled], rows.identity[labeled])
        if labeled.any()
        else None,
        losses=losses,
    )


def write_round(folder: Path, told: AdaptRound, rows: SeenRows, found: FoundClusters) -> None:
    """Write a round's clusters, and then, as the last file of a finished round, what was told."""
    table = pa.table({"path": rows.path, "cluster": found.labels})
    replace_file(folder / CLUSTERS, lambda file: pq.write_table(table, file))
    text = json.dumps(asdict(told), indent=2).encode()
    replace_file(folder / _ROUND, lambda file: file.write(text))


def read_round(folder: Path) -> AdaptRound | None:
    """What `write_round` wrote; None for a round that is not finished."""
    if not (folder / _ROUND).exists():
        return None
    held = parse_json((folder / _ROUND).read_bytes())
    choice, agreed = held["choice"], held["agreement"]
    return AdaptRound(
        **held
        | {
            "choice": None if choice is None else EpsChoice(**_tuples(choice)),
            "agreement": None if agreed is None else Agreement(**agreed),
        }
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
