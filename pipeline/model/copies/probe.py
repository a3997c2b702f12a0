"""Measure a network: its number of parameters, and its speed on this machine."""

import math
import statistics
import time

import numpy as np
import openvino

from pipeline.model.backends.torch_network import load_export, load_torchscript
from pipeline.model.input.preprocessing import empty_input
from pipeline.model.kinds import network_kind
from pipeline.model.networks import Network, NetworkFile, load_module

_WEIGHTS = ("f32", "f16", "bf16", "i8", "u8")


def parameters(file: NetworkFile) -> int:
    """The number of weights of a network.

    For ONNX and OpenVINO files this counts the floating-point (and 8-bit) constants of their graph,
    into which normalizations may have been folded. Raise the InputErrors of loading the network.
    """
    if file.named:
        return sum(each.numel() for each in load_module(file).parameters())
    kind = network_kind(file.path)
    if kind == "torchscript":
        return sum(each.numel() for each in load_torchscript(file.path, "cpu").parameters())
    if kind == "export":
        return sum(each.numel() for each in load_export(file.path, "cpu")[0].parameters())
    total = 0
    for node in openvino.Core().read_model(file.path).get_ops():
        if node.get_type_name() != "Constant":
            continue
        constant = node.output(0)
        if constant.get_element_type().to_string() in _WEIGHTS:
            total += math.prod(constant.get_shape())
    return total


def crops_per_second(
    network: Network, size: tuple[int, int], batch_size: int, *, rounds: int = 5
) -> float:
    """The median speed of a loaded network on normalized images, after one round to warm up."""
    rows = network.batch or batch_size
    images = empty_input((rows, 3, *size))
    images[:] = np.random.default_rng(0).random(images.shape, np.float32)
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        network(images)
        taken.append(time.perf_counter() - start)
    return rows / statistics.median(taken[1:])
