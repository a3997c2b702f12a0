"""What turns crops into features, with the recipe under which a gallery keeps them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.model.extractor import Extractor
from pipeline.model.imported import ImportedRecipe
from pipeline.model.networks import NetworkFile
from pipeline.model.recipe import Recipe


class FeatureFunction(Protocol):
    """Crops uint8 `[H, W, 3]` (RGB, any sizes) to raw features float32 `[N, D]`."""

    @property
    def dimension(self) -> int:
        """D."""
        ...

    @property
    def batch_size(self) -> int:
        """The most crops of a batch."""
        ...

    def over(
        self, batches: Iterable[Sequence[NDArray[np.uint8]]], /
    ) -> Iterator[NDArray[np.float32]]:
        """The features of each batch, in its order."""
        ...


class FeatureModel(Protocol):
    """A network file with its recipe, or a function of the user's own; travels to workers."""

    @property
    def recipe(self) -> Recipe | ImportedRecipe:
        """What a gallery knows of the features."""
        ...

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The counts that become black and white in pictures of more than 8 bits."""
        ...

    def load(self, **run: Any) -> FeatureFunction:
        """Ready to run: `batch_size`, `device`, `threads` and `precision` as `Extractor` has them.

        InputError where the network cannot be loaded or run so.
        """
        ...


@dataclass(frozen=True)
class FileModel:
    """A network file, run by its recipe."""

    network: NetworkFile
    recipe: Recipe

    @property
    def stretch(self) -> tuple[float, float] | None:
        """As the recipe has it."""
        return self.recipe.stretch

    def load(self, **run: Any) -> Extractor:
        """The network, loaded; raises what `Extractor` raises."""
        return Extractor(self.network, self.recipe, **run)
