"""Update the neighbor graph of a set from that of an earlier set: the cost grows with the number of
fresh rows.

Rows that are fresh (new, or with other features) meet all rows once, and each pair updates both of
its rows. If a neighbor of a row left the set, rows that no list contains may follow the remaining
neighbors. Therefore graphs have a few more neighbors than needed, and only a row that has lost more
than these is searched again.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import ArrayRows, FeatureRows, Tiling, blocks
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.kept import counts, moved, trusted, without_itself
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import TopK, merge, search
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.sidecars.graph import About, Graph, Origin, positions_of
from pipeline.stages.execution import Execution

_MOST_CHANGED = 1 / 4
_RUNS_A_WORKER = 4


@dataclass(frozen=True)
class RowChanges:
    """The differences between a set and the set of an earlier graph.

    `places` int64 `[N before]` is the current position of each row of the graph, or -1 if it is
    gone or has other features. `fresh` int64 are the current positions of rows that are not in the
    graph.
    """

    places: NDArray[np.int64]
    fresh: NDArray[np.int64]

    @classmethod
    def between(
        cls, old: Graph, ids: NDArray[np.int64], signatures: NDArray[np.int64]
    ) -> "RowChanges":
        """Find the changes from the rows of `old` to rows with these ids `[N]` and signatures
        `[N]`.
        """
        places = positions_of(old.ids, ids)
        known = np.flatnonzero(places >= 0)
        changed = known[signatures[places[known]] != old.signatures[known]]
        places[changed] = -1
        kept = places[places >= 0]
        return cls(places, np.setdiff1d(np.arange(len(ids)), kept))

    @property
    def are_few(self) -> bool:
        """Whether an update costs less than a new graph."""
        gone = int((self.places < 0).sum())
        rows = len(self.places) - gone + len(self.fresh)
        return len(self.fresh) + gone <= _MOST_CHANGED * rows


def update_graph(
    old: Graph,
    changes: RowChanges,
    rows: FeatureRows,
    needed: int,
    folder: GalleryPlace,
    *,
    ids: NDArray[np.int64],
    signatures: NDArray[np.int64],
    origin: Origin,
    block: int | None = None,
    execution: Execution = Execution(),
) -> Graph:
    """Make the graph of `rows` `[N, D]` in `folder` from an `old` graph of other rows.

    The first `needed` neighbors of every row (all others, if there are fewer) are the same, to the
    bit, as those of `build_graph`. The spare ones beyond them are those of `old` that are still
    certain. Least scores are not stored, because they would need all pairs again. Blocks have
    `block` rows (default: as many as those of `old`); each worker holds one block, and as many
    fresh rows. Progress counts the rows of the finished blocks.
    """
    workers, inside = execution.workers, execution.worker_tiling
    step = execution.progress("neighbors", len(rows))
    about = replace(old.about, origin=origin, rows=len(rows), least=False, content="")
    about = replace(about, block=block or about.block)
    graph = Graph.begin(folder, about, ids, signatures)
    if all(met == graph.whole for met in graph.standing()):
        step(len(graph))
        return graph
    chunks = [changes.fresh[a:b] for a, b in blocks(len(changes.fresh), about.block)]
    found = _among_fresh(rows, chunks, about, execution)
    tasks = max(1, min(_RUNS_A_WORKER * workers, len(graph.blocks)))
    runs = [(range(first, len(graph.blocks), tasks),) for first in range(tasks)]
    meeting = (old, graph, changes, chunks, rows, inside)
    for new, account in execution.run_parts(_meet_fresh, meeting, runs, on_gpu=True):
        execution.ledger.add(account)
        found = [merge([before, after], about.k) for before, after in zip(found, new, strict=True)]
    finishing = (graph, changes.fresh, _stacked(found, about.k), rows, needed, inside)
    numbers = [(number,) for number in range(len(graph.blocks))]
    for number, account in execution.run_parts(_finish, finishing, numbers, on_gpu=True):
        execution.ledger.add(account)
        start, stop = graph.blocks[number]
        step(stop - start)
    graph.drop_unfinished()
    return graph


def _among_fresh(
    rows: FeatureRows,
    chunks: list[NDArray[np.int64]],
    about: About,
    execution: Execution,
) -> list[TopK]:
    """The neighbors of the fresh rows among themselves, chunk by chunk."""
    found: list[list[TopK]] = [[] for _ in chunks]
    pairs = [(a, b) for a in range(len(chunks)) for b in range(a, len(chunks))]
    shared = (rows, chunks, about.k, execution.worker_tiling)
    for a, b, ours, theirs, account in execution.run_parts(_fold_fresh, shared, pairs, on_gpu=True):
        execution.ledger.add(account)
        found[a].append(ours)
        if b != a:
            found[b].append(theirs)
    return [merge(parts, about.k) for parts in found]


def _fold_fresh(
    rows: FeatureRows, chunks: list[NDArray[np.int64]], k: int, tiling: Tiling, a: int, b: int
) -> tuple[int, int, TopK, TopK, Account]:
    first, ledger = rows.take(chunks[a]), Ledger()
    if a == b:
        found = neighbors(first, k, first_row=chunks[a], tiling=tiling, ledger=ledger)
        return a, b, found, found, ledger.total
    ours, theirs = between(
        first, rows.take(chunks[b]), k,
        first_row=chunks[a], second_row=chunks[b], tiling=tiling, ledger=ledger,
    )  # fmt: skip
    return a, b, ours, theirs, ledger.total


def _meet_fresh(
    old: Graph,
    graph: Graph,
    changes: RowChanges,
    chunks: list[NDArray[np.int64]],
    rows: FeatureRows,
    tiling: Tiling,
    numbers: range,
) -> tuple[list[TopK], Account]:
    """Compare the fresh rows with the others of some blocks; return what the fresh rows find there.

    The certain neighbors of the other rows are stored beside each block.
    """
    k, ledger = graph.about.k, Ledger()
    found = [TopK.none(len(chunk), k) for chunk in chunks]
    for number in numbers:
        start, stop = graph.blocks[number]
        kept, left, whole = _left(old, changes.places, start, stop, k)
        features, merged = rows.read(start, stop)[kept - start], left
        for place, chunk in enumerate(chunks):
            found[place], merged = between(
                rows.take(chunk),
                features,
                k,
                first_row=chunk,
                second_row=kept,
                known=(found[place], merged),
                tiling=tiling,
                ledger=ledger,
            )
        known = _with_rows(TopK.none(stop - start, k), kept - start, trusted(merged, left, whole))
        graph.write_fresh(number, known)
    return found, ledger.total


def _left(
    old: Graph, places: NDArray[np.int64], start: int, stop: int, k: int
) -> tuple[NDArray[np.int64], TopK, NDArray[np.bool_]]:
    """For the old rows that are now at `start` to `stop`: their positions and their remaining
    neighbors.

    The third value says whether the list of each row held all other rows.
    """
    rows = np.flatnonzero((places >= start) & (places < stop))
    if len(rows) == 0:
        return rows, TopK.none(0, k), np.zeros(0, bool)
    first = int(rows[0])
    read = old.read(first, int(rows[-1]) + 1)
    found = _with_rows(
        TopK.none(len(rows), k),
        np.arange(len(rows)),
        TopK(read.scores[rows - first], read.rows[rows - first]),
    )
    return places[rows], moved(found, places), counts(found) == len(old) - 1


def _finish(
    graph: Graph,
    fresh: NDArray[np.int64],
    of_fresh: TopK,
    rows: FeatureRows,
    needed: int,
    tiling: Tiling,
    number: int,
) -> tuple[int, Account]:
    """Write a block: the known neighbors of its rows, and a new search for rows with too few."""
    start, stop = graph.blocks[number]
    k, ledger = graph.about.k, Ledger()
    low, high = np.searchsorted(fresh, (start, stop))
    new = TopK(of_fresh.scores[low:high], of_fresh.rows[low:high])
    found = _with_rows(graph.read_fresh(number), fresh[low:high] - start, new)
    short = np.flatnonzero(counts(found) < min(needed, len(graph) - 1))
    if len(short):
        again = search(
            ArrayRows(rows.take(start + short)), rows, k + 1, tiling=tiling, ledger=ledger
        )
        found = _with_rows(found, short, without_itself(again, start + short, k))
    graph.write(number, found)
    return number, ledger.total


def _with_rows(found: TopK, places: NDArray[np.int64], others: TopK) -> TopK:
    """`found`, with the rows at `places` replaced by `others`, which may be narrower."""
    scores, rows = found.scores.copy(), found.rows.copy()
    scores[places], rows[places] = np.float32(-np.inf), -1
    scores[places, : others.k], rows[places, : others.k] = others.scores, others.rows
    return TopK(scores, rows)


def _stacked(parts: list[TopK], k: int) -> TopK:
    """The neighbors of all chunks, one after the other."""
    ends = np.cumsum([0, *(len(part) for part in parts)])
    found = TopK.none(int(ends[-1]), k)
    for part, start, stop in zip(parts, ends, ends[1:], strict=False):
        found = _with_rows(found, np.arange(start, stop), part)
    return found
