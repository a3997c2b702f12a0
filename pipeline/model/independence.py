"""Check whether a network's feature of a crop depends on the other crops of its batch.

A network that was saved in training mode normalizes by the current batch, so a crop's feature
changes with the other crops. The check runs the network twice, whatever its format says.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.input.preprocessing import standardize
from pipeline.model.networks import Network
from pipeline.model.recipe import Recipe

AGREEMENT = 1e-3
"""The largest difference of two features of one crop, relative to their length, that counts as
rounding.
"""

COMPANY = 4
"""Number of rows in a test batch if a network accepts any number: as good as a full batch, and
faster.
"""


def check_independent(path: str, network: Network, recipe: Recipe, rows: int) -> None:
    """Raise InputError if a crop's feature changes with the crops beside it.

    The crop runs once among drawn pictures and once among black ones, at another place of a batch
    of `rows`. A network that takes one crop at a time passes.
    """
    rows = network.batch or max(rows, 2)
    if rows == 1:
        return
    pictures = _pictures(rows, (recipe.height, recipe.width))
    alone = np.zeros_like(pictures)
    alone[-1] = pictures[0]
    together = network(standardize(pictures, recipe))[0]
    apart = network(standardize(alone, recipe))[-1]
    difference = _difference(together, apart)
    if difference > AGREEMENT:
        raise InputError(
            f"{path}: the feature of a crop depends on the rest of its batch: it differs by "
            f"{100 * difference:.3g} % of its length when the crops beside it change. The network "
            "was probably exported in training mode: call model.eval() and export it again"
        )


def _pictures(rows: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures uint8 `[rows, 3, *size]` of differing brightness and contrast."""
    random = np.random.default_rng(0)
    level = random.uniform(40, 200, (rows, 3, 1, 1))
    spread = random.uniform(10, 60, (rows, 3, 1, 1))
    drawn = level + spread * random.standard_normal((rows, 3, *size))
    return drawn.clip(0, 255).astype(np.uint8)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """The length of the difference, relative to the longer of two features.

    The result is 0 if a feature is not finite, because extraction itself rejects such features.
    """
    longer = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    if not longer or not np.isfinite(longer):
        return 0.0
    return float(np.linalg.norm(one - other)) / longer
