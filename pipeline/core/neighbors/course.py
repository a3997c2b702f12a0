"""How the tiles of a neighbor search proceed: the scores that lists are expected to reach, and the
dimensions that codes cover.

At first the lists are empty, so any pair may enter them. Therefore we compare a sample of rows with
all others, guess from it the worst score of each full list, and fill the lists with this guess.
Then the bounds exclude most pairs from the first tile on. If a list still holds a guess at the end,
the guess was too high, and the row is searched again. All other lists are the same as without
guesses.
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

_GUESSED = -2  # the row number of a guess, in place of a real row
# With fewer rows a plain comparison is fast. In longer lists of few rows, chance matters little.
_FEWEST = 4096
_FEWEST_OF_K = 8


class Ends(NamedTuple):
    """The rows `[N, D]` of one side of a tile, and the k best others of each row so far, worst
    first.

    `least` `[N]` is the least score of each row so far; its shape is `[0]` if the caller does not
    need least scores.
    """

    features: NDArray[np.float32]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    least: NDArray[np.float32]


def fell_short(ends: Ends) -> NDArray[np.int64]:
    """The rows whose lists still hold a guess."""
    return np.flatnonzero((ends.rows == _GUESSED).any(axis=1))


class Course:
    """Guess scores and choose codes for the tiles of two sides, or of one side with itself."""

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
        """Guess the scores that lists will reach, choose the dimensions of the codes, and make the
        codes.
        """
        first, second = self._first, self._second
        if not (first.coded and second.coded):
            return
        ends, others = self._first_ends, self._second_ends
        plan = Plan(None, ALL)

        def find_axes() -> None:
            nonlocal plan
            if self._products != "int8":
                plan = Plan(likely_axes(second, self._products), ALL)

        outlook = look_ahead(first, second, ends.scores.shape[1], run, find_axes)
        _guess(ends, first, outlook, others)
        if first is not second:
            back = look_ahead(second, first, others.scores.shape[1], run)
            _guess(others, second, back, ends)

        def choose() -> tuple[Trial, Chosen]:
            trial = Trial(first, second, plan.axes, self._meets, self._products)
            return trial, trial.choose(self._share(trial, outlook))

        self._trial, chosen = alone(run, choose)
        code_sides(first, second, plan._replace(chosen=chosen), run)

    def over(self, line: list[tuple[int, int]], apart: int = 0) -> Tiles:
        """Return the tiles of a line. After one eighth and one half of them, `go_on` may choose the
        codes again.
        """
        self._marks = (len(line) // 8, len(line) // 2)
        return Tiles(line, apart)

    def go_on(self) -> None:
        """Check, before each tile, whether another number of dimensions has become cheaper."""
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
        """The share of pairs that may count for either end, from current and expected scores."""
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
    """Fill lists that are not full with the worst score that nearly all rows will reach."""
    n, k = len(others.features), ends.scores.shape[1]
    # For a list that is searched again, the first of equal scores must be the first row.
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
    # A list in ascending order, worst first, is a heap.
    mixed = np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1))
    order = np.lexsort((-ends.rows[mixed], ends.scores[mixed]), axis=1)
    ends.scores[mixed] = np.take_along_axis(ends.scores[mixed], order, axis=1)
    ends.rows[mixed] = np.take_along_axis(ends.rows[mixed], order, axis=1)
