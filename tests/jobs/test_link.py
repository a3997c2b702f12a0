import csv
import json
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core.identities.verdicts import Verdicts
from pipeline.errors import RunError
from pipeline.gallery.sidecars.graph import Graph
from pipeline.gallery.table import Gallery
from pipeline.runs.link_verdicts import verdicts_by_position, verdicts_digest
from pipeline.runs.union import GalleryUnion
from pipeline.stages import neighbors
from tests import oracles
from tests.gallery.test_verdicts import say
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, result, run


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """200 rows of 20 people; frames repeat in each camera, so that some rows have one moment."""
    features, identity, camera = people(20, 200)
    frame = np.random.default_rng(1).integers(0, 40, 200).tolist()
    place = tmp_path_factory.mktemp("link") / "g"
    labeled_gallery(place, features, identity, camera, frame=frame)
    return place


def test_candidates_are_the_groups_of_the_loop(capsys, gallery, tmp_path):
    out = tmp_path / "identities.parquet"
    told = result(
        capsys, "link", "--gallery", gallery, "--out", out, "-k", 8, "--threshold", 0.6
    )  # fmt: skip
    opened = Gallery.open(str(gallery))
    rows, features = opened.rows().to_pylist(), opened.features().read(0, 200)
    kept = [n for n, row in enumerate(rows) if row["identity"] != -1]
    seen = {}
    moments = [seen.setdefault((rows[n]["camera"], rows[n]["frame"]), len(seen)) for n in kept]
    expected, refusals = oracles.linked_groups(features[kept], moments, 8, 0.6)
    table = pq.read_table(out)
    written = table.to_pylist()
    candidate = {
        rows[n]["row_id"]: rows[kept[g]]["row_id"] for n, g in zip(kept, expected, strict=True)
    }
    assert [row["row_id"] for row in written] == [row["row_id"] for row in rows]
    assert [row["candidate"] for row in written] == [candidate.get(r["row_id"]) for r in rows]
    sizes = np.bincount(expected)
    assert [row["size"] for row in written if row["candidate"] is not None] == [
        sizes[group] for group in expected
    ]
    assert all((row["score"] is None) == (row["size"] in (1, None)) for row in written)
    assert told["refused"] == refusals > 0
    assert (told["rows_linked"], told["junk"]) == (len(kept), 200 - len(kept))
    assert told["candidates"] == (sizes > 1).sum()
    assert (told["alone"], told["largest"]) == ((sizes == 1).sum(), sizes.max())
    known = [n for n, place in enumerate(kept) if rows[place]["identity"] > 0]
    precision, recall = oracles.b_cubed(
        [expected[n] for n in known], [rows[kept[n]]["identity"] for n in known]
    )
    assert told["agreement"]["precision"] == pytest.approx(precision)
    assert told["agreement"]["recall"] == pytest.approx(recall)
    about = json.loads(table.schema.metadata[b"regallery.link"])
    assert (about["version"], about["k"], about["threshold"]) == (1, 8, 0.6)


def test_csv_has_the_same_rows(capsys, gallery, tmp_path):
    flags = ("link", "--gallery", gallery, "--threshold", 0.6, "--out")
    result(capsys, *flags, tmp_path / "i.csv")
    result(capsys, *flags, tmp_path / "i.parquet")
    with (tmp_path / "i.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parquet = pq.read_table(tmp_path / "i.parquet").to_pylist()
    assert [row["candidate"] for row in rows] == [
        "" if row["candidate"] is None else str(row["candidate"]) for row in parquet
    ]
    assert list(rows[0]) == list(parquet[0])


def test_an_interrupted_graph_is_taken_up(capsys, gallery, tmp_path, monkeypatch):
    """Cut off between the graph and its reading, the next run folds no block of it again."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flags = ("link", "--gallery", gallery, "--threshold", 0.6, "--scratch", scratch, "--out")
    result(capsys, *flags, tmp_path / "a.parquet")
    assert list(scratch.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "read", crash)
        assert run(capsys, *flags, tmp_path / "b.parquet")[0] == 1
    assert list(scratch.glob("regallery-link-*/graph/rows-*.parquet"))
    monkeypatch.setattr(neighbors, "_meet", crash)
    result(capsys, *flags, tmp_path / "b.parquet")
    first, second = (pq.read_table(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert first.equals(second)
    assert list(scratch.iterdir()) == []


def crash(*_, **__):
    raise RunError("cut off")


def test_unlabeled_rows_are_linked_without_figures(capsys, tmp_path):
    features, _, _ = people(5, 30)
    when = [datetime(2026, 1, 1, tzinfo=UTC)] * 30  # a date alone is not a moment
    labeled_gallery(
        tmp_path / "g", features, [None] * 30, [None] * 15 + ["c1"] * 15, captured_at=when
    )
    flags = ("--gallery", tmp_path / "g", "--out", tmp_path / "i.csv", "--threshold", 0.5)
    told = result(capsys, "link", *flags)
    assert (told["agreement"], told["rows_linked"], told["refused"]) == (None, 30, 0)
    _, out, _ = run(capsys, "link", *flags)
    assert "B-cubed" not in out


def pictured(place, identity_known=True, seed=0):
    """A gallery of 200 crops of 20 people, four in each picture of one of three cameras."""
    rng = np.random.default_rng(seed)
    who = np.concatenate([rng.permutation(20)[:4] for _ in range(50)])
    faces = rng.standard_normal((20, 32))
    features = faces[who] + 0.5 * rng.standard_normal((200, 32))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    identity = (who + 1).tolist() if identity_known else [None] * 200
    camera = [f"c{picture % 3}" for picture in range(50) for _ in range(4)]
    frame = [picture for picture in range(50) for _ in range(4)]
    labeled_gallery(place, features, identity, camera, frame=frame)
    return who


def test_the_threshold_is_that_of_the_wanted_precision(capsys, tmp_path):
    who = pictured(tmp_path / "g", identity_known=False)
    found = []
    for precision in (0.5, 0.9, 0.99):
        out = tmp_path / f"{precision}.parquet"
        flags = ("--gallery", tmp_path / "g", "--out", out, "--group-precision", precision)
        told = result(capsys, "link", *flags)
        assert told["threshold_from"] == f"estimated group precision of {precision:g}"
        assert (told["estimate"]["pairs"], told["agreement"]) == (300, None)
        assert told["estimate"]["precision"] >= precision
        group = np.array(pq.read_table(out)["candidate"].to_pylist())
        true = np.mean([(who[group == group[i]] == who[i]).mean() for i in range(200)])
        assert true > precision - 0.1
        found.append(told["threshold"])
    assert found == sorted(found)
    assert found[0] < found[-1]
    told = result(capsys, "link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv")
    assert told["threshold"] == found[1]  # 0.9 is the default
    out = run(capsys, "link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv")[1]
    assert "of 300 pairs of one camera at one time" in out


def test_without_moments_the_known_identities_tell(capsys, tmp_path):
    labeled_gallery(tmp_path / "g", *people(10, 100))
    told = result(capsys, "link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv")
    assert told["threshold_from"] == "group precision of 0.9 over the known identities"
    assert told["estimate"] is None
    assert told["agreement"]["precision"] >= 0.9


def test_where_nothing_tells_people_apart_a_threshold_is_asked_for(capsys, tmp_path):
    features, _, camera = people(10, 100)
    labeled_gallery(tmp_path / "g", features, [None] * 100, camera)
    line = refused(capsys, "link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv")
    assert "has 0 pairs of rows that are certainly different people" in line
    assert "give --threshold" in line


def test_where_no_threshold_is_precise_enough_that_is_said(capsys, tmp_path):
    """Rows in pairs of equal features, of two people each."""
    rng = np.random.default_rng(3)
    faces = rng.standard_normal((40, 8))
    rows = np.repeat(faces / np.linalg.norm(faces, axis=1, keepdims=True), 2, axis=0)
    frame = np.repeat(np.arange(40), 2).tolist()
    labeled_gallery(tmp_path / "g", rows.astype(np.float32), [None] * 80, ["c"] * 80, frame=frame)
    line = refused(capsys, "link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv")
    assert "no threshold gives groups a precision of 0.9" in line


def test_a_candidate_that_is_out_of_proportion_is_named(capsys, tmp_path):
    labeled_gallery(tmp_path / "g", *people(10, 100))
    flags = ("link", "--gallery", tmp_path / "g", "--out", tmp_path / "i.csv", "--threshold")
    warning = "it may hold several people; raise --group-precision or --threshold"
    assert warning in run(capsys, *flags, -0.5, "--json")[2]
    assert warning not in run(capsys, *flags, 0.6)[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "{tmp}/i.txt"), "must end in .parquet or .csv"),
        (("--out", "{tmp}/none/i.csv"), "must be a file in a folder"),
        (("--out", "{tmp}/i.parquet", "--safe-csv"), "--safe-csv needs a .csv file"),
        (
            ("--out", "{tmp}/i.csv", "--group-precision", 1),
            "--group-precision lies between 0 and 1",
        ),
        (
            ("--out", "{tmp}/i.csv", "--group-precision", 0.5, "--threshold", 0.5),
            "give --threshold or --group-precision, not both",
        ),
        (("--out", "{tmp}/i.csv", "--threshold", 1.5), "cosine similarity from -1 to 1"),
        (("--out", "{tmp}/i.csv", "--threshold", 0.5, "-k", 0), "k must be at least 1"),
        (("--out", "{tmp}/i.csv", "--threshold", 0.5, "--memory", 0), "--memory must be above 0"),
        (("--out", "{tmp}/i.csv", "--query-block", 0), "--query-block must be at least 1"),
        (("--out", "{tmp}/i.csv", "--threshold", 0.5, "--workers", -1), "--workers"),
        (("--out", "{tmp}/i.csv", "--threshold", 0.5, "--num-gpus", 1.5), "--num-gpus 1.5"),
        (("--out", "{tmp}/i.csv", "--threshold", 0.5, "--scratch", "{tmp}/x"), "is not a folder"),
    ],
)
def test_wrong_arguments(capsys, gallery, tmp_path, flags, message):
    flags = [str(flag).replace("{tmp}", str(tmp_path)) for flag in flags]
    assert message in refused(capsys, "link", "--gallery", gallery, *flags)
    assert not list(tmp_path.iterdir())


def test_a_single_row_has_no_link(capsys, tmp_path):
    features, _, _ = people(2, 2)
    labeled_gallery(tmp_path / "g", features, [1, -1], ["c1", "c2"])
    flags = ("--gallery", tmp_path / "g", "--out", tmp_path / "i.csv", "--threshold", 0.5)
    assert "has 1 rows in version 1 besides junk" in refused(capsys, "link", *flags)


def test_the_products_are_told(capsys, gallery, tmp_path):
    command = ("link", "--gallery", gallery, "--out", tmp_path / "i.csv", "--threshold", 0.6)
    told = result(capsys, *command)
    made = told["products"]
    assert (
        made["pairs"] == made["floats"] == told["rows_linked"] ** 2
    )  # one tile, too small for codes
    assert made["share_scored"] == made["scored"] / made["pairs"]
    assert 0 < made["scored"] < made["pairs"]
    assert "products 100.0% of float32" in run(capsys, *command, "--verbose")[2]
    assert "products" not in run(capsys, *command)[2]


def test_verdicts_are_kept(capsys, tmp_path):
    features, identity, camera = people(20, 200, seed=3)
    frame = np.random.default_rng(1).integers(0, 40, 200).tolist()
    place = tmp_path / "g"
    gallery = labeled_gallery(place, features, identity, camera, frame=frame)
    rows = gallery.rows().to_pylist()
    kept = [n for n, row in enumerate(rows) if row["identity"] != -1]
    junk = next(n for n, row in enumerate(rows) if row["identity"] == -1)
    moments = [(row["camera"], row["frame"]) for row in rows]
    a, b = next((a, b) for a in kept for b in kept if a < b and moments[a] == moments[b])
    linking = ("link", "--gallery", place, "--threshold", 0.6, "-k", 8, "--out")
    plain = result(capsys, *linking, tmp_path / "plain.parquet")
    assert plain["verdicts_used"] == {"same": 0, "different": 0, "overruled": 0}
    groups = {}
    for row in pq.read_table(tmp_path / "plain.parquet").to_pylist():
        groups.setdefault(row["candidate"], []).append(row["row_id"])
    large = max((g for c, g in groups.items() if c is not None), key=len)
    c, d = [n for n in large if n not in (a, b)][:2]
    far = next(n for n in kept if n not in (*large, a, b))
    # By way of the junk row, which is not linked, the two others are the same.
    say(gallery, (a, b, "same"), (c, junk, "same"), (far, junk, "same"), (c, d, "different"))
    told = result(capsys, *linking, tmp_path / "told.parquet")
    assert told["verdicts_used"] == {"same": 1, "different": 1, "overruled": 1}
    place_of = {n: place for place, n in enumerate(kept)}
    numbers = {}
    expected, refusals = oracles.linked_groups(
        features[kept],
        [numbers.setdefault(moments[n], len(numbers)) for n in kept],
        8,
        0.6,
        same=[(place_of[a], place_of[b]), (place_of[c], place_of[far])],
        different=[(place_of[c], place_of[d])],
    )
    written = pq.read_table(tmp_path / "told.parquet").to_pylist()
    assert [written[n]["candidate"] for n in kept] == [kept[g] for g in expected]
    assert told["refused"] == refusals
    _, out, _ = run(capsys, *linking, tmp_path / "told.csv")
    assert "one camera at one time or verdicts" in out
    assert "verdicts: 1 pairs the same, 1 different; 1 of the same are of one camera" in out
    say(gallery, (a, c, "same"), (b, c, "different"))
    told = refused(capsys, *linking, tmp_path / "no.csv")
    assert f"verdicts contradict each other: rows {min(b, c)} (" in told
    assert not (tmp_path / "no.csv").exists()


def test_verdicts_of_several_galleries_are_kept(tmp_path):
    features, identity, camera = people(6, 40, seed=4)
    parts = []
    for name, where in (("n", slice(0, 25)), ("s", slice(25, 40))):
        columns = identity[where], camera[where]
        parts.append(labeled_gallery(tmp_path / name, features[where], *columns))
    say(parts[0], (0, 1, "same"))
    say(parts[1], (0, 1, "different"), (2, 3, "same"))
    found = verdicts_by_position(GalleryUnion(tuple(parts)))
    assert (found.same.tolist(), found.different.tolist()) == ([[0, 1], [27, 28]], [[25, 26]])
    assert verdicts_digest(found) != verdicts_digest(verdicts_by_position(parts[0]))
    assert verdicts_digest(Verdicts()) is None
