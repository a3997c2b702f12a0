import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.row_hashes import row_signatures
from pipeline.gallery.sidecars.graph import Graph, Origin
from pipeline.stages import neighbors as neighbors_stage
from pipeline.stages import update
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import build_graph
from pipeline.stages.update import RowChanges, update_graph
from tests.core.strategies import unit_rows
from tests.stages.making import Elsewhere

NEEDED, SPARE = 4, 2


def features_of(rows):
    return np.array(list(rows.values()), np.float32).reshape(len(rows), -1)


def named(rows):
    ids = np.array(list(rows), np.int64)
    return {"ids": ids, "signatures": row_signatures(ArrayRows(features_of(rows)))}


def build(folder, rows, **options):
    width = NEEDED + SPARE
    return build_graph(
        ArrayRows(features_of(rows)), width, folder, **named(rows), execution=Execution(**options)
    )


def updated(folder, old, rows, **options):
    """The graph after an update, read again from the disk."""
    changes = RowChanges.between(old, **named(rows))
    source = ArrayRows(features_of(rows))
    options = named(rows) | {"origin": Origin("g", 1)} | options
    kind = options.pop("kind", Execution)
    how = kind(options.pop("workers", 0), options.pop("tiling", Tiling()))
    update_graph(old, changes, source, NEEDED, folder, execution=how, **options)
    assert not list(folder.glob("open-*"))
    return Graph.open(folder)


def assert_anew(graph, rows):
    """The neighbors that are needed are those of a new graph, to the bit."""
    expected = neighbors(features_of(rows), NEEDED)
    found = graph.read(0, len(rows), NEEDED)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()


@st.composite
def histories(draw):
    """Sets of rows by id, each with a few rows added, replaced or removed since the one before."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 9]))  # 1: nearly all scores tie

    def drawn():
        row = rng.integers(-spread, spread + 1, 3).astype(np.float32)
        return row if row.any() else np.array([1, 0, 0], np.float32)

    rows = {id_: drawn() for id_ in range(1, 2 * draw(st.integers(5, 25)), 2)}
    days = [rows]
    for _ in range(draw(st.integers(1, 4))):
        rows = dict(rows)
        for id_ in list(rows):
            chance = rng.random()
            if chance < draw(st.sampled_from([0.05, 0.3])):
                del rows[id_]
            elif chance > 0.9:
                rows[id_] = drawn()  # the same id with other features, as after a round
        # Between the old ids and behind them: a restored version brings old ids back.
        for id_ in rng.integers(0, 80, draw(st.integers(0, 6))):
            rows.setdefault(int(id_), drawn())
        rows = dict(sorted(rows.items())) or {5: drawn()}
        days.append(rows)
    return days


@settings(
    max_examples=15,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(histories(), st.sampled_from([3, 16, 1000]))
def test_any_history_ends_in_the_graph_made_anew(tmp_path_factory, monkeypatch, days, block):
    monkeypatch.setattr(neighbors_stage, "_SMALLEST_BLOCK", block)
    folder = tmp_path_factory.mktemp("history")
    graph = build(folder / "0", days[0], memory=1, tiling=Tiling(8, 8, 1))
    for day, rows in enumerate(days[1:], 1):
        graph = updated(folder / str(day), graph, rows, block=3 + day, tiling=Tiling(8, 8, 1))
        assert_anew(graph, rows)


def clustered_day(folder):
    features = unit_rows(60, 8, clusters=6)
    rows = {2 * place: features[place] for place in range(60)}
    return build(folder / "0", rows), rows


def test_what_is_left_to_spare_is_not_searched_again(tmp_path, monkeypatch):
    old, rows = clustered_day(tmp_path)
    searched = []
    plain = update.search

    def counting(queries, *arguments, **options):
        searched.append(len(queries))
        return plain(queries, *arguments, **options)

    monkeypatch.setattr(update, "search", counting)
    fewer = {id_: row for id_, row in rows.items() if id_ not in (4, 50)}
    assert_anew(updated(tmp_path / "1", old, fewer), fewer)
    assert not searched
    # Three of one row's neighbors are more than its spare ones.
    gone = 2 * old.read(0, 1).rows[0, :3]
    fewer = {id_: row for id_, row in rows.items() if id_ not in gone}
    assert_anew(updated(tmp_path / "2", old, fewer), fewer)
    assert 1 <= sum(searched) < 20


def test_pairs_that_were_known_are_not_multiplied_again(tmp_path, monkeypatch):
    old, rows = clustered_day(tmp_path)
    pairs = []
    plain = update.between

    def counting(first, second, *arguments, **options):
        pairs.append(len(first) * len(second))
        return plain(first, second, *arguments, **options)

    monkeypatch.setattr(update, "between", counting)
    more = rows | {200 + n: row for n, row in enumerate(unit_rows(3, 8, seed=5))}
    assert_anew(updated(tmp_path / "1", old, more), more)
    assert pairs == [3 * 60]


def test_an_update_that_was_damaged_is_made_again(tmp_path):
    old, rows = clustered_day(tmp_path)
    more = rows | {200 + n: row for n, row in enumerate(unit_rows(3, 8, seed=5))}
    updated(tmp_path / "1", old, more, block=30)
    path = tmp_path / "1" / "rows-000001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes(40))
    assert_anew(updated(tmp_path / "1", old, more, block=30), more)
    assert path.read_bytes() == whole


def test_changes_tell_what_is_fresh(tmp_path):
    old, rows = clustered_day(tmp_path)
    now = {id_: row for id_, row in rows.items() if id_ != 4} | {6: rows[8], 7: rows[2]}
    now = dict(sorted(now.items()))
    changes = RowChanges.between(old, **named(now))
    assert [list(now)[place] for place in changes.fresh] == [6, 7]
    assert np.flatnonzero(changes.places < 0).tolist() == [2, 3]
    assert changes.are_few
    assert not RowChanges(np.full(60, -1), np.arange(9)).are_few


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "workers"), [(Elsewhere, 1), (Elsewhere, 4), (Execution, 2)])
def test_workers_give_the_bits_of_the_plain_loop(tmp_path, cluster, kind, workers):
    features = unit_rows(90, 40, clusters=9)
    rows = dict(enumerate(features[:80]))
    old = build_graph(ArrayRows(features[:80]), 6, tmp_path / "0", **named(rows))
    now = {id_: row for id_, row in enumerate(features) if id_ not in (3, 17, 18)}
    assert_anew(updated(tmp_path / "1", old, now, workers=workers, kind=kind), now)
