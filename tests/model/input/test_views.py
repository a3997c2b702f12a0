"""Views: each from the original, none sharing memory; fused by one of two means."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.core.vectors import faults
from pipeline.model.input.views import View, fuse, mirror, views_of
from pipeline.model.recipe import Recipe


def test_every_scale_starts_from_the_original_size() -> None:
    # layumi's scales compound: 1.1 after 1.1 gives 1.21, and a scale of 1 does not reset it.
    for scales in itertools.permutations((1.0, 1.1, 0.5)):
        recipe = Recipe(weights="0" * 64, height=100, width=50, scales=scales, flip=True)
        assert views_of(recipe) == [
            View((50, 25), False),
            View((50, 25), True),
            View((100, 50), False),
            View((100, 50), True),
            View((110, 55), False),
            View((110, 55), True),
        ]


def test_plain_recipe_has_one_view_and_tiny_scales_leave_a_pixel() -> None:
    assert views_of(Recipe(weights="0" * 64)) == [View((256, 128), False)]
    tiny = Recipe(weights="0" * 64, height=10, width=4, scales=(0.1,))
    assert views_of(tiny) == [View((1, 1), False)]


def test_five_crops_are_the_corners_and_the_center() -> None:
    recipe = Recipe(weights="0" * 64, height=64, width=32, five_crops=True, scales=(1.0, 0.5))
    views = views_of(recipe)
    assert [view.corner for view in views[5:]] == [(0, 0), (0, 4), (8, 0), (8, 4), (4, 2)]
    assert {(view.size, view.canvas) for view in views[5:]} == {((64, 32), (72, 36))}
    assert {(view.size, view.canvas) for view in views[:5]} == {((32, 16), (36, 18))}
    tiny = Recipe(weights="0" * 64, height=1, width=1, five_crops=True)
    assert {(view.canvas, view.corner) for view in views_of(tiny)} == {((1, 1), (0, 0))}


def test_mirror_exchanges_left_and_right_in_its_own_memory() -> None:
    batch = np.arange(2 * 3 * 2 * 4, dtype=np.uint8).reshape(2, 3, 2, 4)
    last = batch.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    for source in (batch, last):
        before = source.copy()
        mirrored = mirror(source)
        assert mirrored[1, 2, 0].tolist() == source[1, 2, 0].tolist()[::-1]
        assert np.array_equal(mirror(mirrored), source)
        mirrored[:] = 0
        assert np.array_equal(source, before)
    lone = np.ones((1, 3, 4, 1))
    mirror(lone)[:] = 0
    assert lone.all()


@given(st.integers(1, 40), st.integers(0, 9))
def test_mirrored_pixels_are_the_reversed_columns(width: int, left: int) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 50), dtype=np.uint8)
    window = batch[:, :, 1:, left : left + width]
    for source in (window, window.copy()):
        mirrored = mirror(source)
        assert mirrored.flags.c_contiguous
        assert mirrored.tolist() == [
            [[row[::-1] for row in plane] for plane in image] for image in source.tolist()
        ]


views = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.integers(-9, 9).map(float),
)


@given(views)
def test_fusion_is_the_naive_mean(stack: np.ndarray) -> None:
    for row in range(stack.shape[1]):
        mean = sum(view[row].astype(float) for view in stack) / len(stack)
        np.testing.assert_allclose(fuse([*stack], "raw")[row], mean, rtol=1e-6)
        if all(view[row].any() for view in stack):
            units = [view[row] / np.linalg.norm(view[row].astype(float)) for view in stack]
            np.testing.assert_allclose(
                fuse([*stack], "unit")[row], sum(units) / len(units), rtol=1e-5, atol=1e-7
            )


def test_a_long_view_outweighs_the_others_only_in_the_raw_mean() -> None:
    stack = [np.array([[100.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)]
    assert fuse(stack, "raw").tolist() == [[50.0, 0.5]]
    assert fuse(stack, "unit").tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("fusion", ["unit", "raw"])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [(np.nan, "the network gave NaN"), (np.inf, "the network gave an infinite value")],
)
def test_a_fault_of_one_view_reaches_the_caller(fusion: str, bad: float, reason: str) -> None:
    for faulty in (0, 1):
        stack = [np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)]
        stack[faulty][1, 0] = bad
        fused = fuse(stack, fusion)
        assert faults(fused) == {1: reason}
        assert np.array_equal(fused[0], fused[2])
        assert np.isfinite(fused[[0, 2]]).all()


def test_a_view_without_direction_is_a_fault_of_the_unit_mean_only() -> None:
    stack = [np.array([[0.0, 0.0]], np.float32), np.array([[2.0, 0.0]], np.float32)]
    assert faults(fuse(stack, "unit")) == {0: "the network gave a vector of length 0"}
    assert fuse(stack, "raw").tolist() == [[1.0, 0.0]]


def test_sources_are_left_as_they_are() -> None:
    stack = [np.full((2, 2), 3, np.float32), np.full((2, 2), 4, np.float32)]
    for fusion in ("unit", "raw"):
        fused = fuse(stack, fusion)
        fused[:] = 0
        single = fuse(stack[:1], fusion)
        single[:] = 0
    assert (stack[0] == 3).all()
    assert (stack[1] == 4).all()
