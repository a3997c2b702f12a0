"""Which weights of a network are trained.

A network is a sequence of blocks in the order in which its module defines them. Its last blocks
know people, its first ones edges and colors; and its normalizations know the light of the cameras
that it was trained on. So batch-norm statistics follow the new cameras in every choice.
"""

from typing import Literal, get_args

from torch import nn

from pipeline.errors import InputError
from pipeline.training.lora import add_lora

Part = Literal["statistics", "head", "last-stage", "lora", "everything"]
"""What is trained: batch-norm statistics only; also the last layer with weights, and what follows;
also the last blocks that together hold half of the weights; also low-rank adapters of the attention
layers; or all weights."""

_SHARE = 0.5


def check_part(network: nn.Module, part: Part) -> None:
    """Raise InputError if a part of a network cannot be trained. Changes the network."""
    if part == "lora":
        add_lora(network)
    train_part(network, part)


def train_part(network: nn.Module, part: Part) -> list[str]:
    """Let only a part of a network take gradients, and return the names of its parameters.

    For `lora`, these are the adapters of `add_lora`. Raise InputError for an unknown part, and for
    `statistics` of a network that keeps none.

    >>> network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    >>> train_part(network, "head")
    ['2.weight', '2.bias']
    """
    if part not in get_args(Part):
        raise InputError(f"`part` must be one of {', '.join(get_args(Part))}, not {part!r}")
    named = dict(network.named_parameters())
    if part == "statistics":
        if not normalizations(network):
            raise InputError(
                "the network has no batch normalization, so it has no statistics to adapt; train"
                " another part of it"
            )
        chosen: list[str] = []
    elif part == "everything":
        chosen = list(named)
    elif part == "lora":
        chosen = [name for name in named if ".lora_" in name]
    else:
        first = _head(network) if part == "head" else _last_stage(network)
        names = list(named)
        chosen = names[names.index(first) :] if names else []
    wanted = set(chosen)
    for name, parameter in named.items():
        parameter.requires_grad_(name in wanted)
    return chosen


def normalizations(network: nn.Module) -> list[nn.Module]:
    """The batch normalizations of a network that keep running statistics, in order."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]


def _head(network: nn.Module) -> str:
    """The first parameter of the last layer that has a matrix of weights."""
    last = ""
    for name, module in network.named_modules():
        own = list(module.named_parameters(recurse=False))
        if any(parameter.ndim > 1 for _, parameter in own):
            last = f"{name}.{own[0][0]}".lstrip(".")
    return last or next(iter(dict(network.named_parameters())), "")


def _last_stage(network: nn.Module) -> str:
    """The first parameter of the last blocks that together hold half of the weights."""
    total = sum(parameter.numel() for parameter in network.parameters())
    held, first = 0, ""
    for name, block in reversed(_blocks(network, "", _SHARE * total)):
        parameters = list(block.named_parameters())
        held += sum(parameter.numel() for _, parameter in parameters)
        first = f"{name}.{parameters[0][0]}".lstrip(".")
        if held >= _SHARE * total:
            break
    return first


def _blocks(module: nn.Module, prefix: str, large: float) -> list[tuple[str, nn.Module]]:
    """The blocks with weights; one that holds more than half of all weights is taken apart."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        size = sum(parameter.numel() for parameter in child.parameters())
        if not size:
            continue
        if size > large and list(child.children()):
            found += _blocks(child, f"{prefix}{name}.", large)
        else:
            found.append((f"{prefix}{name}", child))
    return found or [(prefix.rstrip("."), module)]
