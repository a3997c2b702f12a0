"""Travel times in runs: tables, what searches leave out, links, and what is learned."""

import importlib.util
import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from math import inf
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.calibrate import describe as calibrate_told
from jobs.link import describe as link_told
from pipeline.core.travel.times import TravelTimes
from pipeline.errors import InputError, RunError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.graph import Graph
from pipeline.gallery.table import Gallery
from pipeline.gallery.travel_times import TravelTable, read_learned_times, read_travel_table
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.search_result import SearchSettings
from pipeline.runs.selection import RowFilter
from pipeline.runs.settings import FoldSettings
from pipeline.runs.travel import reachable_rows, travel_table, walkable
from pipeline.runs.travel_learning import learn_travel_times
from pipeline.runs.travelled import TravelSettings
from tests import oracles
from tests.jobs.labeled import labeled_gallery, people

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "travel_times.py"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
TABLE = """from,to,least,most
c0,c1,20,90
c1,c0,30,
c0,c2,inf,
c2,c2,0,40
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """People under three cameras within five minutes; some times and cameras are unknown."""
    features, identity, camera = people(8, 90)
    rng = np.random.default_rng(3)
    camera = [None if rng.random() < 0.1 else name for name in camera]
    seconds = rng.integers(0, 300, 90).tolist()
    times = [None if rng.random() < 0.1 else START + timedelta(seconds=each) for each in seconds]
    place = tmp_path_factory.mktemp("travel") / "g"
    return labeled_gallery(place, features, identity, camera, captured_at=times)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "times.csv").write_text(TABLE)
    return tmp_path / "times.csv"


def may_meet(ways, first, second):
    """Whether two rows can be one person, by the table."""
    if None in (first["camera"], second["camera"], first["captured_at"], second["captured_at"]):
        return True
    later = (second["captured_at"] - first["captured_at"]).total_seconds()
    there = ways.get((first["camera"], second["camera"]), (-inf, inf))
    back = ways.get((second["camera"], first["camera"]), (-inf, inf))
    return there[0] <= later <= there[1] or back[0] <= -later <= back[1]


def test_a_table_holds_for_the_way_back_unless_it_says_otherwise(table, tmp_path):
    found = read_travel_table(table)
    assert found.ways == {
        ("c0", "c1"): (20, 90), ("c1", "c0"): (30, inf), ("c0", "c2"): (inf, inf),
        ("c2", "c0"): (inf, inf), ("c2", "c2"): (0, 40),
    }  # fmt: skip
    columns = {"from": ["c0", "c1"], "to": ["c1", "c0"], "least": [20, 30], "most": [90.0, None]}
    pq.write_table(pa.table(columns), tmp_path / "times.parquet")
    again = read_travel_table(tmp_path / "times.parquet")
    assert again.ways == {way: found.ways[way] for way in again.ways}
    assert found.cameras == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to\na,b\n", "has no column least"),
        ("from,to,least\na,b,1\na,b,2\n", "from camera a to b has two rows"),
        ("from,to,least,most\na,b,9,5\n", "cannot take at least 9 and at most 5 seconds"),
        ("from,to,least\na,b,-inf\n", "cannot take at least -inf"),
        ("from,to,least\na,b,soon\n", "cannot be read"),
        ("from,to,least\na,,3\n", "row 1 has no value in the column to"),
    ],
)
def test_tables_that_are_wrong(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_travel_table(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"are a file in \.csv or \.parquet"):
        read_travel_table(tmp_path / "t.txt")


@pytest.mark.parametrize("camera", ["c0", "c1", "c2", "elsewhere"])
def test_a_search_leaves_out_what_nobody_can_have_walked(gallery, table, camera, caplog):
    found, when = read_travel_table(table), START + timedelta(seconds=150)
    asked = {"camera": camera, "captured_at": when}
    rows = gallery.rows().to_pylist()
    expected = [n for n, row in enumerate(rows) if may_meet(found.ways, asked, row)]
    condition = reachable_rows(found, camera, when)
    assert RowFilter().positions(gallery, None, condition).tolist() == expected
    assert (len(expected) == len(rows)) == (camera == "elsewhere") == ("say nothing" in caplog.text)
    among = [n for n in expected if rows[n]["camera"] == "c1"]
    chosen = RowFilter(camera=("c1",)).positions(gallery, None, condition)
    assert chosen.tolist() == among


def test_links_and_groups_hold_only_what_travel_times_allow(gallery, table, tmp_path, caplog):
    """Those of a loop: the k nearest of what is allowed, and groups in which all pairs are."""
    ways, rows = read_travel_table(table).ways, gallery.rows().to_pylist()
    kept = [n for n, row in enumerate(rows) if row["identity"] != -1]
    features, k = gallery.array()[kept], 5

    def allowed(i, j):
        return may_meet(ways, rows[kept[i]], rows[kept[j]])

    moments = [
        -1 if None in (rows[n]["camera"], rows[n]["captured_at"])
        else (rows[n]["camera"], rows[n]["captured_at"]) for n in kept
    ]  # fmt: skip
    expected, refused = oracles.linked_groups(features, moments, k, 0.4, allowed, allowed)
    settings = LinkSettings(k, 0.4, travel_times=str(table))
    made = link(gallery, tmp_path / "l.parquet", settings)
    written = [row["candidate"] for row in pq.read_table(made.out).to_pylist()]
    assert [written[n] for n in kept] == [rows[kept[group]]["row_id"] for group in expected]
    assert made.refused == refused > 0
    pairs = [(i, j) for i in range(len(kept)) for j in range(i)]
    assert (made.travel.pairs, made.travel.pairs_excluded) == (
        len(pairs), sum(not allowed(i, j) for i, j in pairs),
    )  # fmt: skip
    of_one = [(i, j) for i, j in pairs
              if rows[kept[i]]["identity"] == rows[kept[j]]["identity"] > 0]  # fmt: skip
    assert (made.travel.true_pairs, made.travel.true_pairs_excluded) == (
        len(of_one), sum(not allowed(i, j) for i, j in of_one),
    )  # fmt: skip
    plain = link(gallery, tmp_path / "p.parquet", LinkSettings(k, 0.4))
    assert made.travel.without == plain.agreement
    select = RowFilter(not_own_camera=True)
    link(gallery, tmp_path / "o.parquet", settings, select=select)


def test_a_killed_run_with_other_travel_times_leaves_nothing_to_continue(
    gallery, table, tmp_path, monkeypatch
):
    """A neighbor graph is continued only by runs with the same rule."""
    (tmp_path / "other.csv").write_text("from,to,least\nc0,c1,inf\nc1,c2,200\n")
    rules = [None, str(table), str(tmp_path / "other.csv")]
    fresh = {
        times: pq.read_table(
            link(gallery, tmp_path / "fresh.parquet", LinkSettings(5, 0.4, travel_times=times)).out
        )
        for times in rules
    }
    assert not any(a.equals(b) for a, b in permutations(fresh.values(), 2))

    def cut_off(*_):
        raise RunError("cut off")

    for number, (killed, then) in enumerate(permutations(rules, 2)):
        on = FoldSettings(scratch=tmp_path / str(number))
        on.scratch.mkdir()
        with monkeypatch.context() as patch, pytest.raises(RunError, match="cut off"):
            patch.setattr(Graph, "read", cut_off)
            link(gallery, tmp_path / "l.parquet", LinkSettings(5, 0.4, travel_times=killed), on=on)
        assert list((tmp_path / str(number)).rglob("rows-*.parquet"))
        made = link(gallery, tmp_path / "l.parquet", LinkSettings(5, 0.4, travel_times=then), on=on)
        assert pq.read_table(made.out).equals(fresh[then])


def test_what_is_missing_is_told(gallery, table, tmp_path, caplog):
    with pytest.raises(InputError, match="has no learned travel times"):
        travel_table("learned", gallery)
    dates = labeled_gallery(
        tmp_path / "dates", np.eye(2, dtype=np.float32), [1, 1], ["a", "b"],
        captured_at=[datetime(2026, 3, 2, tzinfo=UTC)] * 2,
    )  # fmt: skip
    given = read_travel_table(table)
    with pytest.raises(InputError, match="captured_at holds only dates"):
        walkable(dates.rows(), given)
    unknown = labeled_gallery(tmp_path / "none", np.eye(2, dtype=np.float32), [1, 1], ["a", "b"])
    with pytest.raises(InputError, match="captured_at is unknown for every row"):
        learn_travel_times(unknown)
    with pytest.raises(InputError, match="give `query_camera` and `query_time`"):
        SearchSettings(travel_times="learned", query_camera="c0")
    walkable(gallery.rows(), TravelTable.of([("c0", "far", 1, 2)], "given"))
    assert "say nothing of camera c1, c2" in caplog.text
    assert "name camera far, which has no row" in caplog.text
    one = labeled_gallery(
        tmp_path / "one", np.eye(2, dtype=np.float32), [1, 1], ["a", "a"], captured_at=[START] * 2
    )
    with pytest.raises(InputError, match="has 1 cameras"):
        learn_travel_times(one)
    with pytest.raises(InputError, match="no two cameras have 50 of them"):
        learn_travel_times(gallery, TravelSettings(fewest=50))
    for values in ({"k": 0}, {"certainty": 1}, {"fewest": 1}):
        with pytest.raises(InputError, match=f"`{next(iter(values))}`"):
            TravelSettings(**values)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The archive of the benchmark with a tenth of its people: 12 cameras in two buildings."""
    spec = importlib.util.spec_from_file_location("travel_times", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("drawn")
    gallery = module.write_gallery(folder / "g", 250, hours=0.5, dimension=64)
    module.write_plan(folder / "plan.csv")
    return gallery, folder / "plan.csv", learn_travel_times(gallery)


def test_groups_are_better_with_travel_times(drawn, tmp_path):
    gallery, plan, learned = drawn
    found = {
        times: link(gallery, tmp_path / "l.parquet", LinkSettings(travel_times=times))
        for times in (None, str(plan), "learned")
    }
    scores = {times: each.agreement.f_score for times, each in found.items()}
    assert scores[str(plan)] > scores[None] + 0.25
    assert scores["learned"] > scores[None] + 0.2
    assert found[str(plan)].travel.true_pairs_excluded == 0
    assert found["learned"].travel.without == found[None].agreement
    assert learned.effect.lists.precision > learned.effect.lists.precision_without + 0.1
    groups = calibrate_told(learned), link_told(found["learned"])
    told = [str(line) for group in groups for line in group.renderables]
    assert any("lists of 10 rows of other cameras" in line for line in told)
    assert any("without travel times: B-cubed precision" in line for line in told)
    assert learned.effect.true_pairs_excluded < 0.02 * learned.effect.true_pairs


def test_what_was_learned_is_near_the_plan_and_is_kept(drawn):
    gallery, plan, learned = drawn
    given, kept = read_travel_table(plan), read_learned_times(gallery)
    assert (kept.origin, len(kept.ways)) == (
        "learned of version 1", learned.ways + learned.unreachable,
    )  # fmt: skip
    names = given.cameras
    ours, theirs = kept.times(names), given.times(names)
    both = np.isfinite(ours.least) & np.isfinite(theirs.least)
    assert (ours.least[both] < theirs.least[both] + 60).all()
    assert (ours.most[both] > theirs.least[both]).all()
    assert not (np.isposinf(ours.least) & np.isfinite(theirs.least)).any()
    assert isinstance(ours, TravelTimes)
    file = Path(learned.file)
    told = json.loads(file.read_text())
    assert told["effect"]["lists"]["k"] == 10
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(GalleryDamagedError):
        read_learned_times(Gallery.open(gallery.location))
