"""Process the tiles of two sides, and choose the kind of product that is fastest."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.float_products import Product
from pipeline.core.ledger import Account, Ledger
from pipeline.core.products.int8_codes import LARGEST_SUM, Codes
from pipeline.core.products.kernels import aligned, product_slack
from pipeline.core.products.sieve import NO_SIEVE, Finer
from pipeline.core.products.strips import NO_STRIPS, ROWS
from pipeline.core.products.tiles import TRIED, Leading, Products, Side, Tile, here

Offer = Callable[[Tile], tuple[int, int]]
"""Takes a tile; returns the number of rows that it processed completely, and of pairs that it
scored.
"""

# The share of a tile's pairs that codes may nominate before float32 products are faster.
_WORTH_CODING = 1 / 8
# The share that codes of the leading dimensions may nominate before those of all are faster.
_WORTH_LEADING = 1 / 8
_LONGEST_PAUSE = 64
_NO_END = 2**40  # far more than the pairs of a tile
_NO_TAILS, _NO_VALUES = np.empty(0, np.float32), np.empty((0, 0), np.int32)


class _Choice:
    """Decide whether the next tile uses codes: after a tile that nominated too many pairs, pause.

    Each further such tile doubles the pause. Thresholds rise during a pass, so codes become
    worthwhile again.
    """

    def __init__(self) -> None:
        self._pause = self._left = 0
        self._lock = threading.Lock()

    def codes(self) -> bool:
        """Whether the next tile uses codes."""
        with self._lock:
            self._left = max(0, self._left - 1)
            return self._left == 0

    def learn(self, paid: bool) -> None:
        """Record whether a tile of codes was worthwhile."""
        with self._lock:
            self._pause = 0 if paid else min(max(4, 2 * self._pause), _LONGEST_PAUSE)
            self._left = self._pause


class Fold(threading.local):
    """Offer tiles of two sides; each thread has its own buffers.

    If the kind of product is free, the pairs that one tile of codes nominates decide for the tiles
    that follow. `choices` is the number of independent decisions: one for each block of the first
    side, or a single one for all. The `ledger` counts the products.
    """

    def __init__(self, products: Products, choices: int = 1, ledger: Ledger | None = None) -> None:
        self._free = products == "auto"
        self._choices = [(_Choice(), _Choice()) for _ in range(choices)]
        self._product = Product()
        self._buffer = np.empty(0, np.int32)
        self._ledger = ledger or Ledger()

    def __call__(
        self, first: Side, x: int, second: Side, y: int, offer: Offer, *, patient: bool = False
    ) -> None:
        """Offer the tile of block `x` of `first` and block `y` of `second`, strip by strip.

        A `patient` tile is offered completely, without giving up, because the pairs that it
        nominates say nothing about the codes.
        """
        done, rows = 0, len(first.places(x))
        of_leading, of_codes = self._choices[x % len(self._choices)]
        a, b = first.leading, second.leading
        if a and b and a.chosen == b.chosen and (not self._free or of_leading.codes()):
            done = self._leading(a, first, x, b, second, y, offer, patient)
            of_leading.learn(paid=done == rows)
        if done < rows and first.coded and second.coded and (not self._free or of_codes.codes()):
            done = self._codes(first, x, second, y, done, offer, patient)
            of_codes.learn(paid=done == rows)
        if done < rows:
            self._floats(first, x, second, y, done, offer)

    def _leading(
        self,
        a: Leading,
        first: Side,
        x: int,
        b: Leading,
        second: Side,
        y: int,
        offer: Offer,
        patient: bool,
    ) -> int:
        """Offer a tile of the leading dimensions while that is worthwhile; return the number of
        rows offered.

        A `patient` tile uses finer codes, because what it finds saves much scoring later.
        """
        if patient and a.finer and b.finer:
            return self._finer(a.finer, first.places(x), b.finer, second.places(y), offer)
        columns = second.places(y)
        bound, per_unit, tails = a.bound(x, b, y), 1 / a.codes.unit(x, b.codes, y), b.tails[columns]
        sieve = a.finer.sieve(b.finer) if a.finer and b.finer else NO_SIEVE
        rows = first.places(x)
        tile = Tile(
            _NO_VALUES, rows, columns, bound, per_unit, float(LARGEST_SUM), _NO_END, a.tails[rows],
            tails, sieve, NO_STRIPS,
        )  # fmt: skip
        done, scored = self._offer_codes(
            a.codes, x, b.codes, y, tile, 0, _WORTH_LEADING, patient, offer
        )
        values = done * len(columns)
        self._ledger.add(Account(values, a.chosen.dimensions, a.chosen.dimensions, scored=scored))
        return done

    def _finer(
        self, a: Finer, rows: NDArray[np.int64], b: Finer, columns: NDArray[np.int64], offer: Offer
    ) -> int:
        """Offer a whole tile of finer codes; return the number of rows."""
        sieve = a.sieve(b)
        tile = Tile(
            a.product(rows, b, columns), rows, columns, sieve.slack, sieve.per_unit,
            float(LARGEST_SUM), _NO_END, a.tails[rows], b.tails[columns], NO_SIEVE,
            NO_STRIPS,
        )  # fmt: skip
        done, scored = offer(tile)
        self._ledger.add(Account(tile.values.size, a.count, a.count, scored=scored))
        return done

    def _codes(
        self, first: Side, x: int, second: Side, y: int, done: int, offer: Offer, patient: bool
    ) -> int:
        """Offer a tile of codes from row `done` on; the other parameters are those of
        `_leading`.
        """
        a = first.codes(here)
        b = second.codes(here, a)
        columns, bound, per_unit = second.places(y), a.bound(x, b, y), 1 / a.unit(x, b, y)
        tile = Tile(
            _NO_VALUES, first.places(x), columns, bound, per_unit, float(LARGEST_SUM), _NO_END,
            _NO_TAILS, _NO_TAILS, NO_SIEVE, NO_STRIPS,
        )  # fmt: skip
        after, scored = self._offer_codes(a, x, b, y, tile, done, _WORTH_CODING, patient, offer)
        self._ledger.add(Account(codes=(after - done) * len(columns), scored=scored))
        return after

    def _offer_codes(
        self,
        a: Codes,
        x: int,
        b: Codes,
        y: int,
        tile: Tile,
        done: int,
        worth: float,
        patient: bool,
        offer: Offer,
    ) -> tuple[int, int]:
        """Offer a tile that has no values yet from row `done` on, until it nominates more than the
        share `worth`.

        Return the rows that were offered, and the pairs scored.
        """
        rows, columns = len(tile.rows), len(tile.columns)
        at_once = rows if patient or a.form == "lines" else ROWS
        needed = a.room(at_once, b, y)
        if len(self._buffer) < needed:
            self._buffer = aligned(needed, np.int32)
        most = int(TRIED * columns * worth) if self._free and not patient else _NO_END
        if at_once < rows:
            values, strips = a.strips(x, done, b, y, self._buffer)
        else:
            values, strips = a.product(x, b, y, self._buffer)[done:], NO_STRIPS
        taken, scored = offer(
            tile._replace(
                values=values, strips=strips, most=most,
                rows=tile.rows[done:], row_tails=tile.row_tails[done:],
            )
        )  # fmt: skip
        return done + taken, scored

    def _floats(self, first: Side, x: int, second: Side, y: int, done: int, offer: Offer) -> None:
        rows, columns = first.places(x)[done:], second.places(y)
        block = first.block(rows)
        values = self._product(block, second.block(columns))
        slack = product_slack(
            block.shape[1], first.lengths[rows].max(), second.lengths[columns].max()
        )
        tile = Tile(
            values, rows, columns, float(slack), 1.0, np.inf, _NO_END, _NO_TAILS, _NO_TAILS,
            NO_SIEVE, NO_STRIPS,
        )  # fmt: skip
        _, scored = offer(tile)
        self._ledger.add(Account(floats=values.size, scored=scored))
