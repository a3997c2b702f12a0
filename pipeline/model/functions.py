"""A user's own network: a Python function from crops to features."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.imported import ImportedRecipe

Crops = Sequence[NDArray[np.uint8]]

_APART = 1e-3
"""How far a feature may move, as a share of its length, if another crop is in its batch."""

_PROBES = (
    np.full((128, 64, 3), 96, np.uint8),
    np.indices((128, 64, 3)).sum(axis=0).astype(np.uint8),
)


@dataclass(frozen=True)
class NetworkFunction:
    """A function from crops to features, with a name that represents its weights.

    `function` takes a list of N crops, each uint8 `[H, W, 3]` in RGB and of its own size. It
    returns `[N, D]`: an array, or anything that NumPy converts to one. It does its own resizing and
    scaling. A gallery knows it only by `name`, so another network needs another name. For Ray it
    must be picklable. Raise InputError for an empty name.

    >>> mean = NetworkFunction(lambda crops: [crop.mean((0, 1)) for crop in crops], "mean color")
    >>> mean.dimension, mean([np.full((2, 1, 3), 7, np.uint8)])
    (3, array([[7., 7., 7.]], dtype=float32))
    """

    function: Callable[[Crops], ArrayLike]
    name: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("the network function has an empty name: name its weights")

    @cached_property
    def dimension(self) -> int:
        """D, from a run on two test crops; raise InputError if these influence each other."""
        together = self(_PROBES)
        alone = np.concatenate([self([probe]) for probe in _PROBES])
        if together.shape != alone.shape:
            raise InputError(
                f"{self.name}: gives {alone.shape[1]} numbers for one crop and {together.shape[1]}"
                " for each of two"
            )
        lengths = np.maximum(np.linalg.norm(together, axis=1), np.linalg.norm(alone, axis=1))
        if (np.linalg.norm(together - alone, axis=1) > _APART * lengths).any():
            raise InputError(
                f"{self.name}: the feature of a crop depends on the other crops of its batch; set"
                " the network to evaluation mode"
            )
        return together.shape[1]

    @property
    def recipe(self) -> ImportedRecipe:
        """What a gallery stores about its features: the name and the dimension."""
        return ImportedRecipe(self.name, self.dimension)

    @property
    def stretch(self) -> None:
        """None: pictures with more than 8 bits get the default scaling."""
        return None

    def load(self, *, batch_size: int = BATCH_SIZE, **_run: object) -> "LoadedFunction":
        """Prepare the function to run in batches; it decides about device, threads and precision
        itself.
        """
        return LoadedFunction(self, batch_size)

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        """Compute the features float32 `[N, D]` of crops; raise InputError for any other shape."""
        features = np.asarray(self.function(crops), np.float32)
        if features.ndim != 2 or len(features) != len(crops) or features.shape[1] == 0:
            raise InputError(
                f"{self.name}: {len(crops)} crops must give features [{len(crops)}, D], not"
                f" {list(features.shape)}"
            )
        return features


@dataclass(frozen=True)
class LoadedFunction:
    """A network function as workers run it, on batches of at most `batch_size` crops."""

    network: NetworkFunction
    batch_size: int

    @property
    def dimension(self) -> int:
        """D."""
        return self.network.dimension

    def over(self, batches: Iterable[Crops]) -> Iterator[NDArray[np.float32]]:
        """Yield the features float32 `[N, D]` of each batch."""
        return map(self.network, batches)
