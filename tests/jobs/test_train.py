"""The command that trains with labels: what it prints."""

from pipeline.archive.drawn.drawing import draw_archive
from tests.jobs.running import run


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
