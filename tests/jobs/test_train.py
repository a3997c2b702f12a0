"""The command that trains with labels: what it prints."""

from pathlib import Path

from pyarrow.csv import read_csv

from jobs import demo_network
from pipeline.archive.drawn.drawing import draw_archive
from pipeline.gallery.table import Gallery
from pipeline.runs.network_training import NetworkSource
from pipeline.runs.verdicts import give_verdict
from tests.jobs.running import refused, result, run


def test_losses_figures_and_counts_are_printed(capsys, tmp_path):
    draw_archive(tmp_path / "a", identities=6, cameras=2, crops_per_camera=1, distractors=0, junk=1)
    status, out, err = run(
        capsys, "train", tmp_path / "a", "--layout", "market1501", "--model", "demo",
        "--out", tmp_path / "out", "--epochs", 1, "--people", 2, "--crops", 2,
        "--held-out", 0.4, "--actors", 0,
    )  # fmt: skip
    assert status == 0, err
    assert out.split()[:3] == ["epoch", "identities", "triplets"]
    assert "after: mAP" in out and "before" not in out
    assert "left out: 1 junk" in out
    assert str(tmp_path / "out" / "network.safetensors") in out.replace("\n", "")


def test_verdicts_join_identities(capsys, tmp_path):
    draw_archive(tmp_path / "a", identities=6, cameras=2, crops_per_camera=1, distractors=0, junk=0)
    common = (tmp_path / "a", "--layout", "market1501", "--model", "demo", "--actors", 0)
    weights = Path(demo_network.__file__).with_name("demo.safetensors")
    run(capsys, "extract", *common, "--checkpoint", weights, "--gallery", tmp_path / "g")
    rows = Gallery.open(str(tmp_path / "g")).rows(["path", "identity"]).to_pylist()
    paths = {row["identity"]: row["path"] for row in rows}
    give_verdict(Gallery.open(str(tmp_path / "g")), paths[1], paths[2], "same", who="a")
    given = (
        "train", *common, "--out", tmp_path / "out", "--epochs", 1, "--people", 2, "--crops", 2,
        "--held-out", 0, "--part", "head",
    )  # fmt: skip
    status, out, err = run(capsys, *given, "--verdicts", tmp_path / "g")
    assert status == 0, err
    assert "by verdicts: 1 identities merged into others, 0 crops without a person" in out
    assert "of 5 people" in out
    done = result(capsys, *given, "--verdicts", tmp_path / "g")
    assert (done["people"], done["identities_merged"]) == (5, 1)
    assert "its identities differ" in refused(capsys, *given)


def test_mistakes_of_an_evaluation_come_up_more_often(capsys, tmp_path, monkeypatch):
    draw_archive(tmp_path / "a", identities=6, cameras=2, crops_per_camera=1, distractors=0, junk=0)
    common = (tmp_path / "a", "--layout", "market1501", "--model", "demo", "--actors", 0)
    weights = Path(demo_network.__file__).with_name("demo.safetensors")
    gallery, wrong = tmp_path / "g", tmp_path / "wrong"
    run(capsys, "extract", *common, "--checkpoint", weights, "--gallery", gallery)
    evaluation = ("evaluate", "--query", gallery, "--gallery", gallery, "--out", wrong)
    told = result(capsys, *evaluation, "--mine", "--mine-threshold", 0.9)["mistakes"]
    assert told["listed"] > 0
    seen = []

    def spy(self, work, workers, progress, real=NetworkSource.train):
        seen.append(work)
        return real(self, work, workers, progress)

    monkeypatch.setattr(NetworkSource, "train", spy)
    given = (
        "train", *common, "--out", tmp_path / "out", "--epochs", 1, "--people", 2, "--crops", 2,
        "--held-out", 0, "--part", "head",
    )  # fmt: skip
    result(capsys, *given, "--mistakes", wrong / "misidentified.csv")
    table = read_csv(wrong / "misidentified.csv")
    names = set(table["path_a"].to_pylist()) | set(table["path_b"].to_pylist())
    hard = seen[0].hard
    assert (hard.weights > 1).sum() == len(names) > 1
    assert len(hard.rivals) == table["kind"].to_pylist().count("false accept")
    assert "its mistakes differ" in refused(capsys, *given)
    other = ("--mistakes", tmp_path / "out" / "train.json")
    assert "is not a table of pairs" in refused(capsys, *given, *other)
