"""Networks written as another kind of file: the same features, or an error."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.copies.export import COPY_SUFFIXES, Target, deviation, export_network
from pipeline.model.copies.probe import crops_per_second, parameters
from pipeline.model.kinds import network_kind
from pipeline.model.networks import NetworkFile, open_network
from tests.model import toolboxes
from tests.model.making import Pooled, save_export, save_ir, save_onnx, save_script

SIZE = (32, 16)
IMAGES = np.random.default_rng(0).standard_normal((5, 3, *SIZE), np.float32)


def features(path: str, checkpoint: str | None = None) -> NDArray[np.float32]:
    return open_network(NetworkFile(path, checkpoint), size=SIZE, batch_size=5)(IMAGES)


@pytest.fixture(scope="module")
def osnet_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("osnet") / "model.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(toolboxes.osnet(0.25), path)
    return str(path)


def test_a_named_network_is_written_for_any_batch(tmp_path: Path, osnet_checkpoint: str) -> None:
    out = tmp_path / "copy.xml"
    export_network(NetworkFile("osnet_x0_25", osnet_checkpoint), SIZE, "openvino", out)
    wanted = features("osnet_x0_25", osnet_checkpoint)
    assert deviation(features(str(out)), wanted) < 1e-7
    assert open_network(NetworkFile(str(out)), size=SIZE, batch_size=2).input_size == SIZE


@pytest.mark.parametrize("target", COPY_SUFFIXES)
def test_every_kind_can_be_written(tmp_path: Path, target: Target) -> None:
    source = save_export(tmp_path / "n.pt2", Pooled().eval(), shape=(4, 3, *SIZE))
    out = tmp_path / f"copy{COPY_SUFFIXES[target]}"
    export_network(NetworkFile(str(source)), SIZE, target, out)
    assert network_kind(str(out)) == target
    assert deviation(features(str(out)), features(str(source))) < 1e-7


def test_other_files_are_written_too(tmp_path: Path) -> None:
    source = str(save_script(tmp_path / "n.pt", Pooled().eval()))
    network, ir = tmp_path / "n.onnx", tmp_path / "n.xml"
    export_network(NetworkFile(source), SIZE, "onnx", network)
    export_network(NetworkFile(str(network)), SIZE, "openvino", ir)
    for copy in (network, ir):
        assert deviation(features(str(copy)), features(source)) < 1e-7


def test_pairs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    network, ir = str(save_onnx(tmp_path / "n.onnx")), str(save_ir(tmp_path / "n.xml"))
    with pytest.raises(InputError, match=r"n\.onnx: is onnx already"):
        export_network(NetworkFile(network), SIZE, "onnx", tmp_path / "o.onnx")
    with pytest.raises(InputError, match="an ONNX file cannot be written as torchscript"):
        export_network(NetworkFile(network), SIZE, "torchscript", tmp_path / "o.pt")
    with pytest.raises(InputError, match="an OpenVINO IR cannot be written as onnx"):
        export_network(NetworkFile(ir), SIZE, "onnx", tmp_path / "o.onnx")


def test_a_network_that_cannot_be_traced_is_told(tmp_path: Path) -> None:
    script = save_script(tmp_path / "n.pt", Pooled().eval())
    with pytest.raises(InputError, match=r"n\.pt: cannot be written as openvino \("):
        export_network(NetworkFile(str(script)), (1, 1), "openvino", tmp_path / "o.xml")


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_deviation_is_the_largest_cosine_distance(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one = rng.standard_normal((4, 3)).astype(np.float32)
    other = one + rng.standard_normal((4, 3)).astype(np.float32) / 4
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, other, strict=True)
    ]
    assert deviation(scale * one, other) == pytest.approx(max(0, 1 - min(cosines)), abs=1e-6)


def test_parameters_are_counted_in_every_kind(tmp_path: Path, osnet_checkpoint: str) -> None:
    module = Pooled().eval()
    counted = sum(each.numel() for each in module.parameters())
    assert counted == 3 * 8 * 9 + 8 + 8 + 8
    for path in (
        save_script(tmp_path / "n.pt", module),
        save_export(tmp_path / "n.pt2", module),
    ):
        assert parameters(NetworkFile(str(path))) == counted
    # Folded into the convolution the normalization's numbers are gone.
    export_network(NetworkFile(str(tmp_path / "n.pt")), SIZE, "onnx", tmp_path / "n.onnx")
    assert parameters(NetworkFile(str(tmp_path / "n.onnx"))) == 3 * 8 * 9 + 8
    shared = {k: t for k, t in toolboxes.osnet(0.25).items() if not k.startswith("classifier")}
    weights = [t for k, t in shared.items() if k.endswith(("weight", "bias"))]
    named = parameters(NetworkFile("osnet_x0_25", osnet_checkpoint))
    assert named == sum(each.numel() for each in weights)


def test_speed_is_rows_over_seconds() -> None:
    class Slow:
        batch = None

        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            time.sleep(0.01)
            return np.zeros((len(images), 1), np.float32)

    assert 50 < crops_per_second(Slow(), SIZE, 4, rounds=3) <= 400


def test_a_program_of_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    source = save_export(tmp_path / "n.pt2", Pooled().eval(), free=(None,) * 4)
    with pytest.raises(InputError, match=r"n\.pt2: takes batches of 4 only"):
        export_network(NetworkFile(str(source)), (16, 8), "onnx", tmp_path / "n.onnx")
