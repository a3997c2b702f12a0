"""What the rankings of one evaluation share: mapped features, and the graphs of neighbours."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jobs.command.flags import FoldFlags
from pipeline.core.blocks import FeatureRows, StackedRows, Tiling
from pipeline.core.evaluation.ranking import Labels, RankCounts
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.gallery.files.npy_rows import NpyRows, copy_rows
from pipeline.gallery.sidecars.graph import Graph
from pipeline.stages.expand import expand_all, rows_to_expand
from pipeline.stages.neighbors import MEMORY, build_graph
from pipeline.stages.rerank import count_reranked

logger = logging.getLogger(__name__)

Told = Callable[[str, int], Callable[[int], None]]
"""Begins a line of progress of a name and a length; what it gives is told every step."""


@dataclass(frozen=True)
class Neighborhood:
    """Queries and gallery as one set: what is made of it is made once, when it is first wanted.

    `k` is the most neighbours that a ranking asks of the graph of the union, and `least` whether
    one asks how far the farthest row is; files are written to `folder`, which every worker sees.
    """

    queries: FeatureRows
    gallery: FeatureRows
    k: int
    least: bool
    folder: Path
    tiling: Tiling
    on: FoldFlags

    @classmethod
    def of(
        cls,
        queries: FeatureRows,
        gallery: FeatureRows,
        ways: Sequence[Expansion | Reranking],
        folder: Path,
        tiling: Tiling,
        on: FoldFlags,
    ) -> "Neighborhood":
        """The neighborhood in which these ways to rank are followed."""
        asked = [way.neighbors if isinstance(way, Reranking) else way.k - 1 for way in ways]
        least = any(isinstance(way, Reranking) for way in ways)
        return cls(queries, gallery, max(asked, default=0), least, folder, tiling, on)

    def expand(self, settings: Expansion, told: Told) -> tuple[FeatureRows, FeatureRows]:
        """Queries and gallery after expansion."""
        folder = self.folder / settings.mode
        folder.mkdir()

        def graph_of(rows: FeatureRows, rounds: int) -> Graph:
            if settings.mode == "joint" and rounds == 0:
                return self._near(told)
            return self._graph(rows, settings.k - 1, folder / f"graph-{rounds}", told)

        total = settings.times * rows_to_expand(settings.mode, len(self.queries), len(self.gallery))
        with _timed(f"expansion, {settings.mode}"):
            return expand_all(
                *self._sides,
                settings,
                folder,
                graph_of,
                workers=self.on.workers,
                tiling=self.tiling,
                memory=budget(self.on),
                progress=told("expanding", total),
            )

    def rerank(
        self, query_labels: Labels, gallery_labels: Labels, settings: Reranking, told: Told
    ) -> RankCounts:
        """Ranks of the matches by k-reciprocal distance."""
        queries, gallery = self._sides
        graph = self._near(told)
        with _timed("re-ranking"):
            return count_reranked(
                queries,
                query_labels,
                gallery,
                gallery_labels,
                settings,
                graph.read(0, len(graph), settings.neighbors),
                graph.read_least(0, len(graph)),
                workers=self.on.workers,
                tiling=self.tiling,
                progress=told("counting ranks", len(gallery)),
            )

    @cached_property
    def _union(self) -> NpyRows:
        """All rows, mapped: averages and weights read them scattered."""
        with _timed("copying features"):
            return copy_rows(StackedRows(self.queries, self.gallery), self.folder / "union.npy")

    @property
    def _sides(self) -> tuple[NpyRows, NpyRows]:
        edge = len(self.queries)
        return self._union.part(0, edge), self._union.part(edge, len(self._union))

    def _near(self, told: Told) -> Graph:
        """The graph of the union, for joint expansion and for re-ranking."""
        return self._graph(self._union, self.k, self.folder / "graph", told, least=self.least)

    def _graph(
        self, rows: FeatureRows, k: int, folder: Path, told: Told, *, least: bool = False
    ) -> Graph:
        """The graph in `folder`: made there, or the one that was made there before."""
        with _timed("neighbours"):
            return build_graph(
                rows,
                k,
                folder,
                least=least,
                workers=self.on.workers,
                tiling=self.tiling,
                memory=budget(self.on),
                progress=told("neighbours", len(rows)),
            )


def budget(on: FoldFlags) -> int:
    """Bytes that the blocks in hand may take."""
    return MEMORY if on.memory is None else int(on.memory * 2**30)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    logger.debug("%s: %.1f s", what, time.perf_counter() - begun)
