import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core.neighbors.topk import TopK, search
from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.graph import About, Graph, Origin
from tests.core.strategies import unit_rows

ROWS = unit_rows(25, 6)
IDS = np.arange(25) * 2 + 1
SIGNATURES = np.arange(25) * 11
NEAR = search(ROWS, ROWS, 3, self_offset=0)
ABOUT = About(Origin("/galleries/test", 4, "f"), 25, 6, 3, False, "", 10)


def part(start, stop, k=3):
    return TopK(NEAR.scores[start:stop, :k], NEAR.rows[start:stop, :k])


@pytest.fixture
def graph(tmp_path):
    made = Graph.begin(tmp_path / "graph", ABOUT, IDS, SIGNATURES)
    for number, (start, stop) in enumerate(made.blocks):
        made.write(number, part(start, stop))
    return made


def test_what_was_written_in_blocks_is_read_in_any_run(graph, tmp_path):
    opened = Graph.open(tmp_path / "graph")
    assert (opened.ids == IDS).all()
    assert (opened.signatures == SIGNATURES).all()
    assert opened.about.origin == ABOUT.origin
    for start, stop, k in [(0, 25, 3), (3, 4, 1), (9, 21, 2), (20, 25, 9), (7, 7, 3)]:
        found, wanted = opened.read(start, stop, k), part(start, stop, min(k, 3))
        assert found.rows.tolist() == wanted.rows.tolist()
        assert found.scores.tobytes() == wanted.scores.tobytes()


def test_other_tools_read_row_ids(graph, tmp_path):
    table = pq.read_table(tmp_path / "graph" / "rows-000001.parquet").to_pydict()
    assert table["row_id"] == IDS[10:20].tolist()
    near = np.frombuffer(b"".join(table["neighbors"]), "<i8").reshape(10, 3)
    assert near.tolist() == IDS[NEAR.rows[10:20]].tolist()
    scores = np.frombuffer(b"".join(table["scores"]), "<f4").reshape(10, 3)
    assert scores.tobytes() == NEAR.scores[10:20].tobytes()


def test_padding_stays_padding(tmp_path):
    made = Graph.begin(tmp_path / "graph", ABOUT, IDS)
    padded = NEAR.scores[:10].copy(), NEAR.rows[:10].copy()
    padded[0][:, 2], padded[1][:, 2] = -np.inf, -1
    made.write(0, TopK(*padded))
    assert made.read(0, 10).rows.tolist() == padded[1].tolist()


def test_an_unfinished_graph_is_none_to_open(graph, tmp_path):
    (tmp_path / "graph" / "rows-000002.parquet").unlink()
    assert graph.finished == 2
    assert Graph.open(tmp_path / "graph") is None
    assert Graph.open(tmp_path / "nothing") is None


def test_what_a_killed_run_was_writing_goes_when_the_next_goes_on(graph, tmp_path):
    half = storage.temporary_name(tmp_path / "graph", "rows-000002.parquet")
    (tmp_path / "graph" / "rows-000002.parquet").replace(half)
    assert Graph.begin(tmp_path / "graph", ABOUT, IDS, SIGNATURES).finished == 2
    assert not half.exists()


@pytest.mark.parametrize("changed", ["ids", "signatures", "about"])
def test_only_the_same_graph_goes_on(graph, tmp_path, changed):
    arguments = {"about": ABOUT, "ids": IDS, "signatures": SIGNATURES}
    assert Graph.begin(tmp_path / "graph", **arguments).finished == 3
    other = About(Origin("/galleries/test", 5, "f"), 25, 6, 3, False, "", 10)
    arguments[changed] = other if changed == "about" else arguments[changed] + 1
    assert Graph.begin(tmp_path / "graph", **arguments).finished == 0


def test_damage_is_told_by_name(graph, tmp_path):
    path = tmp_path / "graph" / "rows-000001.parquet"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-20])
    with pytest.raises(GalleryDamagedError, match=r"rows-000001\.parquet: its bytes are not those"):
        graph.read(0, 25)
    data[data.index(NEAR.scores[10:20].tobytes()) + 5] ^= 1  # one bit of the page of scores
    path.write_bytes(data)
    with pytest.raises(GalleryDamagedError, match=r"rows-000001\.parquet: its bytes are not those"):
        graph.read(0, 25)


def taken(folder, name):
    """Puts another file in the place of the second, with a right checksum."""
    data = (folder / name).read_bytes()
    checksums.write_recorded(folder / "rows-000001.parquet", lambda path: path.write_bytes(data))


def test_files_of_another_graph_are_told(graph, tmp_path):
    folder = tmp_path / "graph"
    taken(folder, "rows-000000.parquet")
    with pytest.raises(GalleryDamagedError, match="rows are not those that it was made of"):
        Graph.open(folder)
    taken(folder, "rows-000002.parquet")
    with pytest.raises(GalleryDamagedError, match="5 rows, where 10 were written"):
        graph.read(10, 20)


def test_a_folder_of_something_else_is_told(tmp_path):
    (tmp_path / "graph.json").write_text("{")
    with pytest.raises(GalleryDamagedError, match=r"graph\.json: .*neighbor graph is made again"):
        Graph.open(tmp_path)
    checksums.write_recorded(tmp_path / "graph.json", lambda path: path.write_text('{"rows": 3}'))
    with pytest.raises(InputError, match=r"graph\.json: this .*neighbor graph"):
        Graph.open(tmp_path)


def test_the_manifest_names_the_parent(graph, tmp_path):
    told = json.loads((tmp_path / "graph" / "graph.json").read_text())
    assert told["origin"] == {
        "location": "/galleries/test", "version": 4, "fingerprint": "f", "rounds": 0,
    }  # fmt: skip
    assert (told["rows"], told["k"], told["dimension"]) == (25, 3, 6)
