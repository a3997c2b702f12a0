"""The models that convert crops to features, with the recipe that a gallery stores for them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.core.vectors import faults, unit_vectors
from pipeline.model.imported import ImportedRecipe
from pipeline.model.recipe import Recipe

if TYPE_CHECKING:  # a worker with a function need not wait for what runs network files
    from pipeline.model.extractor import Extractor
    from pipeline.model.networks import NetworkFile

Key = TypeVar("Key")


class FeatureFunction(Protocol):
    """Convert crops uint8 `[H, W, 3]` (RGB, any sizes) to raw features float32 `[N, D]`."""

    @property
    def dimension(self) -> int:
        """D."""
        ...

    @property
    def batch_size(self) -> int:
        """The most crops in a batch."""
        ...

    def over(
        self, batches: Iterable[Sequence[NDArray[np.uint8]]], /
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch, in order."""
        ...


def unit_features(
    crops: Iterable[tuple[Key, NDArray[np.uint8]]], model: FeatureFunction
) -> Iterator[tuple[list[Key], NDArray[np.float32], dict[int, str]]]:
    """Yield unit features of crops uint8 `[H, W, 3]`, each with a key, one batch in memory at a
    time.

    Each item has the keys of a batch, the features float32 `[N, D]`, and the reason for each row
    without a feature (which is 0). `crops` are read one by one, so they may be decoded on the way.
    """
    keys: deque[list[Key]] = deque()

    def batches() -> Iterator[list[NDArray[np.uint8]]]:
        waiting = iter(crops)
        while batch := list(islice(waiting, model.batch_size)):
            keys.append([key for key, _ in batch])
            yield [pixels for _, pixels in batch]

    for raw in model.over(batches()):
        wrong = faults(raw)
        good = [row for row in range(len(raw)) if row not in wrong]
        rows = np.zeros(raw.shape, np.float32)
        rows[good] = unit_vectors(raw[good])
        yield keys.popleft(), rows, wrong


class FeatureModel(Protocol):
    """A network file with its recipe, or a user's function; it can be sent to workers."""

    @property
    def recipe(self) -> Recipe | ImportedRecipe:
        """What a gallery stores about the features."""
        ...

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The counts that become black and white in pictures with more than 8 bits."""
        ...

    def load(self, **run: Any) -> FeatureFunction:
        """Load the model with `batch_size`, `device`, `threads` and `precision` as in `Extractor`.

        Raise InputError if the network cannot be loaded or run with them.
        """
        ...


@dataclass(frozen=True)
class FileModel:
    """A network file, run by its recipe."""

    network: "NetworkFile"
    recipe: Recipe

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The counts of the recipe."""
        return self.recipe.stretch

    def load(self, **run: Any) -> "Extractor":
        """Load the network; raise the errors of `Extractor` and `NetworkFile.here`."""
        from pipeline.model.extractor import Extractor

        return Extractor(self.network.here(), self.recipe, **run)
