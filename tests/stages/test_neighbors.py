import shutil

import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.neighbors.apart import neighbors_apart
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.travel.nearby import Walkable, nearby
from pipeline.core.travel.times import SECOND, Sightings, TravelTimes
from pipeline.gallery import checksums
from pipeline.gallery.sidecars.graph import Graph, Origin
from pipeline.stages import neighbors as stage
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import block_rows, build_graph
from tests.core.strategies import unit_rows
from tests.gallery.crashing import interrupted
from tests.stages.making import Elsewhere

ROWS = unit_rows(90, 40, clusters=9)
IDS = np.arange(90) * 3 + 5
NAMED = {"ids", "origin", "least", "apart"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stage, "_SMALLEST_BLOCK", 1)


def bytes_of(found):
    return found.scores.tobytes(), found.rows.tobytes()


def built(folder, k=7, rows=ROWS, kind=Execution, **options):
    named = {name: options.pop(name) for name in NAMED & options.keys()}
    graph = build_graph(ArrayRows(rows), k, folder, execution=kind(**options), **named)
    assert graph.finished == len(graph.blocks)
    if graph.about.least:
        assert graph.read_least(0, len(rows)).tobytes() == least_scores(rows).tobytes()
    return bytes_of(graph.read(0, len(rows)))


def memory_of(block, k=7, dimension=40):
    """A budget that gives blocks of this size."""
    return 2 * block * (6 * dimension + 64 * k)


@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("block", [13, 30, 89, 90, 1000])
def test_blocks_of_any_size_give_the_bits_of_one_call(tmp_path, block, least):
    expected = bytes_of(neighbors(ROWS, 7))
    found = built(tmp_path, least=least, memory=memory_of(block), tiling=Tiling(16, 16))
    assert found == expected
    assert len(list(tmp_path.glob("rows-*"))) == -(-90 // block)
    assert not list(tmp_path.glob("open-*"))


@pytest.mark.parametrize("block", [13, 30, 1000])
def test_rows_apart_do_not_meet_in_blocks_of_any_size(tmp_path, block):
    apart = np.random.default_rng(0).integers(-1, 4, 90)
    expected = bytes_of(neighbors_apart(ROWS, apart, 7))
    found = built(tmp_path, memory=memory_of(block), tiling=Tiling(16, 16), apart=apart)
    assert found == expected
    with pytest.raises(ValueError, match="one number of `apart`"):
        built(tmp_path, apart=apart[1:])


@pytest.mark.parametrize("block", [13, 40, 1000])
def test_rows_that_nobody_can_be_both_of_do_not_meet(tmp_path, block):
    rng = np.random.default_rng(1)
    seen = Sightings(rng.integers(-1, 3, 90), rng.integers(0, 60, 90) * SECOND)
    least = np.array([[0, 5, np.inf], [3, 0, 20], [np.inf, 20, 0]])
    travel = TravelTimes(least, np.where(np.isinf(least), np.inf, least + 25))
    expected, _ = nearby(ROWS, seen, ROWS, seen, travel, 7)
    options = {"memory": memory_of(block), "apart": Walkable(seen, travel)}
    assert built(tmp_path, tiling=Tiling(16, 16), **options) == bytes_of(expected)


@pytest.mark.parametrize("k", [1, 4, 5, 6])
def test_k_goes_beyond_the_rows_and_ties_go_by_row(tmp_path, k):
    rows = np.ones((5, 1), np.float32)
    found = build_graph(
        ArrayRows(rows), k, tmp_path, execution=Execution(memory=memory_of(2, k, 1))
    ).read(0, 5)
    assert bytes_of(found) == bytes_of(neighbors(rows, k))


@pytest.mark.ray
@pytest.mark.parametrize(
    ("kind", "workers", "gpus", "block"),
    [(Execution, 2, 0, 30), (Elsewhere, 2, 0.5, 30), (Elsewhere, 3, 0, 13)],
)
def test_workers_give_the_bits_of_the_plain_loop(tmp_path, cluster, kind, workers, gpus, block):
    options = {"least": True, "workers": workers, "memory": workers * memory_of(block)}
    # Tiles of float16 take long on a CPU: fewer of them.
    tiling = Tiling(20, 30, gpus=gpus) if gpus else Tiling(5, 9)
    found = built(tmp_path, tiling=tiling, kind=kind, **options)
    assert found == bytes_of(neighbors(ROWS, 7))
    assert len(list(tmp_path.glob("rows-*"))) == 3 * workers


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


def watched(monkeypatch, stop_at=None):
    """The tiles that are folded from now on; the one with that number is not, but crashes."""
    folded, meet = [], stage._meet

    def counted(graph, rows, tiling, x, y, x_met, y_met):
        if len(folded) == stop_at:
            crash()
        folded.append((x, y))
        return meet(graph, rows, tiling, x, y, x_met, y_met)

    monkeypatch.setattr(stage, "_meet", counted)
    return folded


def test_cut_off_at_any_write_the_next_run_goes_on(tmp_path, monkeypatch):
    folded, expected = watched(monkeypatch), bytes_of(neighbors(ROWS[:20], 3))
    arguments = {"k": 3, "rows": ROWS[:20], "least": True, "memory": memory_of(7, 3)}
    for operation in range(0, 400, 7):
        folder = tmp_path / str(operation)
        folded.clear()
        try:
            with interrupted(operation, crash) as seen:
                built(folder, **arguments)
        except Crash:
            # Another budget goes on in the blocks that the first one began with.
            assert built(folder, **arguments | {"memory": memory_of(4, 3)}) == expected
            assert not list(folder.glob("open-*"))
            assert len(set(folded)) in (6, 15)  # the second where nothing was begun
            assert len(folded) <= len(set(folded)) + 1
        else:
            break
    assert operation >= len(seen) > 20


def left(folder, monkeypatch, tiles, **changed):
    """A graph of 6 blocks that was cut off in its tile of this number, with its arguments."""
    arguments = {"k": 3, "rows": ROWS[:40], "least": True, "memory": memory_of(7, 3), **changed}
    with monkeypatch.context() as patch, pytest.raises(Crash):
        watched(patch, tiles)
        built(folder, **arguments)
    return arguments


def test_a_block_is_finished_before_the_last_tile_and_worn_files_go(tmp_path, monkeypatch):
    left(tmp_path, monkeypatch, 20)
    names = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert len(names) == 6
    assert [name[:5] for name in names].count("rows-") == 4


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
@pytest.mark.parametrize("tiles", [9, 20])
def test_a_damaged_file_is_made_again(tmp_path, monkeypatch, caplog, damage, tiles):
    arguments = left(tmp_path / "left", monkeypatch, tiles)
    names = sorted(path.name for path in (tmp_path / "left").glob("*.parquet"))
    shutil.copytree(tmp_path / "left", tmp_path / "whole")
    built(tmp_path / "whole", **arguments)
    expected = finished_files(tmp_path / "whole")
    for name in names if damage == "changed" else names[::3]:
        path = tmp_path / name / name
        shutil.copytree(tmp_path / "left", path.parent)
        before = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(before[:-30] + (bytes(30) if damage == "changed" else b""))
        caplog.clear()
        with monkeypatch.context() as patch:
            folded = watched(patch)
            built(path.parent, **arguments)
        assert finished_files(path.parent) == expected
        number = int(name.split("-")[1].removesuffix(".parquet"))
        assert len([pair for pair in folded if number in pair]) == 6
        assert len(folded) == len(set(folded)) < 21
        if damage != "gone":
            assert f"a block of a neighbor graph is made again: {path}: its bytes" in caplog.text
        assert not list(path.parent.glob("open-*"))


def finished_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("rows-*.parquet")}


def test_two_damaged_blocks_meet_again(tmp_path, monkeypatch):
    arguments = left(tmp_path, monkeypatch, 20)
    for path in sorted(tmp_path.glob("rows-*"))[:2]:
        path.write_bytes(b"")
    folded = watched(monkeypatch)
    assert built(tmp_path, **arguments) == bytes_of(neighbors(ROWS[:40], 3))
    assert len(folded) == len(set(folded)) == 12


def test_workers_make_a_damaged_file_again(tmp_path, monkeypatch, caplog):
    arguments = left(tmp_path, monkeypatch, 20)
    worn = [next(tmp_path.glob(kind)) for kind in ("rows-*", "open-*")]
    for path in worn:
        path.write_bytes(b"")
    found = built(tmp_path, **arguments, kind=Elsewhere, workers=2)
    assert found == bytes_of(neighbors(ROWS[:40], 3))
    assert caplog.text.count("is made again") == 2


def test_a_late_worker_of_a_killed_run_changes_nothing(tmp_path, monkeypatch):
    """What it stores has another name than anything of another course has, or the same bytes."""
    arguments = left(tmp_path / "a", monkeypatch, 9)
    left(tmp_path / "b", monkeypatch, 14)
    stored = {path.name: path.read_bytes() for path in (tmp_path / "b").glob("open-*")}
    for path in (tmp_path / "a").glob("open-*"):
        assert stored.get(path.name, path.read_bytes()) == path.read_bytes()
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    assert built(tmp_path / "b", **arguments) == bytes_of(neighbors(ROWS[:40], 3))


def test_files_of_earlier_versions_are_not_taken_for_tiles(tmp_path, monkeypatch):
    arguments = left(tmp_path, monkeypatch, 9)
    for path in tmp_path.glob("open-*"):
        checksums.write_recorded(
            tmp_path / f"{path.stem[:11]}-000004.parquet",
            lambda new, path=path: new.write_bytes(path.read_bytes()),
        )
        path.unlink()
    folded = watched(monkeypatch)
    assert built(tmp_path, **arguments) == bytes_of(neighbors(ROWS[:40], 3))
    assert len(folded) == 21


def test_a_run_tells_how_much_it_takes_over(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    arguments = left(tmp_path, monkeypatch, 20)
    assert "taken over" not in caplog.text
    next(tmp_path.glob("rows-*")).write_bytes(b"")
    for count in (14, 21):
        caplog.clear()
        built(tmp_path, **arguments)
        assert f"neighbors: {count} of 21 tiles taken over from an earlier run" in caplog.text


def test_a_graph_that_does_not_tell_what_it_is_is_made_anew(tmp_path, monkeypatch, caplog):
    arguments = left(tmp_path, monkeypatch, 9)
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
    assert seen[0] == 0 and min(seen[1:16]) > 0
    assert sum(seen[:16]) == 90
    assert seen[16:] == [90]


def test_blocks_follow_the_budget():
    assert block_rows(10**6, 512, 20, Execution()) == 65_536
    each = block_rows(10**6, 512, 20, Execution(memory=100 << 20))
    assert each == (100 << 20) // (2 * (6 * 512 + 64 * 20))
    assert block_rows(10**6, 512, 20, Execution(2, memory=200 << 20)) == each
    assert block_rows(1200, 512, 20, Execution(2)) == 200
    assert block_rows(60_000, 512, 20, Execution(2)) == -(-60_000 // 7)
    assert block_rows(160_000, 512, 20, Execution(2)) == 20_000
    assert block_rows(10**6, 512, 20, Execution(memory=1)) == 1
