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


@pytest.mark.parametrize("is_same", [True, False])
def test_a_graph_is_taken_over_for_the_same_features_only(tmp_path, caplog, is_same):
    caplog.set_level("INFO")
    joint, gallery = Expansion("joint", 4), ArrayRows(GALLERY)

    def expanded(queries, folder):
        folder.mkdir(exist_ok=True)
        around = Neighborhood.of(ArrayRows(queries), gallery, [joint], folder)
        return around.expand(joint, Execution())[0].read(0, 12).tobytes()

    wanted = expanded(QUERIES, tmp_path / "alone")
    expanded(QUERIES if is_same else QUERIES[::-1].copy(), tmp_path / "shared")
    assert "taken over" not in caplog.text
    assert expanded(QUERIES, tmp_path / "shared") == wanted
    assert ("1 of 1 tiles taken over" in caplog.text) == is_same


def test_what_a_run_made_itself_is_not_from_an_earlier_one(tmp_path, caplog):
    caplog.set_level("INFO")
    sides = ArrayRows(QUERIES), ArrayRows(GALLERY)
    around = Neighborhood.of(*sides, [Expansion("joint", 4), RERANKING], tmp_path)
    around.expand(Expansion("joint", 4), Execution())
    around.rerank(*LABELS, RERANKING, Execution())
    assert "taken over" not in caplog.text


def test_the_budget_is_in_gib():
    assert FoldSettings(memory=0.5).execution().memory == 512 << 20
    assert FoldSettings().execution() == Execution()
