"""Read the first operations of TorchScript and torch.export programs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.model.backends.signature import ANY_IMAGES, ImageInput
from pipeline.model.input.opening import (
    Effect,
    Opening,
    Operation,
    normalization,
    reverses,
    step_of,
)

_UNKNOWN = object()
"""A value that is not written in the program."""

_ARITHMETIC: dict[str, Effect] = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "rsub": "reflect",
}
_TURNED: dict[str, Effect] = {"sub": "reflect", "rsub": "subtract"}
"""The effect of an operation if the constant comes first."""

_SAME = ("to", "type", "float", "half", "contiguous", "clone", "detach", "alias", "type_as")
# Operations that read the input's shape or kind, not its pixels.
_ASIDE = ("size", "dim", "device", "dtype", "len", "sym_size", "_assert_tensor_metadata")
_COPIES = ("lift_fresh_copy", "detach", "tensor")
# Operations that may be computed from constants before these meet the input, as in `x - 255 *
# mean`.
_COMPUTED = ("mul", "div", "add", "sub", "neg", "reciprocal", "sqrt", "view", "reshape")
_SHAPED = ("unsqueeze", "flip", "expand", "to", "clone")
_LAST = 2**31


def script_opening(module: torch.jit.ScriptModule) -> Opening:
    """The first operations of a TorchScript module."""
    graph = module.inlined_graph
    images = list(graph.inputs())[1:2]
    if not images:
        return Opening()

    def value(source: Any) -> Any:
        node, kind = source.node(), source.node().kind()
        if kind == "prim::Constant":
            return source.toIValue()
        if kind == "prim::GetAttr":
            owner = value(node.input())
            return _UNKNOWN if owner is _UNKNOWN else getattr(owner, node.s("name"), _UNKNOWN)
        if kind == "prim::ListConstruct":
            return [value(each) for each in node.inputs()]
        name = kind.removeprefix("aten::")
        if name in _COPIES:
            return value(next(node.inputs()))
        if name in (*_COMPUTED, *_SHAPED):
            return _computed(getattr(torch.ops.aten, name), [value(e) for e in node.inputs()])
        return module if source.debugName() == next(graph.inputs()).debugName() else _UNKNOWN

    operations = [
        _Operation(
            node.kind().removeprefix("aten::"),
            [each.debugName() for each in node.inputs()],
            [each.debugName() for each in node.outputs()],
            functools.partial(lambda sources: [*map(value, sources)], list(node.inputs())),
        )
        for node in graph.nodes()
        if not node.kind().startswith("prim::")
    ]
    return _followed(images[0].debugName(), operations, ANY_IMAGES)


def export_opening(program: Any, image: ImageInput) -> Opening:
    """The first operations of a torch.export program."""
    signature = program.graph_signature
    stored = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }

    def value(source: Any) -> Any:
        if isinstance(source, list | tuple):
            return [value(each) for each in source]
        if not isinstance(source, torch.fx.Node):
            return source
        if source.op == "placeholder" and source.name in stored:
            name = stored[source.name]
            return program.state_dict.get(name, program.constants.get(name, _UNKNOWN))
        if source.op == "call_function" and _bare(source) in _COPIES:
            return value(source.args[0])
        if source.op == "call_function" and _bare(source) in (*_COMPUTED, *_SHAPED):
            return _computed(source.target, [value(each) for each in source.args])
        return _UNKNOWN

    operations = [
        _Operation(
            _bare(node),
            [each.name for each in node.all_input_nodes],
            [node.name],
            functools.partial(lambda sources: [*map(value, sources)], list(node.args)),
        )
        for node in program.graph.nodes
        if node.op == "call_function"
    ]
    return _followed(image.name, operations, image)


def _computed(operation: Any, arguments: list[Any]) -> Any:
    """A constant computed from constants; unknown if one of them is unknown."""
    if any(each is _UNKNOWN for each in arguments):
        return _UNKNOWN
    try:
        return operation(*arguments)
    except (RuntimeError, TypeError):
        return _UNKNOWN


class _Operation:
    """One operation of either program: its bare name, its inputs and outputs, and its arguments."""

    def __init__(
        self, name: str, reads: list[str], gives: list[str], arguments: Callable[[], list[Any]]
    ) -> None:
        self.in_place = name.endswith("_") and not name.startswith("_")
        self.name = name.rstrip("_") if self.in_place else name
        self.reads, self.gives, self.arguments = reads, gives, arguments


def _followed(name: str, operations: Sequence[_Operation], image: ImageInput) -> Opening:
    """Follow the input from operation to operation while each is the only one.

    If an operation works in place, its input's name also stands for the result.
    """
    steps: list[Operation] = []
    images, channels_last, turned = {name}, image.channels_last, image.channels_last
    for place, operation in enumerate(operations):
        if images.isdisjoint(operation.reads) or operation.name in _ASIDE:
            continue
        later = operations[place + 1 :]
        if not operation.in_place and any(
            not images.isdisjoint(each.reads) and each.name not in _ASIDE for each in later
        ):
            break
        arguments = operation.arguments()
        if operation.name == "permute" and arguments[1] == [0, 3, 1, 2] and _untouched(steps):
            turned, channels_last = True, False
            images = set(operation.gives)
            continue
        first = operation.reads[0] in images
        step = _step(operation.name, arguments, first=first, channels_last=channels_last)
        if step is None:
            break
        steps.append(step)
        images = {*operation.gives, *(images if operation.in_place else ())}
    return Opening(tuple(steps), image.levels, turned)


def _untouched(steps: Sequence[Operation]) -> bool:
    return all(step.kind == "pass" for step in steps)


def _step(name: str, arguments: list[Any], *, first: bool, channels_last: bool) -> Operation | None:
    axis = 3 if channels_last else 1
    axes = (axis, axis - 4)
    if name in _SAME:
        return Operation("pass")
    if name in _ARITHMETIC:
        constant = _number(arguments[1 if first else 0])
        scaled = name in ("add", "sub", "rsub") and arguments[2:3] not in ([], [1])
        if constant is None or scaled or (name == "div" and (not first or len(arguments) > 2)):
            return None
        kind = _ARITHMETIC[name] if first else _TURNED.get(name, _ARITHMETIC[name])
        return step_of(kind, constant, channels_last=channels_last)
    if not first:
        return None
    if name == "permute":
        return Operation("pass") if arguments[1] == [0, 1, 2, 3] else None
    if name == "slice":
        return Operation("pass") if _is_whole(arguments[1:]) else None
    if name == "flip":
        return Operation("swap") if arguments[1] in ([axes[0]], [axes[1]]) else None
    if name == "index_select":
        chosen = _number(arguments[2])
        return Operation("swap") if arguments[1] in axes and _reversing(chosen) else None
    if name == "index" and isinstance(arguments[1], list) and len(arguments[1]) == axis + 1:
        free, chosen = arguments[1][:-1], _number(arguments[1][-1])
        return Operation("swap") if all(f is None for f in free) and _reversing(chosen) else None
    if name == "batch_norm" and not channels_last:
        parts = [_number(each) if each is not None else None for each in arguments[1:5]]
        if parts[2] is None or parts[3] is None or arguments[7] is _UNKNOWN:
            return None
        return normalization(parts, arguments[7])
    return None


def _number(value: Any) -> Any:
    """Convert a constant for NumPy; None if it is unknown."""
    if isinstance(value, torch.Tensor):
        return value.detach().float().cpu().numpy() if value.device.type != "meta" else None
    if isinstance(value, int | float):
        return value
    whole = isinstance(value, list) and all(isinstance(each, int) for each in value)
    return value if whole else None


def _reversing(chosen: Any) -> bool:
    return chosen is not None and reverses(chosen)


def _is_whole(arguments: list[Any]) -> bool:
    """Whether a slice with these arguments (axis, start, stop, step) keeps everything."""
    _, start, stop, step = [*arguments, None, None, None, None][:4]
    ends = stop is None or (isinstance(stop, int) and stop >= _LAST)
    return start in (0, None) and ends and step in (1, None)


def _bare(node: Any) -> str:
    """The bare name of a node: `sub_` for `aten.sub_.Tensor`."""
    parts = str(node.target).split(".")
    return parts[1] if len(parts) > 1 else parts[0]
