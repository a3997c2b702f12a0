"""Find the score of the least similar row for every row, exactly."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.neighbors.pairs import Products, neighbors


def least_scores(
    rows: NDArray[np.float32] | FeatureRows,
    *,
    tiling: Tiling = Tiling(),
    products: Products = "auto",
) -> NDArray[np.float32]:
    """The least `kernels.score` `[N]` of every row of `rows` `[N, D]` with any other of these rows.

    A row that is alone has inf. `neighbors` computes these scores as a by-product; the other
    parameters are explained there.

    >>> least_scores(np.array([[1, 0], [0, 1], [0, -1]], np.float32))
    array([ 0., -1., -1.], dtype=float32)
    """
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, tiling=tiling, products=products)
    return least
