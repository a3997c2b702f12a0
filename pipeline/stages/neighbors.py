"""The neighbor graph of a set: strips of tiles on and above the diagonal, a row block each.

Strip i is row block i against itself and all later blocks. It completes block i, whose neighbors
are written; what it finds for the later blocks is kept beside them for the strips to come.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import TopK, best_first
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.sidecars.graph import About, Graph, Origin
from pipeline.stages.execution import Execution

_log = logging.getLogger(__name__)

_LARGEST_BLOCK = 65_536
_SMALLEST_BLOCK = 256
_TASKS_A_WORKER = 2


def build_graph(
    rows: FeatureRows,
    k: int,
    folder: GalleryPlace,
    *,
    ids: NDArray[np.int64] | None = None,
    signatures: NDArray[np.int64] | None = None,
    origin: Origin | None = None,
    least: bool = False,
    execution: Execution = Execution(),
) -> Graph:
    """The `k` best others of every row of `rows` `[N, D]`, as `core.neighbors.neighbors` has them.

    They are written to `folder`, which every worker sees; a graph of the same `origin`, `ids` (row
    ids `[N]`, ascending; positions by default), `signatures` (of `core.signatures`) and kind that
    an earlier run left there goes on after its last finished block, and what was damaged of it
    meanwhile is made again. Where `least`, the graph keeps every row's least score too, which the
    same pass finds. Each worker holds two blocks of rows. Progress counts the rows of the finished
    blocks.
    """
    about = About(
        origin or Origin(),
        len(rows),
        rows.dimension,
        k,
        least,
        "",
        block_rows(len(rows), rows.dimension, k, execution),
    )
    graph = Graph.begin(folder, about, np.arange(len(rows)) if ids is None else ids, signatures)
    step = execution.progress("neighbors", len(rows))
    shared, finished = (graph, rows, execution.worker_tiling), graph.finished
    _mend(graph, finished, shared, execution)
    for strip in range(finished):
        step(_length(graph.blocks[strip]))
    for strip in range(finished, len(graph.blocks)):
        graph.drop_open(strip)
        parts = _columns(strip, len(graph.blocks), execution.workers)
        strips = [(strip, part) for part in parts]
        found = list(execution.run_parts(_fold_strip, shared, strips, on_gpu=True))
        execution.ledger.add(sum((part[2] for part in found), start=Account()))
        graph.write(strip, *_joined([part[:2] for part in found], graph.blocks[strip][0]))
        step(_length(graph.blocks[strip]))
    graph.drop_open(len(graph.blocks))
    return graph


def block_rows(total: int, dimension: int, k: int, execution: Execution) -> int:
    """Rows of a block: two, with their codes and the neighbors found, fit in a worker's memory."""
    each = 2 * (6 * dimension + 64 * k)
    size = min(_LARGEST_BLOCK, execution.worker_memory // each)
    if execution.workers:
        size = min(size, -(-total // (_TASKS_A_WORKER * execution.workers)))
    return max(size, _SMALLEST_BLOCK)


def _mend(graph: Graph, finished: int, shared: tuple[Any, ...], execution: Execution) -> None:
    """Make again what is damaged of a graph of so many finished blocks, and tell how many others
    are taken over.
    """
    damaged = graph.damaged(finished)
    if finished:
        count, again = len(graph.blocks), sum(number < finished for number, _ in damaged)
        told = "neighbors: %d of %d blocks taken over from an earlier run"
        _log.info(told, finished - again, count)
    for account in execution.run_parts(_meet, shared, damaged, on_gpu=True):
        execution.ledger.add(account)


def _meet(graph: Graph, rows: FeatureRows, tiling: Tiling, number: int, met: int) -> Account:
    """Make the file of one block that has met the blocks 0 to `met` - 1, of the rows alone."""
    k, ledger = graph.about.k, Ledger()
    start, stop = graph.blocks[number]
    block = rows.read(start, stop)
    found, least = graph.read_open(number, 0), graph.read_open_least(number, 0)
    for other in range(met):
        first, last = graph.blocks[other]
        if other == number:
            found = neighbors(
                block, k,
                first_row=start, known=found, least=least, tiling=tiling, ledger=ledger,
            )  # fmt: skip
            continue
        found, _ = between(
            block,
            rows.read(first, last),
            k,
            first_row=start,
            second_row=first,
            known=(found, None),
            least=(least, graph.read_open_least(other, 0)),
            tiling=tiling,
            ledger=ledger,
        )
    graph.keep(number, met, found, least)
    return ledger.total


def _columns(strip: int, count: int, workers: int) -> list[range]:
    """The column blocks of each task of a strip; the first begins on the diagonal."""
    tasks = max(1, min(workers, count - strip))
    return [range(strip + first, count, tasks) for first in range(tasks)]


def _fold_strip(
    graph: Graph, rows: FeatureRows, tiling: Tiling, strip: int, columns: range
) -> tuple[TopK, NDArray[np.float32] | None, Account]:
    """Fold a strip's tiles in some columns; gives what is then known of its rows: their neighbors,
    and their least scores where the graph keeps them; and the account of the products.

    What the column blocks have found is kept beside them.
    """
    k, ledger = graph.about.k, Ledger()
    start, stop = graph.blocks[strip]
    block = rows.read(start, stop)
    found, least = graph.read_open(strip, strip), graph.read_open_least(strip, strip)
    for column in columns:
        if column == strip:
            found = neighbors(
                block, k,
                first_row=start, known=found, least=least, tiling=tiling, ledger=ledger,
            )  # fmt: skip
            continue
        first, last = graph.blocks[column]
        their_least = graph.read_open_least(column, strip)
        found, theirs = between(
            block,
            rows.read(first, last),
            k,
            first_row=start,
            second_row=first,
            known=(found, graph.read_open(column, strip)),
            least=(least, their_least),
            tiling=tiling,
            ledger=ledger,
        )
        graph.write_open(column, strip + 1, theirs, their_least)
    return found, least, ledger.total


def _joined(
    parts: list[tuple[TopK, NDArray[np.float32] | None]], start: int
) -> tuple[TopK, NDArray[np.float32] | None]:
    """What several tasks know of rows from `start` on: all know the same of the rows before it."""
    near, least = parts[0]
    scores, rows = [near.scores], [near.rows]
    for other, their_least in parts[1:]:
        old = other.rows < start
        scores.append(np.where(old, np.float32(-np.inf), other.scores))
        rows.append(np.where(old, -1, other.rows))
        if least is not None and their_least is not None:
            least = np.minimum(least, their_least)
    if len(parts) > 1:
        near = best_first(np.concatenate(scores, axis=1), np.concatenate(rows, axis=1), near.k)
    return near, least


def _length(block: tuple[int, int]) -> int:
    return block[1] - block[0]
