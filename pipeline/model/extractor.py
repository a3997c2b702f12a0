"""The operator of extraction: decoded crops in, one raw feature a crop out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.networks import NetworkFile, check_views, open_network
from pipeline.model.preprocessing import empty_batch, fill, normalise
from pipeline.model.recipe import Recipe
from pipeline.model.torch_network import torch_threads
from pipeline.model.views import fuse, mirror, views_of


class Extractor:
    """A network with its recipe, loaded to turn crops into features.

    Every batch that the network sees has the same number of rows (`batch_size`, or the batch that
    the network fixes; the last is filled up with black), so that a feature's bits do not depend on
    how many crops came with it. `device` is `cpu` or `cuda:N`; `threads` is the number of CPU
    threads; `precision` is float32, bfloat16 or float16; `compiled` has `torch.compile` prepare a
    network that PyTorch runs.

    Raises InputError for a recipe that was made for other weights or that the network cannot run,
    and as `open_network` does.
    """

    def __init__(
        self,
        network_file: NetworkFile,
        recipe: Recipe,
        *,
        batch_size: int = BATCH_SIZE,
        device: str = "cpu",
        threads: int = 1,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("threads", threads)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if network_file.weights_hash() != recipe.weights:
            raise InputError(
                f"{network_file.path}: the recipe was made for other weights "
                f"({recipe.weights[:12]}..., these are {network_file.weights_hash()[:12]}...)"
            )
        with torch_threads(threads):
            self._network = open_network(
                network_file,
                size=(recipe.height, recipe.width),
                batch_size=batch_size,
                device=device,
                threads=threads,
                precision=precision,
                compiled=compiled,
            )
        check_views(network_file.path, self._network.input_size, recipe)
        self.recipe = recipe
        self.batch_size = self._network.batch or batch_size
        self._threads = threads
        self._kept: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def dimension(self) -> int:
        """The length D of a feature."""
        return self._network.dimension

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features float32 `[N, D]` of crops uint8 `[H, W, 3]` (RGB, any sizes), in their order.

        The views are fused as the recipe says; the result is neither checked nor normalised, and a
        row that the network could not compute is not finite (see `pipeline.core.features`). Raises
        InputError for a crop of another dtype or shape.
        """
        features = np.empty((len(images), self.dimension), np.float32)
        with torch_threads(self._threads):
            for start in range(0, len(images), self.batch_size):
                crops = images[start : start + self.batch_size]
                features[start : start + len(crops)] = self._batch(crops)
        return features

    def _batch(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        views = []
        sized: dict[tuple[int, int], torch.Tensor] = {}
        for view in views_of(self.recipe):
            pixels, normalised = self._memory(view.size)
            if view.size not in sized:
                filled = fill(pixels, crops, self.recipe)
                sized[view.size] = filled.to(self._network.device, non_blocking=True)
            batch = mirror(sized[view.size]) if view.mirrored else sized[view.size]
            raw = self._network(normalise(batch, self.recipe, out=normalised))
            views.append(raw[: len(crops)])
        return fuse(views, self.recipe.fusion)

    def _memory(self, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of one size as uint8 (where crops are resized) and as float32 (the input).

        Kept from batch to batch. That is safe on a GPU too, where copies are under way behind the
        program: a network's result has come back before the next crop is written.
        """
        if size not in self._kept:
            device = self._network.device
            pixels = empty_batch(self.batch_size, size, pinned=device.type == "cuda")
            normalised = torch.empty((self.batch_size, 3, *size), device=device)
            self._kept[size] = pixels, normalised
        return self._kept[size]
