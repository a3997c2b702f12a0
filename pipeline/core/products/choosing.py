"""Choose how many leading dimensions to code, from the pairs of a sample that would remain to be
scored.

Nothing here changes a result; the choice affects only the speed.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.float_products import Product, as_tensor
from pipeline.core.processor import has_avx2, has_byte_products, has_vnni
from pipeline.core.products.int8_codes import in_panels, largest_code
from pipeline.core.products.principal import Axes, principal_axes
from pipeline.core.products.tiles import Chosen, Products, Side, here, in_words

Share = Callable[[NDArray[np.float32], NDArray[np.float32]], float]
"""The share of sampled pairs that would be scored, if their scores are known to lie between two
bounds `[M, C]`, the upper one first.
"""

ALL = Chosen(0, 0)
"""Codes of all dimensions."""


class Plan(NamedTuple):
    """The `axes` that rows are projected on, if any, and how many of them are `chosen`."""

    axes: Axes | None
    chosen: Chosen


_ROWS, _COLUMNS = 64, 1024
# Possible numbers of coded dimensions, tail included; multiples of 64 if codes do not lie in
# panels.
_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256)
# Beyond this share of all dimensions, leading dimensions save too little.
_FEW = 0.3
# Approximate picoseconds per dimension: to score a pair; to sieve it, and to sieve it regardless of
# the number of dimensions;
_SCORING, _SIEVING, _SIEVING_ANY = 250, 40, 6000
# to multiply a component of two float32 rows, or to code one.
_PREPARING = 30
# If the saving is small, finding the axes and projecting the rows takes as long as they save.
_WORTH_LEADING = 0.85
_WORTH_CHANGING = 0.8


def _some(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` rows at random, the same ones in every run."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


class Outlook(NamedTuple):
    """The scores that the sampled rows `[M]` of a `Trial` are expected to find.

    These are the worst score of the k best, and the least of all.
    """

    worst: NDArray[np.float32]
    least: NDArray[np.float32]


def look_ahead(
    side: Side, other: Side, k: int, run: Run, beside: Callable[[], None] = lambda: None
) -> Outlook:
    """Estimate the scores that some rows of a side will find in the other side, or in the rest of
    their own.

    One thread of `run` calls `beside` at the same time.
    """
    rows = _some(len(side.features), _ROWS)
    columns = _some(len(other.features), 64 * _COLUMNS)
    scores = np.empty((len(rows), len(columns)), np.float32)
    product, asked = Product(), side.features[rows]

    def score(start: int, stop: int) -> None:
        scores[:, start:stop] = product(asked, other.features[columns[start:stop]])

    works = [beside]
    works += [partial(score, *each) for each in blocks(len(columns), 4 * _COLUMNS)]
    run(lambda place, _stop: works[place](), blocks(len(works), 1))
    rank = min(scores.shape[1], max(1, -(-k * len(columns) // len(other.features))))
    worst, least = np.empty((2, len(rows)), np.float32)

    def reach(start: int, stop: int) -> None:
        own = scores[start:stop]
        least[start:stop] = own.min(axis=1)
        if side is other:
            own[rows[start:stop, None] == columns] = -np.inf
        own.partition(-rank, axis=1)
        worst[start:stop] = own[:, -rank]

    run(reach, blocks(len(rows), _ROWS // 8))
    return Outlook(worst, least)


def likely_axes(side: Side, products: Products) -> Axes | None:
    """The principal axes of a side's rows; None if a few axes do not hold most of their length."""
    dimension = side.features.shape[1]
    most = max(_counts(dimension, products), default=0)
    if not most or (products == "auto" and _flat(side.features)):
        return None
    return principal_axes(side.features, most)


def _flat(features: NDArray[np.float32]) -> bool:
    """Whether the rows spread over more than a quarter of all dimensions."""
    some = as_tensor(features[_some(len(features), 4 * _ROWS)])
    products = (some @ some.t()).double().numpy()
    squares = np.diag(products)
    together = (products**2).sum() - (squares**2).sum()
    apart = squares.sum() ** 2 - (squares**2).sum()
    return bool(together * features.shape[1] < 4 * apart)


class Trial:
    """The bounds that codes of more and more leading dimensions give for a sample of both sides.

    The sample has the rows at the places `rows` of one side and `columns` of the other. Each row
    `meets` this number of others. Without `axes`, only codes of all dimensions are possible.
    """

    def __init__(
        self, first: Side, second: Side, axes: Axes | None, meets: float, products: Products
    ) -> None:
        self.rows = _some(len(first.features), _ROWS)
        self.columns = _some(len(second.features), _COLUMNS)
        self.axes = axes
        self._options: list[_Option] = []
        dimension = first.features.shape[1]
        self._dimension, self._coding = dimension, _PREPARING * dimension / meets
        if axes is None:
            return
        sides = first.features[self.rows], second.features[self.columns]
        lengths = first.lengths[self.rows], second.lengths[self.columns]
        longest = np.outer(*lengths).astype(np.float32)
        near = Product()(*sides).copy()
        if products != "principal":
            cost = dimension * _of_bytes() * _WORTH_LEADING
            self._add(0, cost, near, 0 * near, longest * _error(words=False))
        a, b = (Product()(each, axes.directions).copy() for each in sides)
        near, done = np.zeros_like(near), 0
        counts = [min(count, len(axes.directions)) for count in _counts(dimension, products)]
        for count in dict.fromkeys(counts):
            more = as_tensor(a[:, done:count]) @ as_tensor(b[:, done:count]).t()
            near = near + more.numpy()
            done = count
            tails = (
                np.sqrt(np.maximum(0, length**2 - (each[:, :count] ** 2).sum(axis=1)))
                for length, each in zip(lengths, (a, b), strict=True)
            )
            words = in_words(count)
            cost = (count + 1) * (_of_words() if words else _of_bytes()) + count * self._coding
            above = np.outer(*tails).astype(np.float32)
            self._add(count, cost, near, above, longest * _error(words))

    def _add(
        self,
        count: int,
        cost: float,
        near: NDArray[np.float32],
        tails: NDArray[np.float32],
        error: NDArray[np.float32],
    ) -> None:
        bounds = near + tails + error, near - tails - error
        self._options.append(_Option(count, cost, bounds))

    def choose(self, share: Share, held: Chosen | None = None) -> Chosen:
        """Choose how many leading dimensions to code, given the `share` of pairs to be scored.

        The choice `held` so far stays if another one saves too little, because a change codes the
        rows again.
        """
        costs = self._costs_of(share)
        best = min(costs, key=costs.__getitem__, default=ALL)
        if held in costs and costs[best] > _WORTH_CHANGING * costs[held]:
            return held
        return best

    def _costs_of(self, share: Share) -> dict[Chosen, float]:
        """The cost of a pair for each choice, in picoseconds."""
        shares = [share(*option.bounds) for option in self._options]
        costs, scoring = {}, _SCORING * self._dimension
        for place, (option, left) in enumerate(zip(self._options, shares, strict=True)):
            costs[Chosen(option.dimensions, 0)] = option.cost + scoring * left
            if not option.dimensions or not has_avx2():
                continue
            for finer in range(place + 1, len(shares)):
                count = self._options[finer].dimensions
                sieving = (_SIEVING_ANY + _SIEVING * count) * left + count * self._coding
                scored = scoring * min(left, shares[finer])
                costs[Chosen(option.dimensions, count)] = option.cost + sieving + scored
        return costs


class _Option(NamedTuple):
    """A number of leading `dimensions`, their cost per pair, and their bounds for the sample."""

    dimensions: int
    cost: float
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]


def _of_bytes() -> float:
    """Approximate picoseconds for a product of two codes of 8 bits, or 7."""
    return 2.5 if has_byte_products() else 10


def _of_words() -> float:
    """Approximate picoseconds for a product of two codes of 16 bits."""
    return 6 if has_vnni() else 13


def _error(words: bool) -> float:
    """The approximate error of products of codes, for rows of length 1."""
    return 2e-4 if words else 2 / largest_code()


def _counts(dimension: int, products: Products) -> list[int]:
    """The numbers of dimensions to choose from."""
    counts = [width - 1 for width in _WIDTHS if width <= _FEW * dimension]
    counts = [count for count in counts if in_words(count) or in_panels() or count % 64 == 63]
    if not counts and products == "principal":
        return [max(1, dimension // 2)]
    return counts


def code_sides(first: Side, second: Side, plan: Plan, run: Run) -> None:
    """Code both sides as planned: in the leading dimensions, or in all."""
    if not (first.coded and second.coded):
        return
    sides = [first] if first is second else [first, second]
    if plan.axes is not None and plan.chosen.dimensions:
        for side in sides:
            side.lead(plan.axes, plan.chosen, run)
    if not all(side.leading for side in sides):
        for side in sides:
            side.leading = None
            if plan.axes is not None:
                side.gather_by(plan.axes, run)
            side.codes(run, None if side is first else first.codes(here))


def code_like(side: Side, other: Side, run: Run) -> None:
    """Code a side in the same way as another side that is already coded."""
    if other.leading:
        side.lead(other.leading.axes, other.leading.chosen, run)
    if not side.leading:
        side.codes(run, other.codes(here))
