"""Data that the rankings of one evaluation share: mapped features, and the graphs of neighbors."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.core.blocks import FeatureRows, StackedRows
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranked, Reranking
from pipeline.core.row_hashes import row_signatures
from pipeline.gallery.files.npy_rows import NpyRows, copy_rows
from pipeline.gallery.sidecars.graph import Graph
from pipeline.stages.execution import Execution
from pipeline.stages.expand import expand_all
from pipeline.stages.neighbors import build_graph
from pipeline.stages.rerank import count_reranked, encode_union

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighborhood:
    """Queries and gallery as one set; data for several rankings is computed once.

    `k` is the largest number of neighbors that a ranking needs from the graph of the union, and
    `least` says whether one needs the distance of the farthest row. Files go to `folder`, which
    every worker sees; blocks of the same graph that a killed run left there are used again.
    """

    queries: FeatureRows
    gallery: FeatureRows
    k: int
    least: bool
    folder: Path
    _of_union: list[Graph] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        queries: FeatureRows,
        gallery: FeatureRows,
        ways: Sequence[Expansion | Reranking],
        folder: Path,
    ) -> "Neighborhood":
        """The neighborhood for these ways to rank."""
        asked = [way.neighbors if isinstance(way, Reranking) else way.k - 1 for way in ways]
        least = any(isinstance(way, Reranking) for way in ways)
        return cls(queries, gallery, max(asked, default=0), least, folder)

    def expand(self, settings: Expansion, execution: Execution) -> tuple[FeatureRows, FeatureRows]:
        """Queries and gallery after expansion."""
        folder = self.folder / settings.mode
        folder.mkdir(exist_ok=True)

        def graph_of(rows: FeatureRows, rounds: int) -> Graph:
            if settings.mode == "joint" and rounds == 0:
                return self._near(execution)
            return self._graph(rows, settings.k - 1, folder / f"graph-{rounds}", execution)

        with _timed(f"expansion, {settings.mode}"):
            return expand_all(
                *self._sides,
                settings,
                folder,
                graph_of,
                execution=execution,
            )

    def rerank(
        self,
        query_labels: Labels,
        gallery_labels: Labels,
        settings: Reranking,
        execution: Execution,
    ) -> tuple[Reranked, RankCounts]:
        """Queries and gallery, encoded, and the ranks of the matches by k-reciprocal distance."""
        graph = self._near(execution)
        with _timed("re-ranking"):
            reranked = encode_union(
                StackedRows(*self._sides),
                graph.read(0, len(graph), settings.neighbors),
                settings,
                graph.read_least(0, len(graph)),
                execution=execution,
            )
            counts = count_reranked(reranked, query_labels, gallery_labels, execution=execution)
        return reranked, counts

    @cached_property
    def _union(self) -> NpyRows:
        """All rows, in a mapped file: averages and weights read rows in any order."""
        with _timed("copying features"):
            return copy_rows(StackedRows(self.queries, self.gallery), self.folder / "union.npy")

    @property
    def _sides(self) -> tuple[NpyRows, NpyRows]:
        edge = len(self.queries)
        return self._union.part(0, edge), self._union.part(edge, len(self._union))

    def _near(self, execution: Execution) -> Graph:
        """The graph of the union, for joint expansion and for re-ranking: made once."""
        if not self._of_union:
            folder = self.folder / "graph"
            made = self._graph(self._union, self.k, folder, execution, least=self.least)
            self._of_union.append(made)
        return self._of_union[0]

    def _graph(
        self,
        rows: FeatureRows,
        k: int,
        folder: Path,
        execution: Execution,
        *,
        least: bool = False,
    ) -> Graph:
        """The graph in `folder`, computed if it is not there yet."""
        with _timed("neighbors"):
            signatures = row_signatures(rows, tiling=execution.tiling)
            return build_graph(
                rows, k, folder, signatures=signatures, least=least, execution=execution
            )


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    _log.debug("%s: %.1f s", what, time.perf_counter() - begun)
