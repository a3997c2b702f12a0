"""How the tiles of neighbors go about it: what lists are guessed to reach, and what codes are of.

Lists begin empty, and for long anything may enter them. So what the worst of a full list will be is
guessed from some rows that are compared with all others, and lists are filled with that: most pairs
are then ruled out from the first tile on. A list that still holds a guess when all is done fell
short, and is searched for again; all others are what they would have been.
"""

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Run, alone
from pipeline.core.neighbors.schedule import Tiles
from pipeline.core.products.choosing import (
    ALL,
    Outlook,
    Plan,
    Share,
    Trial,
    code_sides,
    likely_axes,
    look_ahead,
)
from pipeline.core.products.kernels import product_slack
from pipeline.core.products.tiles import Chosen, Products, Side, here

_GUESSED = -2  # the row of what is guessed, in place of one that is found
# Fewer rows are soon compared; and longer lists of few rows are no matter of luck.
_FEWEST = 4096
_FEWEST_OF_K = 8


class Ends(NamedTuple):
    """The rows `[N, D]` of one side of a tile, and of each the k best others yet, worst first.

    `least` `[N]` is the least score yet of each; `[0]` where it is not wanted.
    """

    features: NDArray[np.float32]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    least: NDArray[np.float32]


def fell_short(ends: Ends) -> NDArray[np.int64]:
    """The rows whose lists hold a guess still."""
    return np.flatnonzero((ends.rows == _GUESSED).any(axis=1))


class Course:
    """What is guessed and chosen for the tiles of two sides, or of one with itself."""

    def __init__(
        self, first: Side, first_ends: Ends, second: Side, second_ends: Ends, products: Products
    ) -> None:
        self._first, self._second = first, second
        self._first_ends, self._second_ends = first_ends, second_ends
        self._products = products
        rows, columns = len(first.features), len(second.features)
        self._meets = rows * columns / max(1, rows + columns)
        self._trial: Trial | None = None
        self._done = 0
        self._marks: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """Guess what lists will reach, choose what codes are of, and make them."""
        first, second = self._first, self._second
        if not (first.coded and second.coded):
            return
        ends, others = self._first_ends, self._second_ends
        outlook = look_ahead(first, second, ends.scores.shape[1], run)
        _guess(ends, first, outlook, others)
        if first is not second:
            back = look_ahead(second, first, others.scores.shape[1], run)
            _guess(others, second, back, ends)

        def choose() -> tuple[Trial, Chosen]:
            axes = None if self._products == "int8" else likely_axes(second, self._products)
            trial = Trial(first, second, axes, self._meets, self._products)
            return trial, trial.choose(self._share(trial, outlook))

        self._trial, chosen = alone(run, choose)
        code_sides(first, second, Plan(self._trial.axes, chosen), run)

    def over(self, line: list[tuple[int, int]], apart: int = 0) -> Tiles:
        """The tiles of a line; after an eighth, and half, of them, codes may be chosen anew."""
        self._marks = (len(line) // 8, len(line) // 2)
        return Tiles(line, apart)

    def go_on(self) -> None:
        """Before each tile: see whether another number of dimensions has come to pay."""
        with self._lock:
            self._done += 1
            due = self._done in self._marks
        trial, first, second = self._trial, self._first, self._second
        if not due or trial is None or trial.axes is None or self._products != "auto":
            return
        held = first.leading.chosen if first.leading else ALL
        chosen = trial.choose(self._share(trial, None), held)
        if chosen != held:
            for side in (first,) if first is second else (first, second):
                side.lead(trial.axes, chosen, here)

    def _share(self, trial: Trial, outlook: Outlook | None) -> Share:
        """What counts for either end, by what is found, and what is likely to be found."""
        ends, others = self._first_ends, self._second_ends
        near, reached = ends.scores[trial.rows, 0], others.scores[trial.columns, 0]
        least = ends.least[trial.rows] if len(ends.least) else None
        if outlook is not None:
            near = np.maximum(near, outlook.worst)
            reached = np.maximum(reached, np.median(near))
            least = None if least is None else np.minimum(least, outlook.least)

        def share(upper: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
            counts = (upper >= near[:, None]) | (upper >= reached)
            found = float(counts.mean())
            return found if least is None else found + float((lower <= least[:, None]).mean())

        return share


def _guess(ends: Ends, side: Side, outlook: Outlook, others: Ends) -> None:
    """Fill lists that are not full with what the worst of nearly all are likely to reach."""
    n, k = len(others.features), ends.scores.shape[1]
    # Where a list is searched for again, the first of equal scores is the first row.
    ascending = (others.numbers[1:] > others.numbers[:-1]).all()
    if n < _FEWEST or n < _FEWEST_OF_K * k or not ascending:
        return
    longest = float(side.lengths.max())
    slack = product_slack(ends.features.shape[1], longest, longest)
    worst = outlook.worst.min() - slack
    if not np.isfinite(worst):
        return
    empty = np.isneginf(ends.scores)
    ends.rows[empty] = _GUESSED
    ends.scores[empty] = worst
    # In order, the worst first, a list is a heap.
    mixed = np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1))
    order = np.lexsort((-ends.rows[mixed], ends.scores[mixed]), axis=1)
    ends.scores[mixed] = np.take_along_axis(ends.scores[mixed], order, axis=1)
    ends.rows[mixed] = np.take_along_axis(ends.rows[mixed], order, axis=1)
