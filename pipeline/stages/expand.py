"""Alpha query expansion, chunk by chunk, from rows on disk to rows on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import expansion
from pipeline.core.blocks import FeatureRows, StackedRows, Tiling, blocks
from pipeline.core.expansion import Expansion
from pipeline.core.neighbors import neighbors
from pipeline.core.topk import TopK
from pipeline.gallery.npy_rows import NpyRows, create
from pipeline.stages.tasks import run_parts

MEMORY = 4 << 30
"""Bytes that an expansion may hold at once in its features and their neighbours."""


def expand_all(
    queries: FeatureRows,
    gallery: FeatureRows,
    settings: Expansion,
    scratch: Path,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    chunk: int = 8192,
    memory: int = MEMORY,
    progress: Callable[[int], None] = lambda _rows: None,
) -> tuple[FeatureRows, FeatureRows]:
    """Queries `[Q, D]` and gallery `[G, D]` after expansion; what the mode leaves comes back as is.

    Every round writes its rows to a file below `scratch`, a folder that every worker sees, at most
    `chunk` rows at a time from each worker, so no array grows with the gallery. The file of a round
    is deleted once the next is written. Rows that are expanded among themselves, in this process,
    and fit in `memory` bytes get their neighbours from half of the tiles (`core.neighbors`); the
    result is the same to the bit. `progress` is told the rows of every chunk.
    """
    tiling = tiling or Tiling()
    rows, among = _first_round(settings.mode, queries, gallery)
    for number in range(settings.times):
        self_offset = None if settings.mode == "query" else 0
        target = scratch / f"expanded-{settings.mode}-{number}.npy"
        with create(target, len(rows), rows.dimension) as written:
            if (
                among is rows
                and workers == 0
                and settings.k > 1
                and _held(rows, settings) <= memory
            ):
                parts = _from_graph(rows, settings, tiling, chunk)
            else:
                shared = (rows, among, settings, self_offset, tiling, workers > 0)
                parts = run_parts(_expand_part, shared, blocks(len(rows), chunk), workers)
            for start, stop, expanded in parts:
                written[start:stop] = expanded
                progress(stop - start)
        if number:
            (scratch / f"expanded-{settings.mode}-{number - 1}.npy").unlink()
        rows = result = NpyRows(str(target))
        among = gallery if settings.mode == "query" else rows
    if settings.mode == "query":
        return result, gallery
    if settings.mode == "database":
        return queries, result
    return result.part(0, len(queries)), result.part(len(queries), len(result))


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


def _held(rows: FeatureRows, settings: Expansion) -> int:
    """Bytes of the neighbour graph and of what finding it holds: features, codes, and heaps."""
    return len(rows) * (6 * rows.dimension + 24 * settings.k)


def _from_graph(
    rows: FeatureRows, settings: Expansion, tiling: Tiling, chunk: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    found = neighbors(rows, settings.k - 1, tiling=tiling)
    for start, stop in blocks(len(rows), chunk):
        near = TopK(found.scores[start:stop], found.rows[start:stop])
        yield start, stop, expansion.average(rows.read(start, stop), near, rows, settings.alpha)


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
