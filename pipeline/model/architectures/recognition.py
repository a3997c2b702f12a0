"""Recognize the network of a checkpoint by its keys."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pipeline.errors import InputError
from pipeline.model.architectures.backbone import outlined
from pipeline.model.architectures.checkpoints import State, fit
from pipeline.model.architectures.foreign import explained
from pipeline.model.architectures.known import NETWORKS, architecture_recipe
from pipeline.model.architectures.reading import WeightSet, read_weights
from pipeline.model.names import BACKBONE

_RESNETS = ("resnet50", "resnet18", "resnet34", "resnet101", "resnet152")


def recognized(path: str) -> str | None:
    """Explain how to use a checkpoint whose keys are those of a known network; None for any other.

    For a network that is not built here, explain how to export it.
    """
    logger = logging.getLogger("pipeline.model.architectures.checkpoints")
    level = logger.level
    logger.setLevel(logging.ERROR)  # attempts are not logged
    try:
        sets = read_weights(path)
        names = [*_of_toolboxes(path, sets), *_of_torchvision(path, sets)]
        if names:
            return f"give `model` {' or '.join(names)} and `checkpoint` {path}"
        return next(filter(None, (explained(each.tensors) for each in sets)), None)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")  # it cannot be read as a checkpoint either
    finally:
        logger.setLevel(level)


def _of_toolboxes(path: str, sets: Sequence[WeightSet]) -> list[str]:
    return [name for name in NETWORKS if _fits(partial(architecture_recipe, name, path, sets))]


def _of_torchvision(path: str, sets: Sequence[WeightSet]) -> list[str]:
    fitting = []
    for name in _RESNETS:
        outline = outlined(name)
        if _fits(partial(fit, path, partial(_same, outline), sets=sets)):
            fitting.append(f"{BACKBONE}{name}")
    return fitting


def _same(outline: torch.nn.Module, _state: State) -> torch.nn.Module:
    return outline


def _fits(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except InputError:
        return False
    return True
