"""The verb `mine`: which pairs people look at first."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core.identities.linking import Linking, mutual_links
from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.neighbors.pairs import neighbors
from tests.core.identities.test_mining import proposed
from tests.gallery.test_verdicts import say
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, result, run


@pytest.fixture
def gallery(tmp_path):
    """150 rows of 15 people, some junk; frames repeat, so that some rows have one moment."""
    features, identity, camera = people(15, 150, seed=2, spread=0.2)
    frame = np.random.default_rng(1).integers(0, 30, 150).tolist()
    return labeled_gallery(tmp_path / "g", features, identity, camera, frame=frame)


def by_hand(gallery, threshold, most, verdicts, width=0.02):
    """The pairs of the definition, as row ids, over all rows but junk."""
    rows = gallery.rows().to_pylist()
    kept = [n for n, row in enumerate(rows) if row["identity"] != -1]
    numbers, names = {}, sorted({row["camera"] for row in rows})
    moments = np.array(
        [numbers.setdefault((rows[n]["camera"], rows[n]["frame"]), len(numbers)) for n in kept]
    )
    cameras = [names.index(rows[n]["camera"]) for n in kept]
    links = mutual_links(neighbors(gallery.array()[kept], 20), Linking(-1.0, 20))
    told = verdicts.implied_among(np.array(kept))
    found = proposed(links, moments, cameras, threshold, most, told, width)
    return [(kept[i], kept[j], change) for i, j, change in found]


def test_proposals_are_those_of_the_definition(capsys, gallery):
    flags = ("mine", "--gallery", gallery.location, "--threshold", 0.6)
    told = result(capsys, *flags, "-k", 15)
    wanted = by_hand(gallery, 0.6, 15, Verdicts())
    assert [(each["a"], each["b"]) for each in told["proposed"]] == [each[:2] for each in wanted]
    changes = [each["change"] for each in told["proposed"]]
    assert changes == pytest.approx([each[2] for each in wanted], rel=1e-6)
    assert {each["linked"] for each in told["proposed"]} == {True, False}
    cameras = [tuple(sorted((e["camera_a"], e["camera_b"]))) for e in told["proposed"]]
    assert len(set(cameras[:6])) >= 3
    # Half of them are judged by the true identities; the others are proposed again, with new ones.
    identity = gallery.rows()["identity"].to_pylist()
    judged = [each[:2] for each in wanted[:8]]
    words = ["same" if identity[a] == identity[b] > 0 else "different" for a, b in judged]
    say(gallery, *((*pair, word) for pair, word in zip(judged, words, strict=True)))
    again = result(capsys, *flags, "-k", 15)["proposed"]
    pairs = [(each["a"], each["b"]) for each in again]
    assert not set(judged) & set(pairs)
    verdicts = Verdicts(*(
        [pair for pair, each in zip(judged, words, strict=True) if each == word]
        for word in ("same", "different")
    ))  # fmt: skip
    assert pairs == [each[:2] for each in by_hand(gallery, 0.6, 15, verdicts)]


def test_the_threshold_is_that_of_link(capsys, gallery, tmp_path):
    flags = ("--gallery", gallery.location, "--group-precision", 0.8)
    linked = result(capsys, "link", *flags, "--out", tmp_path / "links.csv")
    told = result(capsys, "mine", *flags)
    for name in ("threshold", "threshold_from"):
        assert told[name] == linked[name]
    assert len(told["proposed"]) == 20
    other = result(capsys, "mine", *flags, "--not-own-camera")["proposed"]
    assert all(each["camera_a"] != each["camera_b"] for each in other)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table_is_filled_in_and_given_back(capsys, gallery, tmp_path, suffix):
    out = tmp_path / f"look{suffix}"
    flags = ("--gallery", gallery.location, "--threshold", 0.6, "-k", 4, "--out", out)
    status, shown, _ = run(capsys, "mine", *flags)
    assert status == 0 and f"pairs to fill in: {out}" in shown
    giving = ("verdict", "--gallery", gallery.location, "--from")
    assert result(capsys, *giving, out)["without_verdict"] == 4
    if suffix == ".csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(out).to_pylist()
    rows[0]["verdict"] = "different"
    with (tmp_path / "filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = result(capsys, *giving, tmp_path / "filled.csv")
    assert (done["recorded"], done["without_verdict"], done["different"]) == (1, 3, 1)
    result(capsys, "mine", *flags)  # a table of its own is replaced


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-k", 0), "-k must be at least 1, not 0"),
        (("--neighbors", 0), "--neighbors must be at least 1, not 0"),
        (("--width", 0), "--width must be above 0, not 0"),
        (("--threshold", 2), "--threshold is a cosine similarity from -1 to 1"),
        (("--out", "pairs.txt"), "must end in .csv or .parquet"),
        (("--where", "row_id = 3"), "has 1 rows in version 1 besides junk: a pair needs two"),
    ],
)
def test_refusals(capsys, gallery, flags, message):
    told = refused(capsys, "mine", "--gallery", gallery.location, *flags)
    assert message.removeprefix("-k ") in told
