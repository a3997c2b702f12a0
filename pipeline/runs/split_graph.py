"""The nearest rows of every row's own camera, and of all other cameras, on the disk and on Ray."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.neighbors.apart import NO_GROUP
from pipeline.core.neighbors.topk import TopK
from pipeline.core.row_hashes import row_signatures
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import build_graph


def build_split_graph(
    rows: FeatureRows,
    cameras: NDArray[np.int64],
    same: int,
    other: int,
    folder: Path,
    *,
    execution: Execution = Execution(),
) -> tuple[TopK, TopK]:
    """Compute the result of `core.neighbors.by_camera.neighbors_by_camera`, with graphs in
    `folder`.

    One graph holds the neighbors of other cameras, and each camera has one of its own; their names
    depend on the cameras of all rows. If an earlier run left them there, for the same features,
    this one resumes with their tiles. Each worker holds two blocks of rows, and this process the
    result: 12 bytes for each neighbor of each row. ValueError if the cameras are not one number
    from -1 for each row.
    """
    if cameras.shape != (len(rows),) or cameras.min(initial=NO_GROUP) < NO_GROUP:
        raise ValueError(f"cameras must be a number from -1 for each of {len(rows)} rows")
    signatures = row_signatures(rows, tiling=execution.tiling)
    key = hashlib.blake2b(np.ascontiguousarray(cameras, "<i8").data, digest_size=8).hexdigest()
    own = TopK.none(len(rows), same)
    step = execution.progress("neighbors of the own camera", len(rows))
    inside = replace(execution, progress=lambda _name, _length: step)
    for camera in np.unique(cameras[cameras != NO_GROUP]).tolist():
        places = np.flatnonzero(cameras == camera)
        k = min(same, len(places) - 1)
        if k < 1:
            step(len(places))
            continue
        graph = build_graph(
            ChosenRows(rows, places), k, folder / f"own-{key}-{camera}",
            signatures=signatures[places], execution=inside,
        )  # fmt: skip
        near = graph.read(0, len(places))
        own.scores[places, : near.k] = near.scores
        own.rows[places, : near.k] = np.where(near.rows < 0, -1, places[near.rows])
    step(int((cameras == NO_GROUP).sum()))
    k = min(other, max(0, len(rows) - 1))
    others = TopK.none(len(rows), other)
    if k:
        graph = build_graph(
            rows, k, folder / f"others-{key}", signatures=signatures, apart=cameras,
            execution=execution.named("other cameras: "),
        )  # fmt: skip
        near = graph.read(0, len(rows))
        others.scores[:, : near.k], others.rows[:, : near.k] = near.scores, near.rows
    return own, others
