import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.neighbors.pairs import neighbors
from pipeline.gallery.sidecars.graph import Graph, Origin
from pipeline.stages import neighbors as stage
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import block_rows, build_graph
from tests.core.strategies import unit_rows
from tests.gallery.crashing import interrupted

ROWS = unit_rows(90, 40, clusters=9)
IDS = np.arange(90) * 3 + 5
NAMED = {"ids", "origin", "least"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stage, "_SMALLEST_BLOCK", 1)


def bytes_of(found):
    return found.scores.tobytes(), found.rows.tobytes()


def built(folder, k=7, rows=ROWS, **options):
    named = {name: options.pop(name) for name in NAMED & options.keys()}
    graph = build_graph(ArrayRows(rows), k, folder, execution=Execution(**options), **named)
    assert graph.finished == len(graph.blocks)
    if graph.about.least:
        assert graph.read_least(0, len(rows)).tobytes() == least_scores(rows).tobytes()
    return bytes_of(graph.read(0, len(rows)))


def memory_of(block, k=7, dimension=40):
    """A budget that gives blocks of this size."""
    return 2 * block * (6 * dimension + 64 * k)


@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("block", [6, 30, 89, 90, 1000])
def test_blocks_of_any_size_give_the_bits_of_one_call(tmp_path, block, least):
    expected = bytes_of(neighbors(ROWS, 7))
    found = built(tmp_path, least=least, memory=memory_of(block), tiling=Tiling(16, 16))
    assert found == expected
    assert len(list(tmp_path.glob("rows-*"))) == -(-90 // block)
    assert not list(tmp_path.glob("open-*"))


@pytest.mark.parametrize("k", [1, 4, 5, 6])
def test_k_goes_beyond_the_rows_and_ties_go_by_row(tmp_path, k):
    rows = np.ones((5, 1), np.float32)
    found = build_graph(
        ArrayRows(rows), k, tmp_path, execution=Execution(memory=memory_of(2, k, 1))
    ).read(0, 5)
    assert bytes_of(found) == bytes_of(neighbors(rows, k))


@pytest.mark.ray
@pytest.mark.parametrize(("workers", "gpus", "block"), [(2, 0.5, 30), (4, 0, 13)])
def test_ray_gives_the_bits_of_the_plain_loop(tmp_path, cluster, workers, gpus, block):
    options = {"least": True, "workers": workers, "memory": workers * memory_of(block)}
    # Tiles of float16 take long on a CPU: fewer of them.
    tiling = Tiling(20, 30, gpus=gpus) if gpus else Tiling(5, 9)
    found = built(tmp_path, tiling=tiling, **options)
    assert found == bytes_of(neighbors(ROWS, 7))
    assert len(list(tmp_path.glob("rows-*"))) == 2 * workers


def test_rows_are_named_by_their_ids(tmp_path):
    built(tmp_path, ids=IDS, memory=memory_of(40), origin=Origin("g", 3, "f"))
    graph = Graph.open(tmp_path)
    assert (graph.ids == IDS).all()
    assert bytes_of(graph.read(17, 85, 3)) == bytes_of(neighbors_of(17, 85, 3))
    assert graph.about.origin == Origin("g", 3, "f")


def neighbors_of(start, stop, k):
    found = neighbors(ROWS, k)
    return type(found)(found.scores[start:stop], found.rows[start:stop])


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def crash():
    raise Crash


def test_cut_off_at_any_write_the_next_run_goes_on(tmp_path, monkeypatch):
    folded, expected = [], bytes_of(neighbors(ROWS[:20], 3))
    fold = stage._fold_strip

    def counted(graph, rows, tiling, strip, columns):
        folded.append(strip)
        return fold(graph, rows, tiling, strip, columns)

    monkeypatch.setattr(stage, "_fold_strip", counted)
    arguments = {"k": 3, "rows": ROWS[:20], "least": True, "memory": memory_of(7, 3)}
    for operation in range(200):
        folder = tmp_path / str(operation)
        folded.clear()
        try:
            with interrupted(operation, crash) as seen:
                built(folder, **arguments)
        except Crash:
            finished = len(list(folder.glob("rows-*")))
            # Another budget goes on in the blocks that the first one began with.
            assert built(folder, **arguments | {"memory": memory_of(4, 3)}) == expected
            assert not list(folder.glob("open-*"))
            assert folded.count(finished - 1) == (finished > 0)
        else:
            break
    assert operation == len(seen) > 20


def left(folder, monkeypatch, strips):
    """A graph that was cut off in this strip, with the arguments that it was made with."""
    arguments = {"k": 3, "rows": ROWS[:40], "least": True, "memory": memory_of(7, 3)}
    fold = stage._fold_strip

    def cut_off(graph, rows, tiling, strip, columns):
        return crash() if strip == strips else fold(graph, rows, tiling, strip, columns)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(stage, "_fold_strip", cut_off)
        built(folder, **arguments)
    return arguments


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_a_damaged_file_is_made_again(tmp_path, monkeypatch, caplog, damage):
    left(tmp_path / "whole", monkeypatch, 4)
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.parquet"))
    assert names == [f"open-{n:06d}-000004.parquet" for n in (4, 5)] + [
        f"rows-{n:06d}.parquet" for n in range(4)
    ]
    expected = bytes_of(neighbors(ROWS[:40], 3))
    for name in names:
        path = tmp_path / name / name
        arguments = left(path.parent, monkeypatch, 4)
        before = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(before[:-30] + (bytes(30) if damage == "changed" else b""))
        caplog.clear()
        with monkeypatch.context() as patch:
            seen = made_again(patch, path)
            assert built(path.parent, **arguments) == expected
        if damage != "gone":  # without its last blocks the graph goes on from before them
            assert seen == [before]
            assert f"a block of a neighbor graph is made again: {path}: its bytes" in caplog.text
        assert not list(path.parent.glob("open-*"))


def made_again(patch, path):
    """What the file holds after each block that is made again."""
    meet, seen = stage._meet, []

    def watched(*arguments):
        account = meet(*arguments)
        seen.append(path.read_bytes() if path.exists() else None)
        return account

    patch.setattr(stage, "_meet", watched)
    return seen


@pytest.mark.ray
def test_ray_workers_make_a_damaged_file_again(tmp_path, monkeypatch, cluster, caplog):
    arguments = left(tmp_path, monkeypatch, 4)
    for name in ("rows-000001.parquet", "open-000005-000004.parquet"):
        (tmp_path / name).write_bytes(b"")
    found = built(tmp_path, **arguments, workers=2)
    assert found == bytes_of(neighbors(ROWS[:40], 3))
    assert caplog.text.count("is made again") == 2


def test_a_run_tells_how_many_blocks_it_takes_over(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    arguments = left(tmp_path, monkeypatch, 4)
    assert "taken over" not in caplog.text
    (tmp_path / "rows-000001.parquet").write_bytes(b"")
    for count in (3, 6):
        caplog.clear()
        built(tmp_path, **arguments)
        assert f"neighbors: {count} of 6 blocks taken over from an earlier run" in caplog.text


def test_a_graph_that_does_not_tell_what_it_is_is_made_anew(tmp_path, monkeypatch, caplog):
    arguments = left(tmp_path, monkeypatch, 4)
    (tmp_path / "graph.json").write_text("{}")
    caplog.set_level("INFO")
    assert built(tmp_path, **arguments) == bytes_of(neighbors(ROWS[:40], 3))
    assert f"the neighbor graph is made anew: {tmp_path / 'graph.json'}: its bytes" in caplog.text
    assert "taken over" not in caplog.text


def test_another_graph_in_the_folder_is_not_taken_for_this_one(tmp_path):
    built(tmp_path)
    other = unit_rows(90, 40, seed=5)
    changed = {"origin": Origin("g", 4)}
    assert built(tmp_path, rows=other, **changed) == bytes_of(neighbors(other, 7))
    assert built(tmp_path, 6, rows=other, **changed) == bytes_of(neighbors(other, 6))
    ids = {"ids": IDS, **changed}
    assert built(tmp_path, 6, **ids) == bytes_of(neighbors(ROWS, 6))
    assert built(tmp_path, 6, least=True, **ids) == bytes_of(neighbors(ROWS, 6))


def test_the_least_scores_of_any_run_of_rows_are_read(tmp_path):
    rows = unit_rows(1, 40)
    assert build_graph(ArrayRows(rows), 3, tmp_path / "one", least=True).read_least(0, 1) == np.inf
    graph = build_graph(
        ArrayRows(ROWS), 3, tmp_path, least=True, execution=Execution(memory=memory_of(20, 3))
    )
    assert graph.read_least(15, 62).tolist() == least_scores(ROWS)[15:62].tolist()
    assert graph.read_least(4, 4).tolist() == []


def test_progress_counts_rows(tmp_path):
    lines, seen = [], []

    def start(name, length):
        lines.append((name, length))
        return seen.append

    for _ in range(2):  # the second run finds everything finished
        built(tmp_path, memory=memory_of(20), progress=start)
    assert lines == 2 * [("neighbors", 90)]
    assert seen == 2 * [20, 20, 20, 20, 10]


def test_blocks_follow_the_budget():
    assert block_rows(10**6, 512, 20, Execution()) == 65_536
    each = block_rows(10**6, 512, 20, Execution(memory=100 << 20))
    assert each == (100 << 20) // (2 * (6 * 512 + 64 * 20))
    assert block_rows(10**6, 512, 20, Execution(2, memory=200 << 20)) == each
    assert block_rows(1000, 512, 20, Execution(2)) == 250
    assert block_rows(10**6, 512, 20, Execution(memory=1)) == 1
