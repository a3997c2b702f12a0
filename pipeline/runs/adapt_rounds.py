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

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.clusters.dbscan import NOISE
from pipeline.core.clusters.encoding import CameraEncoding
from pipeline.core.clusters.stability import EpsChoice
from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA
from pipeline.core.identities.clustering import Agreement, agreement
from pipeline.errors import RunError
from pipeline.gallery.labels import camera_numbers
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.output_files import replace_file
from pipeline.runs.adapted import AdaptRound, RoundSettings
from pipeline.runs.clustering import ClusterSettings, RowClusters, cluster_rows
from pipeline.training.losses.camera_proxies import CameraProxies
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.objectives import ClusterObjective

LinkedRows = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of rows `[L, 2]` that must, and that must not, be of one cluster."""

CLUSTERS = "clusters.parquet"
_ROUND = "round.json"
_FIRST_ROUND = CameraEncoding(k2_same=3, k2_other=3)


@dataclass(frozen=True)
class SeenRows:
    """The rows that a round learns from.

    These are their features `[N, D]` and, int64 `[N]` each, cameras and places among the prepared
    crops; `identity` is only for figures.
    """

    features: FeatureRows
    camera: NDArray[np.int64]
    crop: NDArray[np.int64]
    identity: NDArray[np.int64]
    path: pa.ChunkedArray
    camera_name: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.features)


def seen_rows(gallery: Gallery, crops: pa.ChunkedArray, held_out: NDArray[np.bool_]) -> SeenRows:
    """The rows of a gallery whose path is among `crops`, without those that are held out `[N]`."""
    rows = gallery.rows(["path", "camera", "identity"])
    crop = pc.fill_null(pc.index_in(rows["path"], crops.combine_chunks()), -1).to_numpy()
    kept = np.flatnonzero((crop >= 0) & ~held_out)
    names = rows["camera"].drop_null().unique().sort().to_pylist()
    return SeenRows(
        features=ChosenRows(gallery.features(), kept),
        camera=camera_numbers(rows["camera"], names)[kept],
        crop=crop[kept].astype(np.int64),
        identity=pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()[kept],
        path=rows["path"].take(pa.array(kept)),
        camera_name=rows["camera"].take(pa.array(kept)),
    )


def find_clusters(
    rows: SeenRows, settings: RoundSettings, links: LinkedRows, folder: Path, *, first: bool
) -> RowClusters:
    """Cluster rows by camera-aware Jaccard distances, or by plain ones if no camera is known.

    `links` are pairs of rows that must and that must not be of one cluster. Raise RunError if fewer
    clusters are found than a batch needs.
    """
    must, cannot = links
    known = (rows.camera != NO_CAMERA).any()
    found = cluster_rows(
        rows.features,
        folder,
        ClusterSettings(
            eps=settings.eps,
            min_samples=settings.min_samples,
            encoding=_FIRST_ROUND if first and known else None,
        ),
        cameras=rows.camera if known else None,
        must=must,
        cannot=cannot,
    )
    if found.count < settings.people:
        raise RunError(_too_few_clusters(len(rows), found, settings))
    return found


def _too_few_clusters(rows: int, found: RowClusters, settings: RoundSettings) -> str:
    """How many clusters there are, and with which values there are enough."""
    advice = []
    if found.choice is not None and max(found.choice.clusters) >= settings.people:
        most = int(np.argmax(found.choice.clusters))
        advice.append(f"`eps` {found.choice.grid[most]:g} ({found.choice.clusters[most]} clusters)")
    if found.choice is None:
        advice.append("another `eps`, or none, to have it chosen")
    if found.count >= 2:
        advice.append(f"at most {found.count} `people`")
    if settings.min_samples > 2:
        advice.append(f"`min_samples` below {settings.min_samples} (at least 2)")
    return (
        f"{rows} rows fall into {found.count} clusters at eps {found.eps:g}, and a batch takes"
        f" {settings.people} (`people`): give {', or '.join([*advice, 'more crops'])}"
    )


def objective_of(rows: SeenRows, labels: NDArray[np.int64]) -> ClusterObjective:
    """The memories of clusters, and of each cluster's cameras if there are several cameras.

    Reads all features into memory.
    """
    features = torch.from_numpy(rows.features.read(0, len(rows)))
    clusters = torch.from_numpy(labels)
    memory = ClusterMemory.of(features, clusters)
    if len(np.unique(rows.camera[labels >= 0])) < 2:
        return ClusterObjective(memory)
    cameras = torch.from_numpy(rows.camera)
    return ClusterObjective(memory, CameraProxies.of(features, clusters, cameras))


def describe_round(
    number: int, rows: SeenRows, found: RowClusters, losses: list[dict[str, float]]
) -> AdaptRound:
    """What a round found and did."""
    inside = found.labels != NOISE
    labeled = inside & (rows.identity > DISTRACTOR)
    seen = np.unique(np.stack([found.labels[inside], rows.camera[inside]]), axis=1)
    return AdaptRound(
        number=number,
        rows_clustered=len(rows),
        clusters=found.count,
        noise=int((~inside).sum()),
        cameras_per_cluster=seen.shape[1] / max(1, found.count),
        eps=found.eps,
        choice=found.choice,
        agreement=agreement(found.labels[labeled], rows.identity[labeled])
        if labeled.any()
        else None,
        losses=losses,
    )


def write_round(folder: Path, told: AdaptRound, rows: SeenRows, found: RowClusters) -> None:
    """Write a round's clusters, and then, as the last file of a finished round, what was told."""
    table = pa.table({"path": rows.path, "camera": rows.camera_name, "cluster": found.labels})
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
