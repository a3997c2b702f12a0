import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.ranking import Labels
from pipeline.core.reranking import Reranking
from pipeline.stages.rerank import count_reranked
from tests import oracles
from tests.core.strategies import unit_rows

QUERIES, GALLERY = unit_rows(12, 24, clusters=7), unit_rows(80, 24, seed=3, clusters=7)


@pytest.mark.parametrize("variant", ["zhong", "torchreid"])
@pytest.mark.parametrize("tiling", [Tiling(), Tiling(5, 13)])
def test_ranks_are_those_of_the_dense_definition(variant, tiling):
    rng = np.random.default_rng(0)
    labels = [Labels(rng.integers(-1, 6, n), rng.integers(0, 3, n)) for n in (12, 80)]
    seen = []
    found = count_reranked(
        ArrayRows(QUERIES),
        labels[0],
        ArrayRows(GALLERY),
        labels[1],
        Reranking(6, 3, 0.3, variant),
        tiling=tiling,
        progress=seen.append,
    )
    final = oracles.k_reciprocal(QUERIES, GALLERY, 6, 3, 0.3, variant)
    ranks = found.ranks()
    for q in range(len(QUERIES)):
        identity, camera = labels[0].identity[q], labels[0].camera[q]
        same = (labels[1].identity == identity) & (identity > 0)
        junk = (labels[1].identity == -1) | (same & (labels[1].camera == camera))
        order = oracles.sorted_rows(-final[q], np.flatnonzero(~junk))
        expected = [place + 1 for place, row in enumerate(order) if same[row]]
        assert ranks[found.offsets[q] : found.offsets[q + 1]].tolist() == expected
    assert sum(seen) == len(GALLERY)
