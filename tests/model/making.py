"""Small networks and crops for these tests, written to files of every kind."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import openvino
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as opset
from PIL import Image

from pipeline.model.input.preprocessing import empty_batch, fill_batch
from pipeline.model.recipe import Recipe


def crops(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Random crops of random sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 60, (count, 2))
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def real_crops(pedestrians: Path, count: int) -> list[NDArray[np.uint8]]:
    paths = sorted((pedestrians / "query").glob("*.jpg"))[:count]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def prepared(
    images: Sequence[NDArray[np.uint8]], recipe: Recipe, size: tuple[int, int], rows: int
) -> NDArray[np.uint8]:
    """A fresh batch uint8 `[rows, 3, *size]` that begins with `images`."""
    return fill_batch(empty_batch(rows, size), images, recipe)


class Pooled(torch.nn.Module):
    """Images `[B, 3, H, W]` of any size to `[B, 8]`: a convolution, normalized, and its mean."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolution = torch.nn.Conv2d(3, 8, 3)
            self.normalization = torch.nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalization(self.convolution(images)).relu().mean((2, 3))


class Flat(torch.nn.Module):
    """Images of exactly 16 x 8 to `[B, 4]`, by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.ones(3 * 16 * 8, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.matrix


def save_onnx(
    path: Path,
    *,
    shape: Sequence[int | str] = ("batch", 3, "height", "width"),
    dtype: int = TensorProto.FLOAT,
    weights: Sequence[float] = (1.0, 2.0, 3.0),
    outputs: Sequence[str] = ("feature",),
    inputs: Sequence[str] = ("images",),
    window: int = 1,
    external: str | None = None,
) -> Path:
    """A network whose `feature` `[B, 3]` is each channel's mean times its weight.

    The mean is over the maxima of a sliding window. `outputs` may also name `pooled`
    `[B, 3, 1, 1]` and `raised` `[B, 3]`; a second input is added where named.
    """
    scale = numpy_helper.from_array(np.array([weights], np.float32), "scale")
    nodes = [
        helper.make_node("Cast", [inputs[0]], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("MaxPool", ["cast"], ["spread"], kernel_shape=[window] * (len(shape) - 2)),
        helper.make_node("GlobalAveragePool", ["spread"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["feature"], to=dtype),
        helper.make_node("Add", ["scaled", "scale"], ["raised"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, dtype, shape) for name in inputs],
        [
            helper.make_tensor_value_info(n, dtype if n == "feature" else TensorProto.FLOAT, None)
            for n in outputs
        ],
        [scale],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if external is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    return path


def save_ir(
    path: Path,
    build: Callable[[openvino.Output], Sequence[openvino.Output]] | None = None,
    *,
    shape: Sequence[int] = (1, 3, 16, 8),
) -> Path:
    """An OpenVINO IR: what `build` makes of the input; by default each channel's mean `[B, 3]`."""
    images = opset.parameter(list(shape), np.float32, name="images")
    made = build(images.output(0)) if build else [channel_means(images.output(0))]
    openvino.save_model(openvino.Model([*made], [images], "small"), path, compress_to_fp16=False)
    return path


def channel_means(images: openvino.Output) -> openvino.Output:
    axes = opset.constant(np.array([2, 3], np.int64))
    scaled = opset.multiply(images, opset.constant(np.array([2.0], np.float32)))
    return opset.reduce_mean(scaled, axes, False).output(0)


def save_script(path: Path, module: torch.nn.Module) -> Path:
    scripted(module.eval()).save(str(path))
    return path


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated for writing, still about
        return torch.jit.script(module)


def save_export(
    path: Path,
    module: torch.nn.Module,
    *,
    shape: tuple[int, int, int, int] = (4, 3, 16, 8),
    free: Sequence[str | None] = ("batch", None, None, None),
) -> Path:
    """A torch.export program; sides that `free` names stay free."""
    sides = {i: torch.export.Dim(name, min=4) for i, name in enumerate(free) if name}
    program = torch.export.export(module, (torch.zeros(shape),), dynamic_shapes=(sides or None,))
    torch.export.save(program, path)
    return path


def save_traced(
    path: Path, module: torch.nn.Module, *, free: bool = True, images: torch.Tensor | None = None
) -> Path:
    """A module as TorchScript (.pt) or ONNX (.onnx), in the mode that it is in.

    It is traced with `images`, by default four of 32 x 16; its batch stays free unless told.
    """
    given = torch.rand(4, 3, 32, 16) if images is None else images
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt":
            torch.jit.trace(module, given, check_trace=False, strict=False).save(str(path))
            return path
        mode = torch.onnx.TrainingMode.TRAINING if module.training else torch.onnx.TrainingMode.EVAL
        torch.onnx.export(
            module,
            (given,),
            str(path),
            dynamo=False,
            training=mode,
            do_constant_folding=False,
            opset_version=17,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}} if free else None,
        )
    return path


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inside(osnet: Path, path: Path) -> Path:
    """The network with mean and deviation before it, as fast-reid's exporter writes networks."""
    model = onnx.load(osnet)
    graph, name = model.graph, model.graph.input[0].name
    for node in graph.node:
        for place, each in enumerate(node.input):
            if each == name:
                node.input[place] = "normed"
    for constant, values in (("px_mean", IMAGENET[0]), ("px_std", IMAGENET[1])):
        levels = (255 * np.array(values, np.float32)).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(levels, constant))
    graph.node.insert(0, helper.make_node("Div", ["subbed", "px_std"], ["normed"]))
    graph.node.insert(0, helper.make_node("Sub", [name, "px_mean"], ["subbed"]))
    onnx.save(model, path)
    return path
