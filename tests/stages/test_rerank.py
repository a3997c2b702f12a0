import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.reranking.distances import Reranking, k_reciprocal
from pipeline.core.reranking.ranks import rank_counts
from pipeline.stages.execution import Execution
from pipeline.stages.rerank import count_reranked, encode_union
from tests import oracles
from tests.core.strategies import unit_rows
from tests.stages.making import Elsewhere

QUERIES, GALLERY = unit_rows(12, 24, clusters=7), unit_rows(80, 24, seed=3, clusters=7)
UNION = StackedRows(ArrayRows(QUERIES), ArrayRows(GALLERY))
RNG = np.random.default_rng(0)
LABELS = [Labels(RNG.integers(-1, 6, n), RNG.integers(0, 3, n)) for n in (12, 80)]


def counted(settings, k=9, kind=Execution, **options):
    execution = kind(**options)
    near, least = neighbors(UNION, k), least_scores(UNION)
    reranked = encode_union(UNION, near, settings, least, execution=execution)
    return count_reranked(reranked, *LABELS, execution=execution)


@pytest.mark.parametrize("variant", ["zhong", "torchreid"])
@pytest.mark.parametrize("tiling", [Tiling(), Tiling(5, 13)])
def test_ranks_are_those_of_the_dense_definition(variant, tiling):
    labels = LABELS
    seen = []
    settings = Reranking(6, 3, 0.3, variant)
    found = counted(settings, tiling=tiling, progress=lambda *_: seen.append)
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


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "workers"), [(Elsewhere, 1), (Elsewhere, 4), (Execution, 2)])
def test_any_workers_give_the_bits_of_the_whole(cluster, kind, workers):
    settings = Reranking(6, 3)
    reranked = k_reciprocal(UNION, neighbors(UNION, settings.neighbors), settings)
    whole = rank_counts(reranked, *LABELS)
    found = counted(settings, kind=kind, workers=workers, tiling=Tiling(5, 13))
    for name in ("offsets", "rows", "scores", "ahead"):
        assert getattr(found, name).tobytes() == getattr(whole, name).tobytes()


def test_too_few_neighbors_are_told():
    with pytest.raises(ValueError, match="need 6 neighbors"):
        counted(Reranking(6, 3), k=5)
