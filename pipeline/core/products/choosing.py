"""How many leading dimensions are worth coding, by what they would leave to be scored of a sample.

Nothing here changes a result: it only says which products are likely to be the fastest.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Product, blocks
from pipeline.core.products.int8_codes import Run, in_panels, largest_code
from pipeline.core.products.principal import Axes, principal_axes
from pipeline.core.products.tiles import Products, Side, here

Share = Callable[[NDArray[np.float32], NDArray[np.float32]], float]
"""The share of sampled pairs that would be scored, where their scores are known to lie between two
bounds `[M, C]`, the upper one first."""

_ROWS, _COLUMNS = 64, 2048
# Dimensions that are coded, with the tail: where codes do not lie in panels, multiples of 64.
_WIDTHS = (32, 64, 96, 128, 192, 256)
# Beyond this share of all dimensions there is too little to save.
_FEW = 0.75
# Scoring a pair takes as long as so many products of its codes.
_SCORING = 12
# And a product of float32, or the coding of a component, as long as so many of codes.
_PREPARING = 4
# What is sampled says how many to take only roughly.
_WORTH_CHANGING = 0.85


class Sample(NamedTuple):
    """Some rows `[M, D]` of one side and some `[C, D]` of another, at their places there."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    row_features: NDArray[np.float32]
    column_features: NDArray[np.float32]


def draw(first: Side, second: Side) -> Sample:
    """A sample of both sides."""
    rows, columns = _some(len(first.features), _ROWS), _some(len(second.features), _COLUMNS)
    return Sample(rows, columns, first.features[rows], second.features[columns])


def _some(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` rows at random, the same ones in every run."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


class Outlook(NamedTuple):
    """For the rows `[M]` that `draw` takes of a side, nearly the worst and the least score to come.

    The worst is that of the k best.
    """

    worst: NDArray[np.float32]
    least: NDArray[np.float32]


def look_ahead(side: Side, other: Side, k: int, run: Run) -> Outlook:
    """What some rows of a side will find in the other, or in the rest of the same."""
    rows = _some(len(side.features), _ROWS)
    columns = _some(len(other.features), 32 * _COLUMNS)
    scores = np.empty((len(rows), len(columns)), np.float32)
    product, asked = Product(), side.features[rows]

    def score(start: int, stop: int) -> None:
        scores[:, start:stop] = product(asked, other.features[columns[start:stop]])

    run(score, blocks(len(columns), 2 * _COLUMNS))
    least = scores.min(axis=1)
    if side is other:
        scores[rows[:, None] == columns] = -np.inf
    rank = min(scores.shape[1], max(1, -(-k * len(columns) // len(other.features))))
    return Outlook(np.partition(scores, -rank, axis=1)[:, -rank], least)


def likely_axes(side: Side, products: Products) -> Axes | None:
    """The principal axes of a side's rows; None where no few of them hold much."""
    dimension = side.features.shape[1]
    most = max(_counts(dimension, products), default=0)
    if not most or (products == "auto" and _flat(side.features)):
        return None
    return principal_axes(side.features, most)


def _flat(features: NDArray[np.float32]) -> bool:
    """Whether the rows take up more than a quarter of all dimensions."""
    some = features[_some(len(features), 4 * _ROWS)].astype(np.float64)
    products = some @ some.T
    squares = np.diag(products)
    together = (products**2).sum() - (squares**2).sum()
    apart = squares.sum() ** 2 - (squares**2).sum()
    return bool(together * features.shape[1] < 4 * apart)


def choose_leading(
    sample: Sample, axes: Axes | None, share: Share, meets: float, products: Products
) -> int:
    """How many of the axes to code, of which no few are worth it: 0.

    Each row `meets` so many others.
    """
    if axes is None:
        return 0
    dimension = sample.row_features.shape[1]
    lengths = [
        np.linalg.norm(each, axis=1).astype(np.float32)
        for each in (sample.row_features, sample.column_features)
    ]
    of_codes = (2 / largest_code()) * np.outer(*lengths)
    product = Product()
    near = product(sample.row_features, sample.column_features).copy()
    scoring = _SCORING * dimension
    best, least = 0, dimension + scoring * share(near + of_codes, near - of_codes)
    least = np.inf if products == "principal" else _WORTH_CHANGING * least
    projected = [each @ axes.directions.T for each in (sample.row_features, sample.column_features)]
    near, done = np.zeros_like(near), 0
    counts = [min(count, len(axes.directions)) for count in _counts(dimension, products)]
    for count in dict.fromkeys(counts):
        a, b = (each[:, :count] for each in projected)
        near += a[:, done:] @ b[:, done:].T
        done = count
        tails = np.outer(
            *(
                np.sqrt(np.maximum(0, length**2 - np.einsum("ij,ij->i", each, each)))
                for length, each in zip(lengths, (a, b), strict=True)
            )
        )
        scored = share(near + tails + of_codes, near - tails - of_codes)
        cost = (count + 1) * (1 + _PREPARING * dimension / meets) + scoring * scored
        if cost < least:
            best, least = count, cost
    return best


def _counts(dimension: int, products: Products) -> list[int]:
    """The numbers of dimensions to choose from."""
    widths = [width for width in _WIDTHS if in_panels() or width % 64 == 0]
    counts = [width - 1 for width in widths if width <= _FEW * dimension]
    if not counts and products == "principal":
        return [max(1, dimension // 2)]
    return counts


def code_sides(first: Side, second: Side, axes: Axes | None, count: int, run: Run) -> None:
    """Code both sides in `count` leading dimensions, or in all where that is 0."""
    if not (first.coded and second.coded):
        return
    sides = [first] if first is second else [first, second]
    if axes is not None and count:
        for side in sides:
            side.lead(axes, count, run)
    if not all(side.leading for side in sides):
        for side in sides:
            side.leading = None
            side.codes(run, None if side is first else first.codes(here))
