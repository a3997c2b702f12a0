"""Read the first operations of ONNX files and OpenVINO IRs from OpenVINO's graph of either."""

from typing import Any

import numpy as np
import openvino
from openvino.passes import ConstantFolding, Manager

from pipeline.model.backends.openvino_network import read_ir
from pipeline.model.backends.signature import ImageInput
from pipeline.model.input.opening import (
    Effect,
    Opening,
    Operation,
    normalization,
    reverses,
    step_of,
)

_ARITHMETIC: dict[str, Effect] = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Divide": "divide",
}
_ASIDE = ("ShapeOf", "Result")  # these read the input's shape, not its pixels
_WRAPPED = ("Convert", "Reshape", "Unsqueeze", "Squeeze")  # how constants are stored


def onnx_opening(path: str, image: ImageInput) -> Opening:
    """The first operations of an ONNX file; unknown if OpenVINO cannot read it."""
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        return Opening((), image.levels, image.channels_last, f"OpenVINO cannot read it: {reason}")
    return _opening(model, image)


def openvino_opening(path: str, image: ImageInput) -> Opening:
    """The first operations of an OpenVINO IR; raise InputError if it cannot be read."""
    return _opening(read_ir(path), image)


def _opening(model: openvino.Model, image: ImageInput) -> Opening:
    """Follow the input from operation to operation while each is the only one."""
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    steps: list[Operation] = []
    output, channels_last = model.inputs[0], image.channels_last
    while True:
        readers = [
            each
            for each in output.get_target_inputs()
            if each.get_node().get_type_name() not in _ASIDE
        ]
        nodes = {each.get_node().get_friendly_name(): each.get_node() for each in readers}
        if len(nodes) != 1:
            break
        node, place = next(iter(nodes.values())), readers[0].get_index()
        if node.get_type_name() == "Transpose":
            if not channels_last or _list(_constant(node, 1)) != [0, 3, 1, 2]:
                break
            channels_last = False
            output = node.output(0)
            continue
        if node.get_type_name() in ("Split", "VariadicSplit"):
            joined = _joined_reversed(node, channels_last)
            if joined is None:
                break
            steps.append(Operation("swap"))
            output = joined
            continue
        step = _step(node, place, channels_last=channels_last)
        if step is None:
            break
        steps.append(step)
        output = node.output(0)
    return Opening(tuple(steps), image.levels, image.channels_last)


def _step(node: Any, place: int, *, channels_last: bool) -> Operation | None:
    kind = node.get_type_name()
    axis = 3 if channels_last else 1
    if kind == "Convert":
        return Operation("pass")
    if kind in _ARITHMETIC and node.get_input_size() == 2:
        constant = _constant(node, 1 - place)
        name = _ARITHMETIC[kind]
        if constant is None or (place == 1 and name == "divide"):
            return None
        turned: Effect = "reflect" if place == 1 and name == "subtract" else name
        return step_of(turned, constant, channels_last=channels_last)
    if kind == "BatchNormInference":
        parts = [_constant(node, each) for each in range(1, 5)]
        if channels_last or any(part is None for part in parts):
            return None
        return normalization(parts, node.get_attributes()["epsilon"])
    if kind == "Gather" and place == 0:
        along, indices = _list(_constant(node, 2)), _constant(node, 1)
        return Operation("swap") if along in ([axis], [axis - 4]) and reverses(indices) else None
    if kind == "Slice" and place == 0 and node.get_input_size() == 5:
        along, strides = _list(_constant(node, 4)), _list(_constant(node, 3))
        return Operation("swap") if along in ([axis], [axis - 4]) and strides == [-1] else None
    if kind == "StridedSlice" and place == 0 and node.get_input_size() == 4:
        strides = _list(_constant(node, 3))
        backward = [-1 if each == axis else 1 for each in range(axis + 1)]
        return Operation("swap") if strides[: axis + 1] == backward else None
    return None


def _joined_reversed(node: Any, channels_last: bool) -> Any:
    """The node that joins the three channels of a split in reverse; None if there is none."""
    axis = 3 if channels_last else 1
    parts = node.outputs()
    if len(parts) != 3 or _list(_constant(node, 1)) not in ([axis], [axis - 4]):
        return None
    readers = [list(part.get_target_inputs()) for part in parts]
    if any(len(each) != 1 for each in readers):
        return None
    joins = {each[0].get_node().get_friendly_name() for each in readers}
    join = readers[0][0].get_node()
    places = [each[0].get_index() for each in readers]
    if len(joins) != 1 or join.get_type_name() != "Concat" or places != [2, 1, 0]:
        return None
    along = join.get_attributes()["axis"]
    return join.output(0) if along in (axis, axis - 4) else None


def _constant(node: Any, place: int) -> np.ndarray | None:
    """The constant at an input of a node, in whatever form it is stored; None if it is not
    constant.
    """
    source = node.input_value(place).get_node()
    for _ in range(4):
        if source.get_type_name() == "Constant":
            shape = node.input_value(place).get_partial_shape()
            data = np.array(source.data)
            return data.reshape(list(shape.to_shape())) if shape.is_static else data
        if source.get_type_name() not in _WRAPPED:
            return None
        source = source.input_value(0).get_node()
    return None


def _list(constant: np.ndarray | None) -> list[int]:
    return [] if constant is None else np.asarray(constant).reshape(-1).tolist()
