"""Bounds of the scores of rows from their leading principal dimensions alone.

Let Q `[D, P]` have orthonormal columns. A row x has a projection p = Q'x, and a tail that is
orthogonal to Q, of length t, with t^2 = |x|^2 - |p|^2. Let a row y have the projection q and the
tail length u. Then x . y is p . q plus the product of both tails, and by the Cauchy-Schwarz
inequality

    p . q - t u <= x . y <= p . q + t u.

The upper bound is the product of (p, t) and (q, u), that is, of rows with one extra component. The
lower bound is less by 2 t u. The steeper the spectrum of the rows, the fewer components are needed
for short tails.

The bounds include rounding. The directions V are orthonormal up to a `skew`, an upper bound of |V'V
- I|; with the polar decomposition V = Q H, |H - I| is at most as large. A projection is a float32
product with an error of at most sqrt(P) g |x| |v|, where g = D u / (1 - D u) and u = 2^-24 (see
`kernels.product_slack`). Both together are `Axes.error` |x|. So the error of a product of two
projections is (2 + error) error |x| |y|, and that of the square of a tail is 2 error |x|^2; tails
are lengthened by that.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.float_products import Product, as_tensor

_SAMPLE = 1024
_TURNS = 3
CUT_BY = 16
"""Number of leading components that `gather` looks at."""
# For row lengths between these, no component underflows in a way that affects a bound.
SHORTEST, LONGEST = 1e-9, 1e9
# A margin far above the float64 rounding of the squares of lengths.
_SPARE = 1e-12


@dataclass(frozen=True)
class Axes:
    """Leading principal directions `[P, D]` float32 of some rows, in descending order of variance.

    `skew` is an upper bound of their distance from orthonormal.
    """

    directions: NDArray[np.float32]
    skew: float

    def error(self, count: int) -> float:
        """The greatest error of the projection of a row of length 1 on the first `count` axes."""
        dimension = self.directions.shape[1]
        rounding = dimension * 2.0**-24 / (1 - dimension * 2.0**-24)
        return float(1.01 * (count**0.5 * rounding * (1 + self.skew) + self.skew))

    def slack(self, count: int) -> float:
        """The greatest error of the product of two projections, for rows of length 1."""
        return (2 + self.error(count)) * self.error(count)


def principal_axes(rows: NDArray[np.float32], most: int) -> Axes:
    """Up to `most` leading principal directions of `rows` `[N, D]`, from a sample of them.

    The method is subspace iteration. Any orthonormal directions give correct results; good ones are
    fast.
    """
    import torch  # slow to load, and not all that import this module look for axes

    sample = as_tensor(rows[:: -(-len(rows) // _SAMPLE)])
    count = min(most, *sample.shape)
    held = torch.randn(sample.shape[1], count, generator=torch.Generator().manual_seed(0))
    for _ in range(_TURNS):
        held = torch.linalg.qr(sample.t() @ (sample @ held))[0]
    seen = sample @ held
    _, turn = torch.linalg.eigh(seen.t() @ seen)
    directions = np.ascontiguousarray((held @ turn.flip(1)).t().numpy())
    exact = as_tensor(directions).double()
    skew = float(torch.linalg.norm(exact @ exact.t() - torch.eye(count, dtype=torch.float64)))
    return Axes(directions, float(1.01 * skew + 1e-9))


def project(
    rows: NDArray[np.float32],
    lengths: NDArray[np.float64],
    axes: Axes,
    count: int,
    run: Run,
    size: int,
) -> NDArray[np.float32]:
    """The projections of `rows` `[N, D]` on the first `count` axes, followed by their tails: `[N,
    count + 1]`.

    `lengths` `[N]` are the lengths of the rows, each 0 or from `SHORTEST` to `LONGEST`.
    """
    out = np.empty((len(rows), count + 1), np.float32)
    product, error = Product(), axes.error(count)

    def work(start: int, stop: int) -> None:
        out[start:stop, :count] = product(rows[start:stop], axes.directions[:count])
        _add_tails(out[start:stop], lengths[start:stop], error)

    run(work, blocks(len(rows), size))
    return out


def may_project(lengths: NDArray[np.float64]) -> bool:
    """Whether projections give valid bounds for rows of these `lengths`."""
    return bool(((lengths == 0) | ((lengths >= SHORTEST) & (lengths <= LONGEST))).all())


def gather(projections: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Order the rows, int64 `[N]`, so that blocks of `size` rows lie close together, by halving.

    Each part is split at the median of the component in which its rows vary most, of the first few
    of `projections` `[N, P]`. So most neighbors of a row are in its own block.
    """
    few = np.ascontiguousarray(projections[:, :CUT_BY])
    order = np.arange(len(few))
    parts = [(0, len(few))]
    while parts:
        start, stop = parts.pop()
        held = -(-(stop - start) // size)
        if held < 2:
            continue
        rows = order[start:stop]
        widest = few[rows].var(axis=0).argmax()
        middle = held // 2 * size
        order[start:stop] = rows[np.argpartition(few[rows, widest], middle)]
        parts += [(start, start + middle), (start + middle, stop)]
    return order


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _add_tails(rows: NDArray[np.float32], lengths: NDArray[np.float64], error: float) -> None:
    """Write an upper bound of each row's tail to the last column."""
    last = rows.shape[1] - 1
    for i in range(rows.shape[0]):
        square = 0.0
        for t in range(last):
            square += np.float64(rows[i, t]) * np.float64(rows[i, t])
        whole = lengths[i] * lengths[i]
        held = max(0.0, np.sqrt(square) - error * lengths[i])
        tail = np.sqrt(max(0.0, whole - held * held) + _SPARE * whole)
        rows[i, last] = np.float32(tail * (1 + 2.0**-23))
