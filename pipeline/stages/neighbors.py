"""The neighbor graph of a set: blocks of rows meet themselves and each other, one tile at a time.

A tile begins with the neighbors that its two blocks have found so far, and stores the improved
ones. Blocks meet when they are free, so no worker waits for a slower one; a block is finished once
it has met all blocks. The loss of a worker costs only its current tile.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.apart import between_apart, neighbors_apart
from pipeline.core.neighbors.kept import without
from pipeline.core.neighbors.meetings import Meetings
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import TopK
from pipeline.core.travel.nearby import Walkable, nearby
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.sidecars.graph import About, Graph, Origin
from pipeline.stages.execution import Execution

_log = logging.getLogger(__name__)

_LARGEST_BLOCK = 65_536
_SMALLEST_BLOCK = 256
# With four blocks per worker, nearly all workers are busy to the end, and with three almost so.
# Tiles of fewer rows take half as long again for each pair.
_BLOCKS_A_WORKER, _FEWEST_A_WORKER = 4, 3
_EFFICIENT_BLOCK = 8192


Apart = NDArray[np.int64] | Walkable
"""Which rows are no neighbors: those of one number from 0, or those that nobody can be both of."""


def build_graph(
    rows: FeatureRows,
    k: int,
    folder: GalleryPlace,
    *,
    ids: NDArray[np.int64] | None = None,
    signatures: NDArray[np.int64] | None = None,
    origin: Origin | None = None,
    least: bool = False,
    apart: Apart | None = None,
    execution: Execution = Execution(),
) -> Graph:
    """Find the `k` best others of every row of `rows` `[N, D]`, as `core.neighbors.neighbors` does.

    The graph is written to `folder`, which every worker sees. If an earlier run left a graph there
    with the same `origin`, `ids` (row ids `[N]`, ascending; positions by default), `signatures`
    (from `core.row_hashes`), kind and `apart`, the run continues from its tiles, and recomputes
    damaged files. With `least`, the graph also stores every row's least score, which the same pass
    finds. Rows with the same number (from 0) in `apart` int64 `[N]`, if given, are not neighbors,
    nor are rows that its travel times keep apart. Each worker holds two blocks of rows. Progress
    counts rows; each row counts in parts, one per block to meet.
    """
    if apart is not None and (least or len(apart) != len(rows)):
        raise ValueError("each row has one number of `apart`, and no least score goes with them")
    about = About(
        origin or Origin(),
        len(rows),
        rows.dimension,
        k,
        least,
        "",
        block_rows(len(rows), rows.dimension, k, execution),
        "" if apart is None else _hash_of(apart),
    )
    graph = Graph.begin(folder, about, np.arange(len(rows)) if ids is None else ids, signatures)
    meetings = Meetings(graph.standing())
    if meetings.over:
        told = "neighbors: %d of %d tiles taken over from an earlier run"
        _log.info(told, meetings.over, meetings.over + meetings.left)
    step, done = execution.progress("neighbors", len(rows)), 0

    def follow() -> None:
        nonlocal done
        before, done = done, _rows_done(graph, meetings)
        step(done - before)

    def ready() -> tuple[int, int, int, int] | None:
        if (pair := meetings.take()) is None:
            return None
        x, y = pair
        return x, y, meetings.met[x], meetings.met[y]

    follow()
    shared: tuple[Any, ...] = (graph, rows, execution.worker_tiling)
    meet: Callable[..., Any] = _meet
    if apart is not None:
        meet, shared = _meet_apart, (apart, *shared)
    for x, y, account in execution.run_ready(meet, shared, ready, on_gpu=True):
        execution.ledger.add(account)
        before = {number: meetings.met[number] for number in (x, y)}
        meetings.end(x, y)
        for number, met in before.items():
            if met not in (meetings.met[number], graph.whole):
                graph.drop(number, met)
        follow()
    graph.drop_unfinished()
    return graph


def _hash_of(apart: Apart) -> str:
    """A hash of the rule by which some pairs of rows are no neighbors."""
    if isinstance(apart, Walkable):
        parts = [apart.seen.camera, apart.seen.time, *apart.travel.limits()]
    else:
        parts = [apart]
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(np.ascontiguousarray(part, "<i8").tobytes())
    return found.hexdigest()


def block_rows(total: int, dimension: int, k: int, execution: Execution) -> int:
    """The number of rows in a block: two blocks, with codes and neighbors, fit into a worker's
    memory.
    """
    each = 2 * (6 * dimension + 64 * k)
    size = min(_LARGEST_BLOCK, execution.worker_memory // each)
    if execution.workers:
        most, fewest = (each * execution.workers for each in (_BLOCKS_A_WORKER, _FEWEST_A_WORKER))
        count = min(most, max(fewest, total // _EFFICIENT_BLOCK))
        size = min(size, -(-total // count))
    return max(size, _SMALLEST_BLOCK)


def _rows_done(graph: Graph, meetings: Meetings) -> int:
    """The number of rows that all meetings so far are worth."""
    each = zip(graph.blocks, meetings.met, strict=True)
    shares = sum((stop - start) * met.bit_count() for (start, stop), met in each)
    return shares // max(1, len(graph.blocks))


def _meet_apart(apart: Apart, *others: Any) -> tuple[int, int, Account]:
    return _meet(*others, apart=apart)


def _meet(
    graph: Graph,
    rows: FeatureRows,
    tiling: Tiling,
    x: int,
    y: int,
    x_met: int,
    y_met: int,
    *,
    apart: Apart | None = None,
) -> tuple[int, int, Account]:
    """Let two blocks meet, or one meet itself, and store their new neighbors.

    `x_met` and `y_met` are the blocks that each has met. If one of the two was reset, only that one
    is stored.
    """
    k, ledger = graph.about.k, Ledger()
    start, stop = graph.blocks[x]
    block, (found, least) = rows.read(start, stop), graph.kept(x, x_met)
    if x == y:
        if apart is not None:
            found = _apart_within(block, start, apart[start:stop], found, tiling, ledger)
        else:
            found = neighbors(
                block, k, first_row=start, known=found, least=least, tiling=tiling, ledger=ledger
            )
        graph.keep(x, x_met | 1 << x, found, least)
        return x, y, ledger.total
    first, last = graph.blocks[y]
    theirs, their_least = graph.kept(y, y_met)
    # Known neighbors may not be in the other block.
    known = without(found, first, last), without(theirs, start, stop)
    other = rows.read(first, last)
    if apart is not None:
        found, theirs = _apart_between((block, other), (start, first), apart, known, tiling, ledger)
    else:
        found, theirs = between(
            block, other, k, first_row=start, second_row=first, known=known,
            least=(least, their_least), tiling=tiling, ledger=ledger,
        )  # fmt: skip
    if not x_met >> y & 1:
        graph.keep(x, x_met | 1 << y, found, least)
    if not y_met >> x & 1:
        graph.keep(y, y_met | 1 << x, theirs, their_least)
    return x, y, ledger.total


def _apart_within(
    block: NDArray[np.float32],
    start: int,
    apart: Apart,
    known: TopK,
    tiling: Tiling,
    ledger: Ledger,
) -> TopK:
    """The neighbors within a block of those rows that may meet."""
    if isinstance(apart, Walkable):
        found, scored = nearby(
            block, apart.seen, block, apart.seen, apart.travel, known.k, first_query=start,
            first_row=start, known=known, tiling=tiling,
        )  # fmt: skip
        ledger.add(Account(floats=scored, scored=scored))
        return found
    return neighbors_apart(
        block, apart, known.k, first_row=start, known=known, tiling=tiling, ledger=ledger
    )


def _apart_between(
    blocks: tuple[NDArray[np.float32], NDArray[np.float32]],
    starts: tuple[int, int],
    apart: Apart,
    known: tuple[TopK, TopK],
    tiling: Tiling,
    ledger: Ledger,
) -> tuple[TopK, TopK]:
    """The neighbors of two blocks in each other, of those rows that may meet."""
    k, runs = known[0].k, [slice(s, s + len(b)) for s, b in zip(starts, blocks, strict=True)]
    if not isinstance(apart, Walkable):
        return between_apart(
            *blocks, (apart[runs[0]], apart[runs[1]]), k, first_row=starts[0],
            second_row=starts[1], known=known, tiling=tiling, ledger=ledger,
        )  # fmt: skip
    sides = []
    for one, other in ((0, 1), (1, 0)):
        found, scored = nearby(
            blocks[one], apart[runs[one]].seen, blocks[other], apart[runs[other]].seen,
            apart.travel, k, first_query=starts[one], first_row=starts[other], known=known[one],
            tiling=tiling,
        )  # fmt: skip
        ledger.add(Account(floats=scored, scored=scored))
        sides.append(found)
    return sides[0], sides[1]
