"""Networks that can be trained: as a module with weights, and as the model that extracts with them.

A network that is built here is trained under its name, and its weights are a checkpoint of that
name. A module of the user's own keeps its class: only its weights change.
"""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.feature_models import FeatureModel, FileModel
from pipeline.model.functions import Crops, NetworkFunction
from pipeline.model.input.preprocessing import empty_batch, fill_batch, standardize
from pipeline.model.names import BACKBONE, needs_checkpoint
from pipeline.model.networks import NetworkFile, load_module, start_recipe
from pipeline.model.recipe import Recipe
from pipeline.model.start import OF_TRAINING

NO_WEIGHTS = "0" * 64
"""The hash of weights in the recipe of a module that has no file."""


class TrainableNetwork(Protocol):
    """A network whose weights can be trained; it can be sent to workers.

    `weights` is a file that `weights_bytes` made, or None for those that the network came with.
    """

    @property
    def name(self) -> str:
        """A name for people."""
        ...

    def identity(self) -> str:
        """A text that is the same for the same network with the same first weights."""
        ...

    def recipe(self) -> Recipe:
        """The preparation of its input, for training and extraction alike."""
        ...

    def module(self, weights: Path | None = None) -> torch.nn.Module:
        """The module from images float32 `[B, 3, H, W]` to features `[B, D]`, on the CPU.

        All of its parameters take gradients. Raise InputError for weights that do not fit.
        """
        ...

    def model(self, weights: Path | None = None) -> FeatureModel:
        """The model that extracts features with these weights."""
        ...


@dataclass(frozen=True)
class TrainableFile:
    """A network that is built here, with its checkpoint; `fields` of the recipe may be given.

    Raise InputError for a network file, which holds no weights that can be trained.
    """

    file: NetworkFile
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.file.named:
            raise InputError(
                f"{self.file.path}: a network file cannot be trained; give the name of a network"
                " that is built here, with its checkpoint"
            )

    @property
    def name(self) -> str:
        """The name under which the network is built."""
        return self.file.path

    def identity(self) -> str:
        """The fingerprint of the recipe, which has the hash of the weights."""
        return self.recipe().fingerprint

    def recipe(self) -> Recipe:
        """The recipe of the network with its own weights."""
        return start_recipe(self.file.here(), self.fields).recipe

    def module(self, weights: Path | None = None) -> torch.nn.Module:
        """The module with the weights of the checkpoint, or with others."""
        return load_module(self._with(weights).here()).requires_grad_(True)

    def model(self, weights: Path | None = None) -> FeatureModel:
        """The named network with a checkpoint."""
        file = self._with(weights)
        return FileModel(file, replace(self.recipe(), weights=file.here().weights_hash()))

    def _with(self, weights: Path | None) -> NetworkFile:
        return self.file if weights is None else NetworkFile(self.file.path, str(weights))


@dataclass(frozen=True, eq=False)
class TrainableModule:
    """A PyTorch module of the user's own, from images `[B, 3, height, width]` to features `[B, D]`.

    `fields` of the recipe say how its input is prepared: at least height and width, and whatever
    differs from the defaults. The given module is never changed. Raise InputError for other fields.
    """

    torch_module: torch.nn.Module
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        if missing := {"height", "width"} - self.fields.keys():
            raise InputError(f"the recipe of a module needs {' and '.join(sorted(missing))}")
        if other := self.fields.keys() - set(OF_TRAINING):
            raise InputError(
                f"the recipe of a module cannot have {', '.join(sorted(other))}: it says how its"
                f" input is prepared ({', '.join(OF_TRAINING)})"
            )
        self.recipe()

    @property
    def name(self) -> str:
        """The name of the module's class."""
        return type(self.torch_module).__name__

    def identity(self) -> str:
        """The recipe with the hash of the module's weights."""
        return replace(self.recipe(), weights=weights_hash(self.torch_module)).fingerprint

    def recipe(self) -> Recipe:
        """The recipe that `fields` describe, with a hash of zeros."""
        return Recipe(weights=NO_WEIGHTS, **self.fields)

    def module(self, weights: Path | None = None) -> torch.nn.Module:
        """A copy of the module, with its own weights or with others."""
        module = deepcopy(self.torch_module)
        if weights is not None:
            load_weights_file(module, weights)
        return module.requires_grad_(True)

    def model(self, weights: Path | None = None) -> FeatureModel:
        """A network function that runs the module."""
        module = self.module(weights).eval().requires_grad_(False)
        return NetworkFunction(_Run(module, self.recipe()), f"module {weights_hash(module)}")


@dataclass(frozen=True, eq=False)
class _Run:
    """Crops to features through a module, in batches of one size."""

    module: torch.nn.Module
    recipe: Recipe

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        batch = empty_batch(BATCH_SIZE, (self.recipe.height, self.recipe.width))
        found = []
        with torch.inference_mode():
            for start in range(0, len(crops), BATCH_SIZE):
                some = crops[start : start + BATCH_SIZE]
                images = standardize(fill_batch(batch, some, self.recipe), self.recipe)
                features = self.module(torch.from_numpy(images))[: len(some)]
                found.append(features.float().numpy())
        return np.concatenate(found)


@dataclass(frozen=True)
class UntrainedNetwork:
    """The name of a network that is built here and has no weights yet; `fields` of its recipe.

    Raise InputError for a network file, and for a network whose shape its checkpoint decides.
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not needs_checkpoint(self.name):
            raise InputError(
                f"{self.name}: a network file cannot be trained; give the name of a network that is"
                " built here"
            )
        self.weights(0)

    def weights(self, seed: int) -> bytes:
        """Random weights, a function of `seed`, as `weights_bytes` writes them."""
        if self.name.startswith(BACKBONE):
            from pipeline.model.architectures.backbone import initial_backbone

            return weights_bytes(initial_backbone(self.name.removeprefix(BACKBONE), seed))
        from pipeline.model.architectures.known import initial_network

        return weights_bytes(initial_network(self.name, seed))

    def with_weights(self, file: Path) -> TrainableFile:
        """The network with the weights in a file."""
        return TrainableFile(NetworkFile(self.name, str(file)), self.fields)


def weights_bytes(module: torch.nn.Module) -> bytes:
    """All weights and buffers of a module as a safetensors file: equal weights, equal bytes."""
    return save({key: tensor.contiguous().cpu() for key, tensor in module.state_dict().items()})


def weights_hash(module: torch.nn.Module) -> str:
    """The SHA-256 of `weights_bytes`."""
    return hashlib.sha256(weights_bytes(module)).hexdigest()


def load_weights_file(module: torch.nn.Module, weights: Path) -> None:
    """Load a file that `weights_bytes` made; raise InputError unless it fits exactly."""
    try:
        module.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{weights}: these are no weights of this network ({error})") from error
