"""Alpha query expansion, chunk by chunk, from rows on disk to rows on disk."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import expansion
from pipeline.core.blocks import FeatureRows, StackedRows, Tiling, blocks
from pipeline.core.expansion import Expansion
from pipeline.gallery.files.npy_rows import NpyRows, create_npy
from pipeline.gallery.sidecars.graph import Graph
from pipeline.stages.execution import Execution, Step

GraphOf = Callable[[FeatureRows, int], Graph]
"""Return the graph of rows after that many rounds; it may have more neighbors than needed."""

Chunk = tuple[int, int, NDArray[np.float32]]

_LARGEST_CHUNK = 8192
_SMALLEST_CHUNK = 64


def expand_all(
    queries: FeatureRows,
    gallery: FeatureRows,
    settings: Expansion,
    scratch: Path,
    graph_of: GraphOf,
    *,
    execution: Execution = Execution(),
) -> tuple[FeatureRows, FeatureRows]:
    """Expand queries `[Q, D]` and gallery `[G, D]`; the side that the mode does not change is
    returned as it is.

    Rows of both are read in any order, so they should be in memory or mapped. The mode query
    searches; the others take the neighbors from `graph_of(rows, round)`, the graph of the gallery
    or of the union. Every round writes its rows to a file below `scratch`, a folder that every
    worker sees, one chunk per worker at a time. The file is deleted once the next one is written.
    Progress counts the rows of the finished chunks.
    """
    tiling = execution.worker_tiling
    chunk = _chunk(queries.dimension, settings.k, execution.worker_memory)
    rows = {
        "query": lambda: queries,
        "database": lambda: gallery,
        "joint": lambda: StackedRows(queries, gallery),
    }[settings.mode]()
    step = execution.progress("expanding", settings.times * len(rows))
    for number in range(settings.times):
        parts = blocks(len(rows), chunk)
        if settings.mode == "query":
            searching = (rows, gallery, settings, tiling)
            chunks = execution.run_parts(_search_part, searching, parts, on_gpu=True)
        else:
            graph = graph_of(rows, number) if settings.k > 1 else None
            averaging = (graph, rows, settings, tiling)
            chunks = execution.run_parts(_average_part, averaging, parts)
        target = scratch / f"expanded-{settings.mode}-{number}.npy"
        _write(target, rows, chunks, step)
        if number:
            (scratch / f"expanded-{settings.mode}-{number - 1}.npy").unlink()
        rows = result = NpyRows(str(target))
    if settings.mode == "query":
        return result, gallery
    if settings.mode == "database":
        return queries, result
    return result.part(0, len(queries)), result.part(len(queries), len(result))


def _chunk(dimension: int, k: int, memory: int) -> int:
    """Rows of a chunk: the rows, their results and their neighbors fit into a worker's memory."""
    each = 16 * dimension + 64 * k
    return max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, memory // each))


def _write(target: Path, rows: FeatureRows, chunks: Iterable[Chunk], step: Step) -> None:
    with create_npy(target, len(rows), rows.dimension) as written:
        for start, stop, expanded in chunks:
            written[start:stop] = expanded
            step(stop - start)


def _search_part(
    rows: FeatureRows,
    among: FeatureRows,
    settings: Expansion,
    tiling: Tiling,
    start: int,
    stop: int,
) -> Chunk:
    (expanded,) = expansion.expand(
        rows, among, settings, part=(start, stop), chunk=stop - start, tiling=tiling
    )
    return start, stop, expanded


def _average_part(
    graph: Graph | None,
    rows: FeatureRows,
    settings: Expansion,
    tiling: Tiling,
    start: int,
    stop: int,
) -> Chunk:
    block = rows.read(start, stop)
    if graph is None:
        return start, stop, block
    near = graph.read(start, stop, settings.k - 1)
    return start, stop, expansion.average(block, near, rows, settings.alpha, tiling=tiling)
