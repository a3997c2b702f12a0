"""Small sources, networks and work for these tests."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ray import cloudpickle

from pipeline.archive.listing.source import list_source
from pipeline.archive.planning.units import plan_units, units
from pipeline.gallery.table import Gallery
from pipeline.model.feature_models import FileModel
from pipeline.model.functions import NetworkFunction
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.stages.execution import Execution
from pipeline.stages.extract import Work


class Elsewhere(Execution):
    """As on Ray, parts run from a pickled copy and end in another order; but in this process.

    Ray itself is the same for every stage: `test_execution` and the tests of commands have it.
    """

    def run_ready(
        self,
        fold: Callable[..., Any],
        shared: tuple[Any, ...],
        ready: Callable[[], tuple[Any, ...] | None],
        *,
        on_gpu: bool = False,
    ) -> Iterator[Any]:
        """Run the part first that was ready last, of as many as there are workers."""
        del on_gpu
        running: list[bytes] = []
        while True:
            while len(running) < self.workers and (part := ready()) is not None:
                running.append(cloudpickle.dumps((fold, shared, part)))
            if not running:
                return
            there, common, part = cloudpickle.loads(running.pop())
            yield cloudpickle.loads(cloudpickle.dumps(there(*common, *part)))


class Tiny(torch.nn.Module):
    """Images of any size to 8 numbers; NaN for a picture whose first pixel is all white."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.convolution = torch.nn.Conv2d(3, 8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        feature = self.convolution(images).mean((2, 3))
        white = (images[:, :, 0, 0] > 2.1).all(1)
        return torch.where(white[:, None], torch.full_like(feature, float("nan")), feature)


def save_network(folder: Path) -> NetworkFile:
    path = folder / "tiny.pt"
    torch.jit.script(Tiny().eval()).save(str(path))
    return NetworkFile(str(path))


def save_crop(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    height, width = rng.integers(16, 60, 2)
    Image.fromarray(rng.integers(0, 200, (height, width, 3), dtype=np.uint8)).save(path)


def save_source(folder: Path, count: int) -> Path:
    """`count` crops of 5 identities by 3 cameras, with Market-1501 names."""
    for i in range(count):
        save_crop(folder / f"{i % 5 + 1:04d}_c{i % 3 + 1}s1_{i:06d}_00.png", i)
    return folder


def prepared(tmp_path: Path, source: Path, unit_size: int = 16, **settings):
    """A new gallery for a source, its units, and the work to be done on them."""
    network = save_network(tmp_path)
    recipe = default_recipe(network, {"height": 32, "width": 16})
    listing = list_source(str(source), "market1501")
    gallery = Gallery.create(
        str(tmp_path / "gallery"),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=8,
        source=listing.root,
        layout="market1501",
    )
    planned = plan_units(listing.images, gallery.fingerprint, unit_size=unit_size)
    work = Work(listing.root, gallery.target, FileModel(network, recipe), batch_size=4, **settings)
    return gallery, units(planned), work


def by_function(work: Work) -> Work:
    """The same work by a function of 8 numbers: workers load torch, for seconds, for a file."""
    means = NetworkFunction(lambda crops: [[*crop.mean((0, 1)), *range(5)] for crop in crops], "m")
    return replace(work, model=means)
