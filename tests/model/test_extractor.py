"""The extractor: features that depend on the crop and the recipe, and on nothing else."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.core.vectors import faults, unit_vectors
from pipeline.errors import InputError
from pipeline.model.extractor import Extractor
from pipeline.model.input.gpu_batches import GpuBatches
from pipeline.model.input.preprocessing import standardize
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.model.recipe import Recipe
from tests.model.making import Pooled, crops, prepared, real_crops, save_ir, save_onnx, save_script

BGR = {"channels": "bgr", "pixel_range": 255, "mean": (0, 0, 0), "std": (1, 1, 1)}


def extractor(path: Path, fields: dict[str, Any] | None = None, **run: Any) -> Extractor:
    file = NetworkFile(str(path))
    return Extractor(file, default_recipe(file, fields), **run)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_script(tmp_path_factory.mktemp("script") / "n.pt", Pooled())


@pytest.fixture(scope="module")
def pooled() -> Callable[[Sequence[NDArray[np.uint8]], Recipe, tuple[int, int]], NDArray]:
    """The naive way: one crop at a time through the module itself."""
    module = Pooled().eval()

    def features(
        images: Sequence[NDArray[np.uint8]], recipe: Recipe, size: tuple[int, int]
    ) -> NDArray:
        with torch.inference_mode():
            batches = (standardize(prepared([i], recipe, size, 1), recipe) for i in images)
            return np.concatenate([module(torch.from_numpy(each)).numpy() for each in batches])

    return features


SMALL: dict[str, Any] = {"height": 32, "width": 16}


def test_one_view_is_the_network_on_the_prepared_crop(script: Path, pooled: Callable) -> None:
    images = crops(11)
    raw = extractor(script, {**SMALL, "fusion": "raw"}, batch_size=4)
    assert raw.dimension == 8
    features = raw(images)
    assert features.shape == (11, 8)
    assert features.dtype == np.float32
    expected = pooled(images, raw.recipe, (32, 16))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    unit = extractor(script, SMALL, batch_size=4)
    np.testing.assert_allclose(unit(images), unit_vectors(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", ["unit", "raw"])
def test_views_are_each_made_from_the_original(script: Path, pooled: Callable, fusion: str) -> None:
    images = crops(5)
    fields = {**SMALL, "flip": True, "scales": (1.0, 1.5, 0.5), "fusion": fusion}
    made = extractor(script, fields, batch_size=4)
    views = []
    for size in ((32, 16), (48, 24), (16, 8)):
        for side in (1, -1):
            # Mirroring the crop before a symmetric resize may move a rounded level by one.
            turned = [np.ascontiguousarray(image[:, ::side]) for image in images]
            raw = pooled(turned, made.recipe, size)
            views.append(unit_vectors(raw) if fusion == "unit" else raw)
    np.testing.assert_allclose(made(images), np.mean(views, axis=0), rtol=2e-3, atol=2e-3)


def test_order_of_scales_changes_no_bit(script: Path) -> None:
    images = crops(5)
    one = extractor(script, {**SMALL, "scales": (1.0, 1.5, 0.5)}, batch_size=4)
    two = extractor(script, {**SMALL, "scales": (0.5, 1.0, 1.5)}, batch_size=4)
    assert np.array_equal(one(images), two(images))
    assert one.recipe.fingerprint == two.recipe.fingerprint


@pytest.mark.parametrize("batch_size", [1, 3, 4, 32])
def test_five_crops_are_windows_of_a_larger_picture(
    script: Path, pooled: Callable, batch_size: int
) -> None:
    images = crops(5)
    fields = {**SMALL, "five_crops": True, "flip": True, "fusion": "raw"}
    made = extractor(script, fields, batch_size=batch_size)
    large = prepared(images, made.recipe, (36, 18), 5)
    views = []
    for top, left in ((0, 0), (0, 2), (4, 0), (4, 2), (2, 1)):
        window = large[:, :, top : top + 32, left : left + 16].transpose(0, 2, 3, 1)
        sides = (pooled([*window[:, :, ::side]], made.recipe, (32, 16)) for side in (1, -1))
        views.extend(sides)
    np.testing.assert_allclose(made(images), np.mean(views, axis=0), rtol=1e-4, atol=1e-5)


def test_flip_of_a_symmetric_crop_changes_nothing(tmp_path: Path) -> None:
    # fast-reid's flipped view is normalized twice; then it differs even where the crop does not.
    path = save_onnx(tmp_path / "n.onnx")
    half = np.random.default_rng(0).integers(0, 256, (32, 8, 3), dtype=np.uint8)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    plain = extractor(path, {**SMALL, "fusion": "raw"})([image])
    both = extractor(path, {**SMALL, "fusion": "raw", "flip": True})([image])
    np.testing.assert_allclose(both, plain, rtol=1e-5)


def test_crops_are_left_as_they_are(script: Path) -> None:
    images = crops(3)
    images.append(np.random.default_rng(1).integers(0, 256, (32, 16, 3), dtype=np.uint8))
    before = [image.copy() for image in images]
    extractor(script, {**SMALL, "flip": True, "channels": "bgr"}, batch_size=2)(images)
    assert all(np.array_equal(image, old) for image, old in zip(images, before, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 11), max_size=20))
def test_bits_depend_on_the_crop_alone(script: Path, chosen: list[int]) -> None:
    images = crops(12)
    for views in ({"flip": True}, {"flip": True, "five_crops": True, "scales": (1.0, 1.5)}):
        made = extractor(script, {**SMALL, **views}, batch_size=4)
        every = made(images)
        assert np.array_equal(made([images[i] for i in chosen]), every[chosen])


REAL: dict[str, tuple[Extractor, list[NDArray[np.uint8]], NDArray[np.float32]]] = {}


def real_case(
    name: str, osnet: Path, retail: Path, pedestrians: Path
) -> tuple[Extractor, list[NDArray[np.uint8]], NDArray[np.float32]]:
    if name not in REAL:
        images = real_crops(pedestrians, 14)
        made = (
            extractor(osnet, batch_size=6, threads=2)
            if name == "osnet"
            else extractor(retail, BGR, batch_size=6, threads=2)
        )
        REAL[name] = made, images, made(images)
    return REAL[name]


@pytest.mark.parametrize("name", ["osnet", "retail"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chosen=st.lists(st.integers(0, 13), min_size=1, max_size=9))
def test_bits_depend_on_the_crop_alone_in_real_networks(
    name: str, osnet: Path, retail: Path, pedestrians: Path, chosen: list[int]
) -> None:
    made, images, every = real_case(name, osnet, retail, pedestrians)
    assert np.array_equal(made([images[i] for i in chosen]), every[chosen])


@pytest.mark.parametrize("name", ["osnet", "retail"])
def test_a_second_extractor_gives_the_same_bits(
    name: str, osnet: Path, retail: Path, pedestrians: Path
) -> None:
    _, images, every = real_case(name, osnet, retail, pedestrians)
    again = (
        extractor(osnet, batch_size=6, threads=2)
        if name == "osnet"
        else extractor(retail, BGR, batch_size=6, threads=2)
    )
    assert np.array_equal(again(images), every)
    assert again.dimension == {"osnet": 512, "retail": 256}[name]
    assert faults(every) == {}


def test_fixed_batch_of_the_file_wins(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "n.onnx", shape=(2, 3, 32, 16))
    made = extractor(path, {"fusion": "raw"}, batch_size=8)
    assert made.batch_size == 2
    free = extractor(save_onnx(tmp_path / "free.onnx"), {**SMALL, "fusion": "raw"}, batch_size=8)
    images = crops(5)
    np.testing.assert_allclose(made(images), free(images), rtol=1e-6)
    ir = extractor(save_ir(tmp_path / "n.xml"), batch_size=8)
    assert ir.batch_size == 8


def test_network_sees_batches_of_one_shape_only(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = extractor(script, {**SMALL, "flip": True, "scales": (1.0, 2.0)}, batch_size=4)
    inner, shapes = made._network, []

    def spied(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        shapes.append(tuple(batch.shape))
        return inner(batch)

    monkeypatch.setattr(spied, "device", inner.device, raising=False)
    monkeypatch.setattr(spied, "dimension", inner.dimension, raising=False)
    monkeypatch.setattr(made, "_network", spied)
    made(crops(5))
    assert set(shapes) == {(4, 3, 32, 16), (4, 3, 64, 32)}
    # Of each size: two batches of four crops' views, then one crop's two views in one.
    assert len(shapes) == 2 * 3


def test_nan_rows_are_passed_on(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "n.onnx", weights=(1.0, np.nan, 1.0))
    for fields in ({}, {"flip": True}, {"flip": True, "fusion": "raw"}):
        features = extractor(path, {**SMALL, **fields})(crops(3))
        assert [*faults(features).values()] == ["the network gave NaN"] * 3


def test_no_crops_give_no_rows(script: Path) -> None:
    assert extractor(script, SMALL)([]).shape == (0, 8)


def test_what_is_no_crop_is_refused(script: Path) -> None:
    with pytest.raises(InputError, match="a crop must be uint8 of shape"):
        extractor(script, SMALL)([np.zeros((4, 4), np.uint8)])


def test_recipe_of_other_weights_is_refused(tmp_path: Path) -> None:
    one = NetworkFile(str(save_onnx(tmp_path / "a.onnx")))
    other = NetworkFile(str(save_onnx(tmp_path / "b.onnx", weights=(3.0, 2.0, 1.0))))
    with pytest.raises(InputError, match=r"b\.onnx: the recipe was made for other weights"):
        Extractor(other, default_recipe(one))


def test_scales_of_a_fixed_network_are_refused(tmp_path: Path) -> None:
    file = NetworkFile(str(save_ir(tmp_path / "n.xml")))
    recipe = Recipe(weights=file.weights_hash(), height=16, width=8, scales=(1.0, 2.0))
    with pytest.raises(InputError, match="cannot have scales"):
        Extractor(file, recipe)


def test_settings_are_checked(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "n.onnx")
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        extractor(path, batch_size=0)
    with pytest.raises(InputError, match="threads must be at least 1, not -1"):
        extractor(path, threads=-1)


def test_thread_count_of_the_process_is_given_back(script: Path) -> None:
    before = torch.get_num_threads()
    extractor(script, SMALL, threads=before + 1)(crops(2))
    assert torch.get_num_threads() == before


def test_batches_of_a_gpu_give_the_same_bits(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, a network of PyTorch gets tensors and begins its batches; but on the CPU."""
    fields = {**SMALL, "flip": True, "scales": (1.0, 1.5), "five_crops": True, "channels": "bgr"}
    images = crops(11)
    expected = extractor(script, fields, batch_size=4)(images)
    made = extractor(script, fields, batch_size=4)
    monkeypatch.setattr(made, "_batches", GpuBatches("cpu"))
    monkeypatch.setattr(made._network, "device", "cuda:0")
    seen: list[type] = []
    start = made._network.start

    def spied(batch: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        seen.append(type(batch))
        return start(batch)

    monkeypatch.setattr(made._network, "start", spied)
    made._ahead = 1
    assert made(images).tobytes() == expected.tobytes()
    assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize("turns", [0, 1])
def test_batches_go_one_after_the_other(script: Path, turns: int) -> None:
    """Of the way of a GPU, all but its own work: two buffers by turns, and threads that resize."""
    images = crops(23)
    one = extractor(script, {**SMALL, "flip": True, "scales": (1.0, 0.5)}, batch_size=5)
    expected = one(images)
    one._ahead = turns
    taken: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        one._resizers, one._threads = pool, 2

        def batches() -> Iterator[list[NDArray[np.uint8]]]:
            for start in range(0, len(images), 5):
                taken.append(start)
                yield images[start : start + 5]

        found = one.over(batches())
        first = next(found)
        assert len(taken) == 1 + turns
        assert np.concatenate([first, *found]).tobytes() == expected.tobytes()
