"""Ranked lists as one picture: a row per query, with its crop first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.core.evaluation.ranked_lists import RankedLists

_MATCH, _OTHER, _QUERY = "#1a7f37", "#cf222e", "#57606a"
_WIDTH, _HEIGHT = 0.8, 1.7  # inches of a crop


def draw_lists(
    lists: RankedLists,
    query_picture: Callable[[int], NDArray[np.uint8]],
    gallery_picture: Callable[[int], NDArray[np.uint8]],
    file: Path,
) -> None:
    """Draw every list into `file` (.png, .svg or .pdf): matches in green frames, others in red."""
    columns = lists.rows.shape[1] + 1
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * max(1, len(lists))), layout="tight")
    for q in range(len(lists)):
        cells = [(query_picture(q), "query", _QUERY)]
        for row, score, hit in zip(lists.rows[q], lists.scores[q], lists.hits[q], strict=True):
            if row >= 0:
                color = _MATCH if hit else _OTHER
                cells.append((gallery_picture(int(row)), f"{score:.2f}", color))
        for place, (picture, title, color) in enumerate(cells):
            axes = figure.add_subplot(len(lists), columns, q * columns + place + 1)
            axes.imshow(picture)
            axes.set_title(title, fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color=color, linewidth=2)
    figure.savefig(file)
