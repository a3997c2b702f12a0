"""The curve that gives the nearness of two points of a map from their distance."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit

_POINTS = 300
_FARTHEST = 3.0


@dataclass(frozen=True)
class NearnessCurve:
    """Nearness 1 / (1 + a d^(2 b)) of two points at the distance d: 1 at 0, and falling to 0."""

    a: float
    b: float

    @classmethod
    def fitted(cls, min_dist: float, spread: float) -> "NearnessCurve":
        """The curve closest to 1 up to `min_dist`, and to exp(-(d - min_dist) / spread) beyond.

        The fit is by least squares at 300 distances from 0 to 3 `spread` (McInnes, Healy and
        Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction",
        2018, section 4).

        >>> curve = NearnessCurve.fitted(0.1, 1.0)
        >>> round(curve.a, 3), round(curve.b, 3)
        (1.577, 0.895)
        """
        distances = np.linspace(0, _FARTHEST * spread, _POINTS)
        wanted = np.minimum(1.0, np.exp(-(distances - min_dist) / spread))

        def curve(d: np.ndarray, a: float, b: float) -> np.ndarray:
            return 1.0 / (1.0 + a * d ** (2 * b))

        # `a` has the unit of a distance to the power of -2 b.
        (a, b), _ = curve_fit(curve, distances, wanted, p0=(spread**-2, 1.0))
        return cls(float(a), float(b))
