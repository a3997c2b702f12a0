import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, StackedRows
from pipeline.core.evaluation.labels import Labels
from pipeline.core.expansion import Expansion
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.reranking.distances import Reranking, k_reciprocal
from pipeline.core.reranking.ranks import rank_counts
from pipeline.runs.neighborhood import Neighborhood
from pipeline.runs.settings import FoldSettings
from pipeline.stages.execution import Execution
from tests import oracles
from tests.core.strategies import unit_rows

QUERIES, GALLERY = unit_rows(12, 24, clusters=7), unit_rows(80, 24, seed=3, clusters=7)
RNG = np.random.default_rng(0)
LABELS = [Labels(RNG.integers(-1, 6, n), RNG.integers(0, 3, n)) for n in (12, 80)]
RERANKING = Reranking(6, 3)


@pytest.mark.parametrize("k", [4, 10])  # fewer and more neighbors than the re-ranking asks for
def test_joint_expansion_and_re_ranking_share_one_graph(tmp_path, k):
    joint = Expansion("joint", k)
    sides = ArrayRows(QUERIES), ArrayRows(GALLERY)
    around = Neighborhood.of(*sides, [joint, RERANKING], tmp_path)
    expanded = around.expand(joint, Execution())
    _, found = around.rerank(*LABELS, RERANKING, Execution())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "graph", "joint", "union.npy",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "joint").iterdir()] == ["expanded-joint-0.npy"]
    union = np.vstack([QUERIES, GALLERY])
    rows = np.vstack([side.read(0, len(side)) for side in expanded])
    np.testing.assert_allclose(rows, oracles.expand(union, union, k, 3, 0), atol=2e-6)
    near = neighbors(union, RERANKING.neighbors)
    wanted = rank_counts(k_reciprocal(StackedRows(*sides), near, RERANKING), *LABELS)
    assert found.ahead.tolist() == wanted.ahead.tolist()
    assert found.scores.tobytes() == wanted.scores.tobytes()


def test_other_modes_copy_features_once_and_need_no_graph_of_the_union(tmp_path):
    ways = [Expansion("query", 4), Expansion("database", 4)]
    sides = ArrayRows(QUERIES), ArrayRows(GALLERY)
    around = Neighborhood.of(*sides, ways, tmp_path)
    for way in ways:
        around.expand(way, Execution())
    assert not (tmp_path / "graph").exists()
    assert (tmp_path / "database" / "graph-0").is_dir()


def test_the_budget_is_in_gib():
    assert FoldSettings(memory=0.5).execution().memory == 512 << 20
    assert FoldSettings().execution() == Execution()
