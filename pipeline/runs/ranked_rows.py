"""The top of ranked lists as an object that prints as a table and draws itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation import ranked_lists as core
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranked_lists import RankedLists
from pipeline.runs.arrays import Features, Pair, both_labels, feature_rows

Pictures = Sequence[NDArray[np.uint8]] | Callable[[int], NDArray[np.uint8]]
"""The crop of each row, uint8 `[H, W, 3]`, or a function that returns it."""


@dataclass(frozen=True)
class RankedRows:
    """The best kept gallery rows of each query, best first; `lists` has them as arrays.

    It prints as a line per query: `row:similarity` of each hit, with matches marked with `*`.
    """

    lists: RankedLists

    def __len__(self) -> int:
        return len(self.lists)

    def __str__(self) -> str:
        width = len(str(max(len(self) - 1, 0)))
        return "\n".join(f"query {q:>{width}}: {self._line(q)}" for q in range(len(self)))

    def _line(self, q: int) -> str:
        rows, scores, hits = self.lists.rows[q], self.lists.scores[q], self.lists.hits[q]
        shown = zip(rows.tolist(), scores.tolist(), hits.tolist(), strict=True)
        return "  ".join(
            f"{row}:{score:.3f}{'*' if hit else ''}" for row, score, hit in shown if row >= 0
        )

    def draw(self, query_pictures: Pictures, gallery_pictures: Pictures, file: Path | str) -> None:
        """Write a picture of all lists, a row a query: matches in green frames, others in red.

        `file` ends in .png, .svg or .pdf.
        """
        from pipeline.report.ranked_picture import draw_lists

        draw_lists(self.lists, _function(query_pictures), _function(gallery_pictures), Path(file))


def ranked_rows(
    queries: Features,
    query_labels: Labels | Pair,
    gallery: Features,
    gallery_labels: Labels | Pair,
    k: int = 10,
    *,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> RankedRows:
    """The `k` best gallery rows of each query, junk left out as in every metric; ties by row.

    >>> print(ranked_rows([[1, 0]], ([7], ["a"]), [[0.6, 0.8], [1, 0]], ([7, 9], ["b", "b"])))
    query 0: 1:1.000  0:0.600*
    """
    first = feature_rows(queries, "queries", normalize)
    second = feature_rows(gallery, "gallery", normalize)
    ours, theirs = both_labels(query_labels, gallery_labels)
    return RankedRows(core.ranked_lists(first, ours, second, theirs, k, tiling=tiling))


def _function(pictures: Pictures) -> Callable[[int], NDArray[np.uint8]]:
    return pictures if callable(pictures) else pictures.__getitem__
