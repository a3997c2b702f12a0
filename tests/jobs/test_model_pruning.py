"""The verb model: copies with fewer channels."""

from pathlib import Path

import pytest

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.model.copies.probe import parameters
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.model.recipe import load_recipe_fields
from tests.jobs.running import refused, result, run
from tests.model.making import Pooled, save_script

WEIGHTS = Path(__file__).parents[2] / "jobs" / "demo_network" / "demo.safetensors"
DEMO = ("demo", "--checkpoint", WEIGHTS)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """The flags of a sample, and of queries and a gallery of other people."""
    root = tmp_path_factory.mktemp("drawn")
    few = {"cameras": 2, "crops_per_camera": 2, "distractors": 0, "junk": 0}
    draw_archive(root / "seen", identities=4, first_identity=100, **few)
    draw_archive(root / "new", identities=6, **few)
    return (
        "--sample", root / "seen" / "bounding_box_test", "--query", root / "new" / "query",
        "--gallery", root / "new" / "bounding_box_test", "--layout", "market1501",
    )  # fmt: skip


def export(network, out, *flags):
    kind = {".onnx": "onnx", ".xml": "openvino", ".pt": "torchscript"}[out.suffix]
    return ("model", "export", *network, "--to", kind, "--out", out, *flags)


def test_a_pruned_copy_is_smaller_and_told(capsys, tmp_path, labeled):
    out = tmp_path / "p.onnx"
    flags = ("--prune", 0.3, "--recover", 2, "--max-loss", 0.99, *labeled)
    told = result(capsys, *export(DEMO, out, *flags))
    pruned = told["pruned"]
    assert pruned["share"] == 0.3
    assert pruned["parameters"] == [174864, 94479]
    assert pruned["multiply_adds"][1] < 0.55 * pruned["multiply_adds"][0]
    assert len(pruned["losses"]) == 2
    assert pruned["losses"][1] < pruned["losses"][0]
    assert parameters(NetworkFile(str(out))) < 100_000
    assert told["queries"] == 12
    assert told["accuracy"]["copy"].keys() == {"mAP", "rank-1"}
    fields = load_recipe_fields(told["recipe_file"])
    recipe = default_recipe(NetworkFile(str(out)), fields)
    assert recipe.fingerprint == told["fingerprint"] != told["source_fingerprint"]
    assert {each.name for each in tmp_path.iterdir()} == {"p.onnx", "p.toml"}


def test_a_pruned_copy_can_be_quantized_or_torchscript(capsys, tmp_path, labeled):
    both = ("--prune", 0.1, "--recover", 0, "--max-loss", 0.99, *labeled)
    told = result(capsys, *export(DEMO, tmp_path / "p.onnx", "--quantize", "int8", *both))
    assert (told["quantized"], told["pruned"]["losses"]) == (True, [])
    status, out, _ = run(capsys, *export(DEMO, tmp_path / "p.pt", *both))
    assert status == 0
    assert "10% of the channels: 143,513 parameters of 174,864" in " ".join(out.split())


def test_a_copy_that_loses_too_much_is_refused_and_leaves_nothing(capsys, tmp_path, labeled):
    flags = ("--prune", 0.9, "--recover", 0, *labeled)
    message = refused(capsys, *export(DEMO, tmp_path / "p.onnx", *flags), status=1)
    assert "and --max-loss 0.01 asks that its lower end lies above -1.00" in message
    assert "nothing was written" in message
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--prune", 1), "--prune must be a share of the channels between 0 and 1, not 1"),
        (("--prune", 0.3), "--prune needs --sample, crops to train with, and --query and"),
        (("--recover", -1), "--recover must be 0 or more, not -1"),
        (("--max-loss", 0.1), "--max-loss needs --query and --gallery, to measure the loss on"),
        (("--max-loss", 1), "--max-loss must lie from 0 to below 1, not 1"),
    ],
)
def test_flags_of_pruning_that_do_not_go_together_are_told(capsys, tmp_path, flags, told):
    assert told in refused(capsys, *export(DEMO, tmp_path / "p.onnx", *flags))


def test_networks_and_samples_that_pruning_does_not_take_are_told(capsys, tmp_path, labeled):
    file = save_script(tmp_path / "n.pt", Pooled().eval())
    size = ("--height", 32, "--width", 16)
    message = refused(
        capsys, *export((file,), tmp_path / "p.onnx", "--prune", 0.3, *size, *labeled)
    )
    assert "a network file cannot be pruned; give the name of a network that is built" in message
    flags = ("--prune", 0.3, "--sample-size", 1, *labeled)
    message = refused(capsys, *export(DEMO, tmp_path / "p.onnx", *flags))
    assert "--recover needs a --sample of two crops or more" in message
