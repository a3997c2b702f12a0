"""The networks of the field that are built here, and the contents of their checkpoints."""

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from pipeline.errors import InputError
from pipeline.model.architectures.checkpoints import Fitted, State, fit, load_weights
from pipeline.model.architectures.demo import demo, demo_input_size
from pipeline.model.architectures.osnet import osnet
from pipeline.model.architectures.outlines import without_memory
from pipeline.model.architectures.reading import WeightSet
from pipeline.model.architectures.resnet import bnneck, ft_net, pcb
from pipeline.model.architectures.vit import vit, vit_input_size
from pipeline.model.names import architecture


@dataclass(frozen=True)
class Architecture:
    """A network that is built for a checkpoint.

    `build` makes it from the checkpoint's keys and the options after its name. `heads` are the
    names of its toolboxes' classifier heads, which are dropped. `recipe` has the fields in which
    its toolboxes differ from Recipe's defaults. `size` returns the input size that a checkpoint
    fixes. `alone` says that the network is the same for every checkpoint, so that it can be built
    without one.
    """

    build: Callable[[State, Set[str]], torch.nn.Module]
    heads: tuple[str, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    size: Callable[[State], tuple[int, int]] | None = None
    alone: bool = False


_TORCHREID = ("classifier",)
_HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_STRIPE_HEADS = tuple(f"classifier{stripe}" for stripe in range(6))

NETWORKS = {
    "ft_net": Architecture(ft_net, ("model.fc", "classifier.classifier")),
    "pcb": Architecture(pcb, ("model.fc", *_STRIPE_HEADS), {"height": 384, "width": 192}),
    "bnneck": Architecture(
        bnneck, ("classifier", "base.fc", "heads.weight", "heads.classifier", "heads.cls_layer")
    ),
    "osnet_x0_25": Architecture(osnet(0.25), _TORCHREID, alone=True),
    "osnet_x0_5": Architecture(osnet(0.5), _TORCHREID, alone=True),
    "osnet_x0_75": Architecture(osnet(0.75), _TORCHREID, alone=True),
    "osnet_x1_0": Architecture(osnet(1.0), _TORCHREID, alone=True),
    "osnet_ain_x0_25": Architecture(osnet(0.25, ain=True), _TORCHREID, alone=True),
    "osnet_ain_x0_5": Architecture(osnet(0.5, ain=True), _TORCHREID, alone=True),
    "osnet_ain_x0_75": Architecture(osnet(0.75, ain=True), _TORCHREID, alone=True),
    "osnet_ain_x1_0": Architecture(osnet(1.0, ain=True), _TORCHREID, alone=True),
    "demo": Architecture(demo, ("classifier",), size=demo_input_size, alone=True),
    "vit": Architecture(vit, ("classifier", "base.fc", "base.head"), _HALVES, vit_input_size),
}
"""The architectures by the names in `names.ARCHITECTURES`."""

# fast-reid wrote its preprocessing into its earlier checkpoints, in units of 0 to 255.
_PIXELS = {"pixel_mean": "mean", "pixel_std": "std"}


def load_architecture(model: str, checkpoint: str) -> torch.nn.Module:
    """Load the network `NAME` or `NAME:OPTION,OPTION` with a checkpoint's weights, for evaluation.

    Raise InputError unless the checkpoint has every weight, and nothing else except heads.
    """
    fitted = _fitted(model, checkpoint)
    return load_weights(copy.deepcopy(fitted.module), fitted.match.matched)


def initial_network(model: str, seed: int) -> torch.nn.Module:
    """The network `NAME` with random weights, a function of `seed`: PyTorch's usual ones.

    Raise InputError for a network whose shape its checkpoint decides.
    """
    known, options = _known(model)
    if not known.alone:
        names = ", ".join(name for name, each in NETWORKS.items() if each.alone)
        raise InputError(
            f"{model}: a checkpoint decides the shape of this network, so it cannot be trained"
            f" without one: give `checkpoint`, or one of {names}, torchvision:NAME"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return known.build({}, options)


def architecture_recipe(
    model: str, checkpoint: str, sets: Sequence[WeightSet] | None = None
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The recipe fields of a named network, and the input size that its checkpoint fixes, or None.

    `sets` are those of the checkpoint's file, if it has been read. Raise InputError for a
    checkpoint that cannot be read or was trained for an unknown size.
    """
    known, _ = _known(model)
    fitted = _fitted(model, checkpoint, sets)
    fields = dict(known.recipe)
    for key, levels in fitted.extra.items():
        fields[_PIXELS[key]] = tuple(round(level / 255, 6) for level in levels.flatten().tolist())
    try:
        size = known.size(fitted.match.matched) if known.size else None
    except InputError as error:
        raise InputError(f"{checkpoint}: {error}") from error
    return fields, size


def _fitted(model: str, checkpoint: str, sets: Sequence[WeightSet] | None = None) -> Fitted:
    """The network, built without memory, and the part of the checkpoint that fits it.

    The network may be one that others have: copy it before loading weights.
    """
    known, options = _known(model)

    def build(state: State) -> torch.nn.Module:
        if known.alone:
            return _outlined_alone(model)
        with without_memory():
            return known.build(state, options)

    return fit(checkpoint, build, known.heads, extra=tuple(_PIXELS), sets=sets)


@cache
def _outlined_alone(model: str) -> torch.nn.Module:
    """A network that no checkpoint changes, without memory: it is compared with many parts."""
    known, options = _known(model)
    with without_memory():
        return known.build({}, options)


def _known(model: str) -> tuple[Architecture, frozenset[str]]:
    named = architecture(model)
    if named is None:
        raise InputError(f"{model}: no such network; known are {', '.join(NETWORKS)}")
    return NETWORKS[named[0]], named[1]
