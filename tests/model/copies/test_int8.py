"""8-bit copies: near their source, and the same on processors that clip sums of two products."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.errors import InputError
from pipeline.model.copies.export import deviation, export_network
from pipeline.model.copies.int8 import quantize_network
from pipeline.model.networks import NetworkFile, open_network
from tests.model.making import Pooled, save_script

SIZE = (32, 16)
IMAGES = np.random.default_rng(0).standard_normal((5, 3, *SIZE), np.float32)
INT16 = np.iinfo(np.int16)

# Reads a network and images, and runs it without torch, which takes seconds to import.
RUN = """
import sys
import numpy as np, openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(sys.argv[3], compiled(np.load(sys.argv[2]))[0])
"""


class Loud(torch.nn.Module):
    """Images `[B, 3, H, W]` to `[B, 8]`, by weights of which many are as large as the largest."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.convolutions = torch.nn.Sequential()
        for inputs, outputs in ((3, 32), (32, 32), (32, 8)):
            convolution = torch.nn.Conv2d(inputs, outputs, 3)
            signs = rng.choice([-1.0, 1.0, 1.0], convolution.weight.shape) / (9 * inputs)
            convolution.weight.data = torch.from_numpy(signs.astype(np.float32))
            self.convolutions.extend([convolution, torch.nn.ReLU()])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolutions(images).mean((2, 3))


def features(path: Path) -> NDArray[np.float32]:
    return open_network(NetworkFile(str(path)), size=SIZE, batch_size=5)(IMAGES)


def quantized(folder: Path, module: torch.nn.Module) -> tuple[Path, Path]:
    """The module as ONNX, and its 8-bit copy calibrated on IMAGES."""
    whole, eighth = folder / "n.onnx", folder / "n8.onnx"
    export_network(
        NetworkFile(str(save_script(folder / "n.pt", module.eval()))), SIZE, "onnx", whole
    )
    quantize_network(whole, eighth, [IMAGES[i : i + 1] for i in range(5)])
    return whole, eighth


def weights(path: Path) -> dict[str, NDArray[np.int8]]:
    """The int8 weights of an ONNX file by name, output channels first: all but zero points."""
    found = {
        each.name: numpy_helper.to_array(each)
        for each in onnx.load(path).graph.initializer
        if each.data_type == onnx.TensorProto.INT8
    }
    return {name: array for name, array in found.items() if array.ndim > 1}


def clipped(activations: NDArray[np.uint8], matrix: NDArray[np.int8]) -> NDArray[np.int32]:
    """`[B, K]` times `[O, K]` as x86 without VNNI multiplies: sums of two clipped to 16 bits."""
    products = activations[:, None, :].astype(np.int32) * matrix
    if products.shape[2] % 2:
        products = np.pad(products, ((0, 0), (0, 0), (0, 1)))
    pairs = products[:, :, ::2] + products[:, :, 1::2]
    return pairs.clip(INT16.min, INT16.max).sum(2)


def check_never_clipped(layers: dict[str, NDArray[np.int8]]) -> None:
    """Multiply every layer by the activations that are worst for it, and by random ones."""
    assert layers
    rng = np.random.default_rng(0)
    for name, layer in layers.items():
        matrix = layer.reshape(len(layer), -1)
        assert np.abs(matrix.astype(int)).max() <= 64, name
        worst = np.concatenate([np.where(matrix > 0, 255, 0), np.where(matrix < 0, 255, 0)])
        random = rng.integers(0, 256, (4, matrix.shape[1]))
        for activations in (worst[:8].astype(np.uint8), random.astype(np.uint8)):
            whole = activations.astype(np.int64) @ matrix.T.astype(np.int64)
            np.testing.assert_array_equal(clipped(activations, matrix), whole, err_msg=name)


@pytest.mark.parametrize("opset", [17, 11])
def test_int8_is_near_and_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opset: int
) -> None:
    # Scales by channel came with opset 13.
    monkeypatch.setattr("pipeline.model.copies.export.OPSET", opset)
    whole, eighth = quantized(tmp_path, Pooled())
    assert 1e-7 < deviation(features(eighth), features(whole)) < 1e-2
    hashes = {NetworkFile(str(path)).weights_hash() for path in (whole, eighth)}
    assert len(hashes) == 2
    check_never_clipped(weights(eighth))


def test_eight_bits_would_be_clipped() -> None:
    matrix = np.full((1, 2), 65, np.int8)
    with pytest.raises(AssertionError):
        check_never_clipped({"weight": matrix})
    assert clipped(np.full((1, 2), 255, np.uint8), matrix) == INT16.max  # and not 33,150


@pytest.mark.slow
def test_no_weight_of_a_real_network_is_clipped(tmp_path: Path, osnet: Path) -> None:
    eighth = tmp_path / "n8.onnx"
    quantize_network(osnet, eighth, [torch.randn(1, 3, 256, 128).numpy()])
    layers = weights(eighth)
    assert len(layers) > 150
    assert max(np.abs(layer.astype(int)).max() for layer in layers.values()) == 64
    check_never_clipped(layers)


def test_a_processor_without_vnni_gives_the_same_features(tmp_path: Path) -> None:
    whole, eighth = quantized(tmp_path, Loud())
    export_network(NetworkFile(str(eighth)), SIZE, "openvino", tmp_path / "n8.xml")
    np.save(tmp_path / "images.npy", IMAGES)
    command = [sys.executable, "-c", RUN, "n8.xml", "images.npy", "features.npy"]
    # oneDNN, by which OpenVINO computes here, takes no newer instructions then.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    without = np.load(tmp_path / "features.npy")
    assert deviation(without, features(whole)) < 1e-2
    np.testing.assert_allclose(without, features(tmp_path / "n8.xml"), rtol=1e-3)


def test_int8_without_the_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="int8 needs the package onnx: pip install onnx"):
        quantize_network(tmp_path / "n.onnx", tmp_path / "o.onnx", [])
