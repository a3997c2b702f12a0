"""Batches for a network on a GPU: PyTorch's tensors. `cpu_batches` has the same for a CPU.

The extractor imports this module only if a network takes its images on a GPU, because torch takes
seconds to import.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.model.input.preprocessing import channel_scaling
from pipeline.model.recipe import Recipe


class GpuBatches:
    """The memory and the steps from resized crops to the input of a network on `device`.

    Crops are resized in memory that is pinned, so that the GPU copies it while the CPU goes on; all
    later steps run on the GPU.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def pixels(self, rows: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Pinned memory for resized crops, uint8 `[rows, 3, *size]`."""
        pinned = self._device.type == "cuda"
        return torch.zeros((rows, 3, *size), dtype=torch.uint8, pin_memory=pinned).numpy()

    def input(self, rows: int, size: tuple[int, int]) -> torch.Tensor:
        """Memory on the device for the network's input, float32 `[rows, 3, *size]`."""
        return torch.empty((rows, 3, *size), device=self._device)

    def canvas(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Begin to copy resized crops, which must stay as they are, to the device."""
        return torch.from_numpy(pixels).to(self._device, non_blocking=True)

    def mirror(self, window: torch.Tensor) -> torch.Tensor:
        """Mirror crops left to right, in new memory."""
        return torch.flip(window, dims=[3])

    def standardize(self, pixels: torch.Tensor, recipe: Recipe, out: torch.Tensor) -> None:
        """Write the input of crops to `out`, as `preprocessing.standardize` computes it."""
        # No need to wait: for so little data, the GPU has its copy when the call returns.
        factor, shift = (
            torch.from_numpy(each).to(self._device, non_blocking=True)
            for each in channel_scaling(recipe)
        )
        out.copy_(pixels if recipe.channels == "rgb" else pixels.flip(-3))
        out.mul_(factor).add_(shift)
