"""Detect cameras that usually send and now do not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Silence:
    """How one camera sent, counted in periods in which any camera did.

    The camera sent in `active` of the `periods` from its first to its last one, and in none of the
    `quiet` periods since. `chance` is the probability of such a pause if the camera still sends as
    before.
    """

    active: int
    periods: int
    quiet: int
    chance: float


def silences(camera: NDArray[np.int64], period: NDArray[np.int64]) -> dict[int, Silence]:
    """Compute the silence of each camera from the camera and period of each row `[N]`, both 0 or
    more.

    Rows with a negative camera or period are ignored. Whether a camera sends in a period counts as
    independent of the other periods. Its rate is unknown, and all rates count as equally probable
    in advance. The chance is the mean over the rates that fit its periods so far (Laplace's rule of
    succession): of `quiet` misses after `active` in n periods it is the product of (n - active + 1
    + i) / (n + 2 + i) for i from 0 to quiet - 1.

    >>> every_hour = np.arange(24)
    >>> camera = np.repeat([0, 1], [24, 20])
    >>> found = silences(camera, np.concatenate([every_hour, every_hour[:20]]))
    >>> found[0].quiet, found[1].quiet, round(found[1].chance, 6)
    (0, 4, 7.9e-05)
    """
    known = (camera >= 0) & (period >= 0)
    camera, period = camera[known], period[known]
    _, place = np.unique(period, return_inverse=True)
    count = int(place.max(initial=-1)) + 1
    found = {}
    for each in np.unique(camera).tolist():
        own = np.unique(place[camera == each])
        periods, quiet = int(own[-1] - own[0]) + 1, int(count - 1 - own[-1])
        misses, steps = periods - len(own), np.arange(quiet)
        chance = float(np.prod((misses + 1 + steps) / (periods + 2 + steps)))
        found[each] = Silence(len(own), periods, quiet, chance)
    return found
