"""Resizing against an oracle and Pillow; normalizing against the formula."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError
from pipeline.model.input.preprocessing import (
    empty_batch,
    fill_batch,
    letterbox,
    padding_color,
    resize,
    standardize,
)
from pipeline.model.recipe import Recipe
from tests.model.making import crops, prepared, real_crops

PLAIN = Recipe(weights="0" * 64)


def cubic(x: float) -> float:
    """Keys's cubic with a = -0.5."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def oracle_pass(image: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The first axis resized to `length`: weights in 22 bits, sums in whole numbers, rounded."""
    before = len(image)
    stretch = max(before / length, 1.0)
    result = np.empty((length, *image.shape[1:]), np.uint8)
    for place in range(length):
        center = (place + 0.5) * (before / length)
        first = max(int(center - 2 * stretch + 0.5), 0)
        last = min(int(center + 2 * stretch + 0.5), before)
        weights = [cubic((i - center + 0.5) / stretch) for i in range(first, last)]
        total = np.full(image.shape[1:], 1 << 21)
        for i, weight in enumerate(weights):
            whole = math.floor(abs(weight) / sum(weights) * 2**22 + 0.5) * (-1 if weight < 0 else 1)
            total += image[first + i].astype(int) * whole
        result[place] = np.clip(total >> 22, 0, 255)
    return result


def oracle(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    wide = oracle_pass(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return oracle_pass(wide, height)


def pillow(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # In two steps: Pillow 13 and later take columns first where a picture loses much height.
    wide = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize((width, height), Image.Resampling.BICUBIC))


def shown(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.moveaxis(picture, 0, 2)


sides = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_resize_is_the_oracle_to_the_bit(
    height: int, width: int, to_height: int, to_width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = oracle(image, to_height, to_width)
    assert np.array_equal(shown(resize(image, to_height, to_width)), expected)


@settings(max_examples=200, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
@example(64, 64, 128, 64, 0)
@example(65, 15, 127, 129, 0)
@example(1, 1, 300, 17, 0)
@example(300, 600, 256, 128, 0)
def test_resize_is_pillows_to_the_bit(
    height: int, width: int, to_height: int, to_width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(
        shown(resize(image, to_height, to_width)), pillow(image, to_height, to_width)
    )


def test_real_crops_are_pillows_to_the_bit(pedestrians: Path) -> None:
    for image in real_crops(pedestrians, 63):
        ours = shown(resize(image, 256, 128))
        assert np.array_equal(ours, pillow(image, 256, 128))
        if len(image) <= 256:
            once = Image.fromarray(image).resize((128, 256), Image.Resampling.BICUBIC)
            assert np.array_equal(ours, once)


def test_threads_resize_beside_each_other() -> None:
    images = crops(40)
    alone = [resize(image, 70, 33) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: resize(image, 70, 33), images))
    assert all(map(np.array_equal, together, alone))


def test_shrinking_is_antialiased() -> None:
    # A checkerboard of single pixels has no detail left at a quarter of its size.
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    small = shown(resize(np.repeat(board[..., None], 3, 2).astype(np.uint8), 16, 16))
    assert small[2:-2, 2:-2].min() > 100
    assert small[2:-2, 2:-2].max() < 155


def test_any_memory_layout_is_read_alike() -> None:
    (image,) = crops(1)
    expected = resize(image, 32, 16)
    frozen = image.copy()
    frozen.flags.writeable = False
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    for other in (frozen, mirrored, np.asfortranarray(image)):
        assert np.array_equal(resize(other, 32, 16), expected)


def test_result_never_shares_memory_with_the_crop() -> None:
    image = np.full((32, 16, 3), 5, np.uint8)
    same_size = resize(image, 32, 16)
    same_size += 1
    assert (image == 5).all()
    batch = prepared([image], PLAIN, (32, 16), 1)
    batch += 1
    assert (image == 5).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_crop_is_refused(image: NDArray) -> None:
    with pytest.raises(InputError, match="a crop must be uint8 of shape"):
        resize(image, 8, 8)
    with pytest.raises(InputError, match="a crop must be uint8 of shape"):
        letterbox(image, 8, 8, (0, 0, 0))


@given(sides, sides, sides, sides)
def test_letterbox_keeps_the_aspect_ratio(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    # A white crop on black: what is white is where the crop went.
    framed = shown(
        letterbox(np.full((height, width, 3), 255, np.uint8), to_height, to_width, (0,) * 3)
    )
    assert framed.shape == (to_height, to_width, 3)
    rows, columns = np.nonzero(framed[..., 0])
    inner = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    assert (framed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 255).all()
    assert inner[0] == to_height or inner[1] == to_width
    ratio = min(to_height / height, to_width / width)
    assert abs(inner[0] - ratio * height) <= 0.5 or inner[0] == 1
    assert abs(inner[1] - ratio * width) <= 0.5 or inner[1] == 1
    margins = (rows.min(), to_height - 1 - rows.max(), columns.min(), to_width - 1 - columns.max())
    assert 0 <= margins[1] - margins[0] <= 1
    assert 0 <= margins[3] - margins[2] <= 1


def test_letterbox_of_the_same_shape_is_the_resize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    assert np.array_equal(letterbox(image, 64, 32, (1, 2, 3)), resize(image, 64, 32))


def test_letterbox_pads_with_the_recipes_mean() -> None:
    assert padding_color(Recipe(weights="0" * 64, mean=(0.0, 0.5, 1.0))) == (0, 128, 255)
    bgr = Recipe(weights="0" * 64, channels="bgr", pixel_range=255, mean=(10, 20, 300))
    assert padding_color(bgr) == (255, 20, 10)
    recipe = Recipe(weights="0" * 64, height=8, width=8, letterbox=True)
    batch = prepared([np.full((8, 2, 3), 255, np.uint8)], recipe, (8, 8), 1)
    assert batch[0, :, 0, 0].tolist() == list(padding_color(recipe))
    assert np.abs(standardize(batch, recipe)[0, :, 0, 0]).max() < 0.02


def test_letterboxed_recipe_differs_from_a_stretched_one() -> None:
    image = crops(1)[0][:, :6]
    boxed = Recipe(weights="0" * 64, letterbox=True)
    assert not np.array_equal(
        prepared([image], boxed, (32, 32), 1), prepared([image], PLAIN, (32, 32), 1)
    )


def test_batch_is_filled_with_black() -> None:
    images = crops(2)
    batch = prepared(images, PLAIN, (16, 8), 5)
    assert batch.shape == (5, 3, 16, 8)
    assert batch.flags.c_contiguous
    for row, image in enumerate(images):
        assert np.array_equal(batch[row], resize(image, 16, 8))
    assert not batch[2:].any()


def test_normalized_is_what_the_field_computes() -> None:
    from torchvision.transforms.v2 import functional  # slow to load

    batch = prepared(crops(4), PLAIN, (16, 8), 4)
    scaled = functional.to_dtype(torch.from_numpy(batch), torch.float32, scale=True)
    expected = functional.normalize(scaled, [*PLAIN.mean], [*PLAIN.std]).numpy()
    np.testing.assert_allclose(standardize(batch, PLAIN), expected, rtol=1e-6, atol=1e-6)


@given(
    st.sampled_from(["rgb", "bgr"]),
    st.sampled_from([1.0, 255.0]),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 3), min_size=3, max_size=3),
)
def test_normalized_bits_are_those_of_torch(
    channels: str, white: float, mean: list[float], std: list[float]
) -> None:
    recipe = Recipe(
        weights="0" * 64, channels=channels, pixel_range=white, mean=tuple(mean), std=tuple(std)
    )
    levels = np.arange(256, dtype=np.uint8)
    batch = np.random.default_rng(0).permutation(np.tile(levels, 6)).reshape(2, 3, 16, 16)
    factor = torch.from_numpy(white / (255 * np.array(std))).float()
    shift = torch.from_numpy(-np.array(mean) / np.array(std)).float()
    pixels = torch.from_numpy(batch)
    expected = (pixels if channels == "rgb" else pixels.flip(1)).float()
    expected.mul_(factor.view(3, 1, 1)).add_(shift.view(3, 1, 1))
    assert standardize(batch, recipe).tobytes() == expected.numpy().tobytes()


def test_bgr_of_255_levels_is_the_pixels_exchanged() -> None:
    recipe = Recipe(weights="0" * 64, channels="bgr", pixel_range=255, mean=(0,) * 3, std=(1,) * 3)
    batch = prepared(crops(3), PLAIN, (16, 8), 3)
    result = standardize(batch, recipe)
    assert result.flags.c_contiguous
    assert np.array_equal(result, batch[:, ::-1].astype(np.float32))


def test_normalizing_twice_gives_the_same_and_leaves_the_batch() -> None:
    # fast-reid's preprocessing works in place: its second view is normalized twice.
    for recipe in (PLAIN, Recipe(weights="0" * 64, channels="bgr")):
        batch = prepared(crops(3), PLAIN, (16, 8), 3)
        before = batch.copy()
        first = standardize(batch, recipe)
        first_bits = first.copy()
        assert np.array_equal(standardize(batch, recipe), first)
        first[:] = 0
        assert np.array_equal(batch, before)
        assert np.array_equal(standardize(batch, recipe), first_bits)


def test_reused_memory_keeps_nothing_of_the_batch_before() -> None:
    kept, out = empty_batch(4, (16, 8)), np.full((4, 3, 16, 8), np.nan, np.float32)
    fill_batch(kept, crops(4, seed=1), PLAIN)
    images = crops(2)
    assert np.array_equal(fill_batch(kept, images, PLAIN), prepared(images, PLAIN, (16, 8), 4))
    assert standardize(kept, PLAIN, out=out) is out
    assert np.array_equal(out, standardize(kept, PLAIN))


@given(st.integers(0, 7), st.integers(1, 8))
def test_normalized_bits_do_not_depend_on_the_place(place: int, rows: int) -> None:
    image = crops(1, seed=4)
    alone = standardize(prepared(image, PLAIN, (15, 7), 1), PLAIN)[0]
    batch = prepared(
        [*crops(place), *image, *crops(rows, seed=9)], PLAIN, (15, 7), place + 1 + rows
    )
    assert np.array_equal(standardize(batch, PLAIN)[place], alone)
