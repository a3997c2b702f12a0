"""`evaluate --mine`: the pairs that a threshold gets wrong, and what becomes of their table."""

import csv

import numpy as np
import pytest

from pipeline.runs.pair_tables import is_pair_table
from pipeline.runs.verdict_files import read_verdict_file
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, result, run

THRESHOLD = 0.6


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two galleries of one source; some rows are junk, distractors, or of unknown identity."""
    place = tmp_path_factory.mktemp("mistakes")
    galleries = []
    for name, seed in (("q", 5), ("g", 6)):
        features, identity, camera = people(8, 40, seed=seed)
        identity = [None if n % 9 == 8 else each for n, each in enumerate(identity)]
        paths = [f"{name}/{n:03d}.jpg" for n in range(40)]
        galleries.append(labeled_gallery(place / name, features, identity, camera, path=paths))
    return place, galleries


def expected(query, gallery, threshold):
    """Every wrong pair: doubt, kind, and the two rows."""
    ours, theirs = query.rows().to_pylist(), gallery.rows().to_pylist()
    scores = query.array().astype(np.float64) @ gallery.array().T.astype(np.float64)
    for a, one in enumerate(ours):
        for b, other in enumerate(theirs):
            if (one["identity"] or 0) < 1 or other["identity"] == -1:
                continue
            doubt = abs(scores[a, b] - threshold)
            same = one["identity"] == other["identity"]
            if same and one["camera"] != other["camera"] and scores[a, b] < threshold:
                yield doubt, "false reject", one, other
            if not same and scores[a, b] >= threshold:
                yield doubt, "false accept", one, other


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_gallery_against_itself_gives_row_ids_for_verdicts(capsys, sides, tmp_path):
    place, (_, gallery) = sides
    flags = ("--query", place / "g", "--gallery", place / "g", "--out", tmp_path / "out")
    done = result(capsys, "evaluate", *flags, "--mine", "--mine-threshold", THRESHOLD)
    wanted = sorted(expected(gallery, gallery, THRESHOLD), key=lambda each: -each[0])
    kinds = [each[1] for each in wanted]
    told = done["mistakes"]
    assert (told["false_accepts"], told["false_rejects"]) == (
        kinds.count("false accept"), kinds.count("false reject"),
    )  # fmt: skip
    written = rows_of(tmp_path / "out" / "misidentified.csv")
    pairs = {tuple(sorted((one["row_id"], other["row_id"]))) for _, _, one, other in wanted}
    assert len(written) == told["listed"] == len(pairs) > 10
    found = [tuple(sorted((int(row["a"]), int(row["b"])))) for row in written]
    assert set(found) == pairs
    doubts = [float(row["weight"]) for row in written]
    assert doubts == sorted(doubts, reverse=True)
    by_pair = {tuple(sorted((one["row_id"], other["row_id"]))): w for *w, one, other in wanted}
    for pair, row in zip(found, written, strict=True):
        doubt, kind = by_pair[pair]
        assert float(row["weight"]) == pytest.approx(doubt, abs=1e-6)
        assert row["kind"] == kind
    given = read_verdict_file(tmp_path / "out" / "misidentified.csv")
    unknown = [row for row in written if row["verdict"] == ""]
    assert given[1] == len(unknown) > 0
    assert all(row["kind"] == "false accept" for row in unknown)
    words = {"false accept": "different", "false reject": "same"}
    assert all(row["verdict"] in ("", words[row["kind"]]) for row in written)
    again = ("verdict", "--gallery", place / "g", "--from", tmp_path / "out" / "misidentified.csv")
    assert result(capsys, *again)["recorded"] == len(written) - len(unknown)


def test_two_galleries_give_paths(capsys, sides, tmp_path):
    place, galleries = sides
    flags = ("--query", place / "q", "--gallery", place / "g", "--out", tmp_path / "out")
    mining = ("--mine", "--mine-threshold", THRESHOLD, "--mine-pairs", 7)
    status, out, _ = run(capsys, "evaluate", *flags, *mining)
    assert status == 0 and f"pairs: {tmp_path / 'out' / 'misidentified.csv'}" in out
    wanted = sorted(expected(*galleries, THRESHOLD), key=lambda each: -each[0])
    kinds = ("false accept", "false reject")
    worst = [[each for each in wanted if each[1] == kind][:7] for kind in kinds]
    pairs = {(one["path"], other["path"]) for each in worst for *_, one, other in each}
    written = rows_of(tmp_path / "out" / "misidentified.csv")
    assert {(row["a"], row["b"]) for row in written} == pairs
    assert all((row["a"], row["b"]) == (row["path_a"], row["path_b"]) for row in written)


def test_the_threshold_is_that_of_the_calibration(capsys, sides, tmp_path):
    place, _ = sides
    flags = ("--query", place / "q", "--gallery", place / "g", "--out", tmp_path / "out", "--mine")
    told = refused(capsys, "evaluate", *flags)
    assert "has no threshold of its own" in told and "--mine-threshold" in told
    assert not list((tmp_path / "out").rglob("*"))
    calibrated = result(capsys, "calibrate", "--gallery", place / "g", "--far", 0.05)
    done = result(capsys, "evaluate", *flags)
    assert done["mistakes"]["threshold"] == calibrated["figures"]["threshold"]
    (tmp_path / "out" / "misidentified.csv").write_text("mine")
    assert "was not written by regallery" in refused(capsys, "evaluate", *flags)


def test_settings_without_meaning(capsys, sides, tmp_path):
    place, _ = sides
    flags = ("--query", place / "q", "--gallery", place / "g", "--out", tmp_path / "out")
    for name, value in (("--mine-threshold", 2), ("--mine-pairs", 0)):
        assert name in refused(capsys, "evaluate", *flags, "--mine", name, value)
    _, _, err = run(capsys, "evaluate", *flags, "--mine-pairs", 5)
    assert "--mine-pairs has no effect without --mine" in err


def test_an_erasure_everywhere_deletes_the_table(capsys, tmp_path):
    features, identity, camera = people(8, 40, seed=6)
    labeled_gallery(tmp_path / "g", features, identity, camera)
    flags = ("--query", tmp_path / "g", "--gallery", tmp_path / "g", "--out", tmp_path / "out")
    run(capsys, "evaluate", *flags, "--mine", "--mine-threshold", THRESHOLD)
    erasing = ("--gallery", tmp_path / "g", "--ids", 0, "--purge", "--everywhere", "--yes")
    followed = result(capsys, "erase", *erasing)["purged"]["outputs"]
    assert {each["kind"] for each in followed} == {"report", "pair table"}
    assert all(each["is_removed"] for each in followed)
    assert not (tmp_path / "out").exists()


def test_tables_are_known_by_their_mark(sides, tmp_path, capsys):
    place, _ = sides
    flags = ("--query", place / "q", "--gallery", place / "g", "--out", tmp_path / "out")
    run(capsys, "evaluate", *flags, "--mine", "--mine-threshold", THRESHOLD)
    path = tmp_path / "out" / "misidentified.csv"
    assert is_pair_table(path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other.parquet").write_text("a,b\n1,2\n")
    assert not is_pair_table(tmp_path / "other.csv")
    assert not is_pair_table(tmp_path / "other.parquet")
