"""Write networks as files of another kind, and measure how far the copy's features are from the
source's.

An exported file takes images of one size (the recipe's) in batches of any size.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from pipeline.core.vectors import unit_vectors
from pipeline.errors import InputError
from pipeline.model.backends.torch_network import load_export, load_torchscript, named_outputs
from pipeline.model.kinds import network_kind
from pipeline.model.networks import NetworkFile, load_module

Target = Literal["onnx", "openvino", "torchscript"]

COPY_SUFFIXES: dict[Target, str] = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt"}
DEVIATION = 1e-4
"""The largest cosine distance between the features of a faithful copy and of its source."""

OPSET = 17
_TRACED = 8  # rows of the batch that a network is traced with


def export_network(
    file: NetworkFile,
    size: tuple[int, int],
    target: Target,
    out: Path,
    output: str | None = None,
) -> None:
    """Write a network as `target` for images of `size` (height, width).

    If PyTorch runs the network and it has several outputs, only `output` is written; an ONNX file
    keeps its own outputs. Networks that are built here, TorchScript and torch.export files can be
    written in any format, an ONNX file as OpenVINO IR. Raise InputError for any other pair, and if
    the network cannot be traced.
    """
    kind = None if file.named else network_kind(file.path)
    if kind == target:
        raise InputError(f"{file.path}: is {target} already")
    if kind == "openvino" or (kind == "onnx" and target != "openvino"):
        raise InputError(
            f"{file.path}: an {'OpenVINO IR' if kind == 'openvino' else 'ONNX file'} cannot be "
            f"written as {target}; export the network that it was made from"
        )
    try:
        if kind == "onnx":
            save_ir(openvino.convert_model(file.path), out)
        else:
            module = _module(file) if output is None else _OneOutput(_module(file), output)
            export_module(module, torch.zeros(_TRACED, 3, *size), target, out)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{file.path}: cannot be written as {target} ({reason})") from error


def save_ir(model: openvino.Model, out: Path) -> None:
    """Write an OpenVINO model as .xml and .bin, with unchanged weights."""
    openvino.save_model(model, out, compress_to_fp16=False)


def deviation(ours: NDArray[np.float32], source: NDArray[np.float32]) -> float:
    """The largest cosine distance, 1 - cos, of two networks' features `[N, D]` of the same crops.

    >>> deviation(np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]]))
    0.0
    """
    cosines = np.einsum(
        "nd,nd->n", unit_vectors(ours).astype(float), unit_vectors(source).astype(float)
    )
    return float(max(0.0, 1 - cosines.min()))


class _OneOutput(torch.nn.Module):
    """One of a module's outputs, by its key or its place."""

    def __init__(self, module: Any, output: str) -> None:
        super().__init__()
        self.module, self.output = module, output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return named_outputs(self.module(images))[self.output]


def _module(file: NetworkFile) -> Any:
    if file.named:
        # Tracing needs plain memory: otherwise it would record the strides of channels-last
        # weights.
        return load_module(file).to(memory_format=torch.contiguous_format)
    if network_kind(file.path) == "torchscript":
        return load_torchscript(file.path, "cpu")
    program, image, _ = load_export(file.path, "cpu")
    if image.shape[0] is not None:
        raise InputError(
            f"{file.path}: takes batches of {image.shape[0]} only; export it with a free batch"
        )
    return program


def export_module(module: Any, images: torch.Tensor, target: Target, out: Path) -> None:
    """Write a PyTorch module, traced with `images` `[B, 3, H, W]` (B of 2 or more)."""
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        # Tracing is deprecated in favor of torch.export, whose exporters need extra packages.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "no signature found for", UserWarning)
        scripted = isinstance(module, torch.jit.ScriptModule)
        traced = module if scripted else torch.jit.trace(module, images, check_trace=False)
        if target == "torchscript":
            traced.save(str(out))
            return
        # OpenVINO reads ONNX many times faster than a module.
        network = out if target == "onnx" else Path(folder, "network.onnx")
        torch.onnx.export(
            traced,
            (images,),
            str(network),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["feature"],
            dynamic_axes={"images": {0: "batch"}, "feature": {0: "batch"}},
        )
        if target == "openvino":
            save_ir(openvino.convert_model(network), out)
