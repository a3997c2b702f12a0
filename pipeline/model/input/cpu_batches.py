"""Batches for a network on the CPU: NumPy arrays. `gpu_batches` has the same for a GPU."""

import numpy as np
from numpy.typing import NDArray

from pipeline.model.input.preprocessing import empty_batch, empty_input, standardize
from pipeline.model.input.views import mirror
from pipeline.model.recipe import Recipe


class CpuBatches:
    """The memory and the steps from resized crops to the input of a network on the CPU."""

    def pixels(self, rows: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Memory for resized crops, uint8 `[rows, 3, *size]`."""
        return empty_batch(rows, size)

    def input(self, rows: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """Memory for the network's input, float32 `[rows, 3, *size]`."""
        return empty_input((rows, 3, *size))

    def canvas(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resized crops where the network takes its images: here, the same memory."""
        return pixels

    def mirror(self, window: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mirror crops left to right, in new memory."""
        return mirror(window)

    def standardize(
        self, pixels: NDArray[np.uint8], recipe: Recipe, out: NDArray[np.float32]
    ) -> None:
        """Write the input of crops to `out`, as `preprocessing.standardize` computes it."""
        standardize(pixels, recipe, out)
