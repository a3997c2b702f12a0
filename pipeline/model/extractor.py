"""The operator of extraction: decoded crops in, one raw feature per crop out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.independence import COMPANY, check_independent
from pipeline.model.input.cpu_batches import CpuBatches
from pipeline.model.input.preprocessing import fill_batch
from pipeline.model.input.views import View, fuse, views_of
from pipeline.model.kinds import network_kind
from pipeline.model.networks import NetworkFile, check_levels, check_views, open_network
from pipeline.model.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.model.backends.torch_network import TorchNetwork
    from pipeline.model.input.gpu_batches import GpuBatches

Rows = Any
"""Rows of pixels or of a network's input: a NumPy array, or a tensor if the network is on a GPU."""


class Extractor:
    """A network with its recipe, loaded to convert crops to features.

    Every batch of the network has the same number of rows: `batch_size`, or the batch that the
    network fixes; the last one is filled up with black. So a feature's bits do not depend on the
    number of crops that came with it. `device` is `cpu` or `cuda:N`; `threads` is the number of CPU
    threads; `precision` is float32, bfloat16 or float16. With `compiled`, `torch.compile` prepares
    a network that PyTorch runs.

    Raise InputError for a recipe that was made for other weights or that the network cannot run,
    for a network file whose feature of a crop depends on the rest of its batch, and as
    `open_network` does.
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
        self._network = open_network(
            network_file,
            size=(recipe.height, recipe.width),
            batch_size=batch_size,
            device=device,
            threads=threads,
            precision=precision,
            compiled=compiled,
            output=recipe.output,
        )
        if self._network.levels:
            check_levels(network_file.path, recipe)
        if not network_file.named:
            # A torch.export program may refuse fewer rows than it was exported with.
            free = network_kind(network_file.path) != "export"
            rows = min(batch_size, COMPANY) if free else batch_size
            check_independent(network_file.path, self._network, recipe, rows)
        check_views(network_file.path, self._network.input_size, recipe)
        self.recipe = recipe
        self.batch_size = self._network.batch or batch_size
        self._threads = threads
        self._batches = _batches_on(self._network.device)
        on_gpu = self._network.device != "cpu"
        self._ahead, self._turn = int(on_gpu), 0
        self._resizers = ThreadPoolExecutor(threads) if on_gpu and threads > 1 else None
        self._canvases: dict[tuple[int, int], Rows] = {}
        self._kept_pixels: dict[tuple[tuple[int, int], int], NDArray[np.uint8]] = {}
        self._kept_inputs: dict[tuple[int, int], Rows] = {}

    @property
    def dimension(self) -> int:
        """The length D of a feature."""
        return self._network.dimension

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Compute features float32 `[N, D]` of crops uint8 `[H, W, 3]` (RGB, any sizes), in order.

        The views are fused as the recipe says. The result is neither checked nor normalized, and a
        row that the network could not compute is not finite (see `pipeline.core.vectors`). Raise
        InputError for a crop of another dtype or shape.
        """
        features = np.empty((len(images), self.dimension), np.float32)
        starts = range(0, len(images), self.batch_size)
        batches = (images[start : start + self.batch_size] for start in starts)
        for start, rows in zip(starts, self.over(batches), strict=True):
            features[start : start + len(rows)] = rows
        return features

    def over(self, batches: Iterable[Sequence[NDArray[np.uint8]]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features float32 `[N, D]` of each of `batches`, none larger than the network's
        batch.

        While a GPU works on one batch, the next is read and prepared. Errors and values are those
        of a call.
        """
        begun: deque[Callable[[], NDArray[np.float32]]] = deque()
        for crops in batches:
            begun.append(self._begin(crops))
            if len(begun) > self._ahead:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()

    def _begin(self, crops: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float32]]:
        """Begin at most one batch of crops: views of one size share the network's batches.

        Return a function that waits for the features.
        """
        views = views_of(self.recipe)
        begun: list[tuple[list[View], list[Callable[[], NDArray[np.float32]]]]] = []
        for size in dict.fromkeys(view.size for view in views):
            alike = [view for view in views if view.size == size]
            pixels = (self._pixels(view, crops) for view in alike)
            begun.append((alike, list(self._packed(size, pixels))))
        self._canvases.clear()
        self._turn += 1

        def finish() -> NDArray[np.float32]:
            raw: dict[View, NDArray[np.float32]] = {}
            for alike, waits in begun:
                rows = np.concatenate([wait() for wait in waits])
                for place, view in enumerate(alike):
                    raw[view] = rows[place * len(crops) : (place + 1) * len(crops)]
            return fuse([raw[view] for view in views], self.recipe.fusion)

        return finish

    def _pixels(self, view: View, crops: Sequence[NDArray[np.uint8]]) -> Rows:
        """A view of the crops, uint8 `[N, 3, *view.size]`; crops are resized to each canvas
        once.
        """
        if view.canvas not in self._canvases:
            filled = self._filled(view.canvas, crops)
            self._canvases[view.canvas] = self._batches.canvas(filled)
        top, left = view.corner or (0, 0)
        height, width = view.size
        window = self._canvases[view.canvas][:, :, top : top + height, left : left + width]
        return self._batches.mirror(window) if view.mirrored else window

    def _filled(
        self, size: tuple[int, int], crops: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """The crops at one size, uint8 `[N, 3, *size]`.

        While the network is on a GPU, the CPU threads that it does not use resize the crops.
        """
        out = self._resized(size)[: len(crops)]
        if self._resizers is None:
            return fill_batch(out, crops, self.recipe)
        each = -(-len(crops) // self._threads)
        starts = range(0, len(crops), each)
        parts = [(out[start : start + each], crops[start : start + each]) for start in starts]
        list(self._resizers.map(lambda part: fill_batch(part[0], part[1], self.recipe), parts))
        return out

    def _packed(
        self, size: tuple[int, int], views: Iterable[Rows]
    ) -> Iterator[Callable[[], NDArray[np.float32]]]:
        """Begin views, one after the other, in full batches; the last batch is filled up.

        The functions return raw features, including those of the filling rows at the end.
        """
        batch, filled = self._normalized(size), 0
        for view in views:
            for part in _split(view, self.batch_size - filled, self.batch_size):
                into = batch[filled : filled + len(part)]
                self._batches.standardize(part, self.recipe, into)
                filled = (filled + len(part)) % self.batch_size
                if filled == 0:
                    yield self._run(batch)
        if filled:
            batch[filled:] = 0
            yield self._run(batch)

    def _run(self, batch: Rows) -> Callable[[], NDArray[np.float32]]:
        if self._network.device != "cpu":
            # Only networks that PyTorch runs take their images on a GPU.
            return cast("TorchNetwork", self._network).start(batch)
        rows = self._network(batch)
        return lambda: rows

    def _resized(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Memory for a batch of crops at one size, uint8.

        It is kept from batch to batch, like the network's input. A GPU copies asynchronously, so
        two buffers take turns: before a crop is written, the batch before the previous one has
        returned.
        """
        key = size, self._turn % (1 + self._ahead)
        if key not in self._kept_pixels:
            self._kept_pixels[key] = self._batches.pixels(self.batch_size, size)
        return self._kept_pixels[key]

    def _normalized(self, size: tuple[int, int]) -> Rows:
        """Memory for the network's input at one size, float32."""
        if size not in self._kept_inputs:
            self._kept_inputs[size] = self._batches.input(self.batch_size, size)
        return self._kept_inputs[size]


def _batches_on(device: str) -> "CpuBatches | GpuBatches":
    """The memory and the steps of batches on a network's device."""
    if device == "cpu":
        return CpuBatches()
    from pipeline.model.input.gpu_batches import GpuBatches  # imports torch

    return GpuBatches(device)


def _split(rows: Rows, first: int, others: int) -> Iterator[Rows]:
    """Divide rows into parts: at most `first`, then at most `others` each."""
    yield rows[:first]
    for start in range(first, len(rows), others):
        yield rows[start : start + others]
