"""Small random inputs whose float32 dot products are exact, so that ties are real."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels


@dataclass(frozen=True)
class Case:
    queries: np.ndarray
    query_labels: Labels
    gallery: np.ndarray
    gallery_labels: Labels


@st.composite
def cases(draw, min_queries=0, min_gallery=0):
    seed = draw(st.integers(0, 2**32 - 1))
    q = draw(st.integers(min_queries, 9))
    g = draw(st.integers(min_gallery, 40))
    d = draw(st.sampled_from([1, 2, 3, 15, 16, 17, 64, 81]))
    spread = draw(st.sampled_from([1, 2, 9]))
    rng = np.random.default_rng(seed)

    def rows(n):
        return rng.integers(-spread, spread + 1, (n, d)).astype(np.float32)

    def labels(n):
        return Labels(rng.integers(-1, 5, n), rng.integers(-1, 3, n))

    return Case(rows(q), labels(q), rows(g), labels(g))


tilings = st.builds(Tiling, st.integers(1, 11), st.integers(1, 50), st.integers(1, 2))


def unit_rows(n, d, seed=0, clusters=None):
    """Unit vectors, in clusters of near ones where asked."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    if clusters:
        rows = 0.5 * rows + 2 * rng.standard_normal((clusters, d))[rng.integers(0, clusters, n)]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
