"""Batches as tensors: the bits of NumPy's. Here they are on the CPU, by the same steps."""

import numpy as np
import pytest
import torch

from pipeline.model.input.cpu_batches import CpuBatches
from pipeline.model.input.gpu_batches import GpuBatches
from pipeline.model.input.preprocessing import fill_batch
from pipeline.model.recipe import Recipe
from tests.model.making import crops

SIZE = (18, 9)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_tensors_have_the_bits_of_arrays(channels: str) -> None:
    recipe = Recipe(weights="0" * 64, channels=channels)  # type: ignore[arg-type]
    found = []
    for batches in (CpuBatches(), GpuBatches("cpu")):
        filled = fill_batch(batches.pixels(5, SIZE), crops(4), recipe)
        canvas = batches.canvas(filled)
        window = canvas[:, :, 1:17, 1:9]
        rows = batches.input(10, (16, 8))
        batches.standardize(window, recipe, rows[:5])
        batches.standardize(batches.mirror(window), recipe, rows[5:])
        found.append(rows)
    assert isinstance(found[1], torch.Tensor)
    assert found[0].tobytes() == found[1].numpy().tobytes()
    assert np.array_equal(found[0][:5], found[0][5:, :, :, ::-1])
