"""Alpha query expansion, chunk by chunk, from rows on disk to rows on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import expansion
from pipeline.core.blocks import FeatureRows, StackedRows, Tiling, blocks
from pipeline.core.expansion import Expansion
from pipeline.gallery.npy_rows import NpyRows, create
from pipeline.stages.tasks import run_parts


def expand_all(
    queries: FeatureRows,
    gallery: FeatureRows,
    settings: Expansion,
    scratch: Path,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    chunk: int = 8192,
    progress: Callable[[int], None] = lambda _rows: None,
) -> tuple[FeatureRows, FeatureRows]:
    """Queries `[Q, D]` and gallery `[G, D]` after expansion; what the mode leaves comes back as is.

    Every round writes its rows to a file below `scratch`, a folder that every worker sees, at most
    `chunk` rows at a time from each worker, so no array grows with the gallery. The file of a round
    is deleted once the next is written. `progress` is told the rows of every chunk.
    """
    tiling = tiling or Tiling()
    rows, among = _first_round(settings.mode, queries, gallery)
    for number in range(settings.times):
        self_offset = None if settings.mode == "query" else 0
        target = scratch / f"expanded-{settings.mode}-{number}.npy"
        _expand_round(rows, among, settings, self_offset, target, workers, tiling, chunk, progress)
        if number:
            (scratch / f"expanded-{settings.mode}-{number - 1}.npy").unlink()
        rows = written = NpyRows(str(target))
        among = gallery if settings.mode == "query" else rows
    if settings.mode == "query":
        return written, gallery
    if settings.mode == "database":
        return queries, written
    return written.part(0, len(queries)), written.part(len(queries), len(written))


def rows_to_expand(mode: expansion.Mode, queries: int, gallery: int) -> int:
    """How many rows one round of a mode expands."""
    return {"query": queries, "database": gallery, "joint": queries + gallery}[mode]


def _first_round(
    mode: expansion.Mode, queries: FeatureRows, gallery: FeatureRows
) -> tuple[FeatureRows, FeatureRows]:
    if mode == "query":
        return queries, gallery
    if mode == "database":
        return gallery, gallery
    union = StackedRows(queries, gallery)
    return union, union


def _expand_round(
    rows: FeatureRows,
    among: FeatureRows,
    settings: Expansion,
    self_offset: int | None,
    target: Path,
    workers: int,
    tiling: Tiling,
    chunk: int,
    progress: Callable[[int], None],
) -> None:
    with create(target, len(rows), rows.dimension) as written:
        shared = (rows, among, settings, self_offset, tiling, workers > 0)
        parts = blocks(len(rows), chunk)
        for start, stop, expanded in run_parts(_expand_part, shared, parts, workers):
            written[start:stop] = expanded
            progress(stop - start)


def _expand_part(
    rows: FeatureRows,
    among: FeatureRows,
    settings: Expansion,
    self_offset: int | None,
    tiling: Tiling,
    alone: bool,
    start: int,
    stop: int,
) -> tuple[int, int, NDArray[np.float32]]:
    chunks = expansion.expand(
        rows,
        among,
        settings,
        self_offset=self_offset,
        part=(start, stop),
        chunk=stop - start,
        tiling=tiling.on_one_thread() if alone else tiling,
    )
    (expanded,) = chunks
    return start, stop, expanded
