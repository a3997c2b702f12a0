"""Sparse weights and near pairs of all rows, from their lists of neighbors, part by part."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, blocks
from pipeline.core.clusters.encoding import (
    CameraEncoding,
    PlainEncoding,
    camera_weights,
    lists_of_mean,
    plain_weights,
)
from pipeline.core.clusters.jaccard import JaccardPairs, PairSearch
from pipeline.core.neighbors.topk import TopK
from pipeline.core.reranking.reciprocal import SparseRows, mean_over, stacked
from pipeline.gallery.pair_files import PairFiles
from pipeline.stages.execution import Execution

_log = logging.getLogger(__name__)

_PARTS_A_WORKER = 4
_ROWS_A_FILE = 8192


def encode_rows(
    rows: FeatureRows,
    near: TopK,
    settings: PlainEncoding = PlainEncoding(),
    *,
    execution: Execution = Execution(),
) -> SparseRows:
    """Compute the result of `encoding.encode` in parts.

    Memory is that of `near` and of the weights, some tens for each row; with workers, the object
    store holds both once per machine.
    """
    own = _spread(_plain_part, (rows, near, settings), len(rows), execution)
    return _averaged(own, near.rows[:, : settings.k2 - 1], execution)


def encode_rows_by_camera(
    same: TopK,
    other: TopK,
    settings: CameraEncoding = CameraEncoding(),
    *,
    execution: Execution = Execution(),
) -> SparseRows:
    """Compute the result of `encoding.encode_by_camera` in parts; memory as `encode_rows`."""
    own = _spread(_camera_part, (same, other, settings), len(same.rows), execution)
    return _averaged(own, lists_of_mean(same, other, settings), execution)


def near_pairs(
    weights: SparseRows, eps: float, folder: Path, *, execution: Execution = Execution()
) -> JaccardPairs:
    """Compute the result of `jaccard.jaccard_pairs`, block by block of rows.

    Each block's pairs are written to `folder`, which every worker sees; after a kill, the same call
    resumes with those that are missing. Memory is twice that of the weights (for the index of their
    columns; with workers, once per machine), and in this process 32 bytes for each pair of rows.
    Progress counts rows.
    """
    search = PairSearch.of(weights, eps)
    files = PairFiles.begin(folder, weights.arrays, eps)
    threads = execution.worker_tiling.thread_count()
    parts = list(blocks(len(weights), _ROWS_A_FILE * -(-threads // 4)))
    missing = [part for part in parts if not files.has(*part)]
    if len(missing) < len(parts):
        told = "near pairs: %d of %d blocks taken over from an earlier run"
        _log.info(told, len(parts) - len(missing), len(parts))
    step = execution.progress("near pairs", len(weights))
    step(len(weights) - sum(stop - start for start, stop in missing))
    shared = (search, files, execution.worker_tiling)
    for start, stop in execution.run_parts(_pairs_part, shared, missing):
        step(stop - start)
    return JaccardPairs.joined([files.read(*part) for part in parts])


def _spread(
    fold: Callable[..., tuple[int, SparseRows]],
    shared: tuple[object, ...],
    total: int,
    execution: Execution,
) -> SparseRows:
    """The rows that the parts make, in order."""
    workers = execution.workers
    size = -(-total // (_PARTS_A_WORKER * workers)) if workers else total
    parts = execution.run_parts(
        fold, (*shared, execution.worker_tiling), blocks(total, max(1, size))
    )
    return stacked([part for _, part in sorted(parts, key=lambda part: part[0])])


def _averaged(own: SparseRows, lists: NDArray[np.int64], execution: Execution) -> SparseRows:
    return _spread(_mean_part, (own, lists), len(own), execution)


def _plain_part(
    rows: FeatureRows, near: TopK, settings: PlainEncoding, tiling: Tiling, start: int, stop: int
) -> tuple[int, SparseRows]:
    return start, plain_weights(rows, near, settings, part=(start, stop), tiling=tiling)


def _camera_part(
    same: TopK, other: TopK, settings: CameraEncoding, tiling: Tiling, start: int, stop: int
) -> tuple[int, SparseRows]:
    return start, camera_weights(same, other, settings, part=(start, stop), tiling=tiling)


def _mean_part(
    own: SparseRows, lists: NDArray[np.int64], tiling: Tiling, start: int, stop: int
) -> tuple[int, SparseRows]:
    return start, mean_over(own, lists, part=(start, stop), tiling=tiling)


def _pairs_part(
    search: PairSearch, files: PairFiles, tiling: Tiling, start: int, stop: int
) -> tuple[int, int]:
    files.write(start, stop, search.later_rows(start, stop, tiling=tiling))
    return start, stop
