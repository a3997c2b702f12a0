import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.expansion import Expansion
from pipeline.stages.evaluate import count_ranks
from pipeline.stages.execution import Execution
from pipeline.stages.expand import _chunk, expand_all
from pipeline.stages.neighbors import build_graph
from tests import oracles
from tests.core.strategies import unit_rows
from tests.stages.making import Elsewhere

QUERIES, GALLERY = unit_rows(17, 40, clusters=6), unit_rows(90, 40, seed=8, clusters=6)


def expanded(tmp_path, settings, memory=1 << 30, spare=0, kind=Execution, **options):
    tmp_path.mkdir(exist_ok=True)
    execution = kind(memory=memory, **options)

    def graph_of(rows, rounds):
        folder = tmp_path / f"graph-{rounds}"
        return build_graph(rows, settings.k - 1 + spare, folder, execution=execution)

    sides = ArrayRows(QUERIES), ArrayRows(GALLERY)
    found = expand_all(*sides, settings, tmp_path, graph_of, execution=execution)
    return [rows.read(0, len(rows)) for rows in found]


def test_each_mode_expands_what_it_says(tmp_path):
    queries, gallery = expanded(tmp_path / "q", Expansion("query", 5))
    np.testing.assert_allclose(queries, oracles.expand(QUERIES, GALLERY, 5, 3), atol=2e-6)
    assert (gallery == GALLERY).all()
    queries, gallery = expanded(tmp_path / "d", Expansion("database", 5))
    np.testing.assert_allclose(gallery, oracles.expand(GALLERY, GALLERY, 5, 3, 0), atol=2e-6)
    assert (queries == QUERIES).all()
    union = np.vstack([QUERIES, GALLERY])
    found = np.vstack(expanded(tmp_path / "j", Expansion("joint", 5)))
    np.testing.assert_allclose(found, oracles.expand(union, union, 5, 3, 0), atol=2e-6)


@pytest.mark.parametrize("mode", ["query", "database", "joint"])
def test_rounds_go_on_from_the_new_vectors(tmp_path, mode):
    once = expanded(tmp_path / "1", Expansion(mode, 5))
    twice = expanded(tmp_path / "2", Expansion(mode, 5, times=2))
    rows = {"query": (once[0], GALLERY, None), "database": (once[1], once[1], 0)}
    union = np.vstack(once)
    start, among, offset = rows.get(mode, (union, union, 0))
    again = oracles.expand(start, among, 5, 3, offset)
    wanted = {"query": twice[0], "database": twice[1], "joint": np.vstack(twice)}[mode]
    np.testing.assert_allclose(wanted, again, atol=5e-6)
    assert len(list((tmp_path / "2").glob("*.npy"))) == 1  # the rounds before are deleted


@pytest.mark.parametrize("mode", ["query", "database", "joint"])
def test_less_memory_and_a_larger_graph_give_the_same_bits(tmp_path, mode):
    settings = Expansion(mode, 5, times=2)
    at_once = expanded(tmp_path / "once", settings)
    in_chunks = expanded(tmp_path / "chunks", settings, memory=1, spare=3)
    assert [rows.tobytes() for rows in at_once] == [rows.tobytes() for rows in in_chunks]


@pytest.mark.parametrize("mode", ["query", "database", "joint"])
def test_k_of_one_changes_nothing(tmp_path, mode):
    queries, gallery = expanded(tmp_path, Expansion(mode, 1))
    assert (queries == QUERIES).all()
    assert (gallery == GALLERY).all()


@pytest.mark.ray
@pytest.mark.parametrize("mode", ["query", "database", "joint"])
def test_workers_give_the_bits_of_the_plain_loop(tmp_path, cluster, mode):
    settings = Expansion(mode, 5, times=2)
    reference = expanded(tmp_path / "plain", settings)
    for kind, workers in ((Elsewhere, 1), (Elsewhere, 2), (Elsewhere, 4), (Execution, 2)):
        options = {"workers": workers, "memory": 1, "tiling": Tiling(7, 11), "kind": kind}
        found = expanded(tmp_path / f"{kind.__name__}-{workers}", settings, **options)
        assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in reference]


def test_chunks_follow_the_budget():
    assert _chunk(512, 10, 1 << 30) == 8192
    assert _chunk(512, 10, 10 << 20) == (10 << 20) // (16 * 512 + 64 * 10)
    assert _chunk(512, 10, 0) == 64


@pytest.mark.ray
def test_ranks_are_counted_alike_on_any_workers(cluster):
    rng = np.random.default_rng(0)
    labels = [Labels(rng.integers(-1, 9, n), rng.integers(0, 3, n)) for n in (17, 90)]
    sides = (ArrayRows(QUERIES), labels[0], ArrayRows(GALLERY), labels[1])
    reference = rank_counts(*sides)
    seen = []
    for kind, workers in ((Execution, 0), (Elsewhere, 1), (Elsewhere, 4), (Execution, 2)):
        execution = kind(workers, Tiling(5, 9), progress=lambda *_: seen.append)
        found = count_ranks(*sides, execution=execution)
        assert found.ahead.tolist() == reference.ahead.tolist()
        assert found.scores.tobytes() == reference.scores.tobytes()
    assert sum(seen) == 4 * 90


@pytest.mark.parametrize(("mode", "rows"), [("query", 17), ("database", 90), ("joint", 107)])
def test_progress_counts_the_rows_of_all_rounds(tmp_path, mode, rows):
    lines, seen = {}, {}

    def start(name, length):
        lines[name] = length
        return seen.setdefault(name, []).append

    expanded(tmp_path, Expansion(mode, 3, times=2), memory=1, progress=start)
    assert sum(seen["expanding"]) == lines["expanding"] == 2 * rows
