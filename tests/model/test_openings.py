"""What a network's first operations tell of its recipe, in every format."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from pipeline.model.extractor import Extractor
from pipeline.model.input.opening import Opening, Operation, normalization, reverses, step_of
from pipeline.model.networks import NetworkFile, default_recipe, opening, start_recipe
from pipeline.model.recipe import Recipe
from pipeline.runs.settings import RecipeSettings
from pipeline.runs.target import gallery_spec
from tests.model.making import Pooled, crops, inside, real_crops, save_export, save_traced

MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
BYTES: dict[str, Any] = {"pixel_range": 255.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
UNITS: dict[str, Any] = {**BYTES, "pixel_range": 1.0}
SIZE = {"height": 32, "width": 16}


class Prepared(Pooled):
    """A network with something before its first layer."""

    def __init__(self, prepare: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.prepare = prepare
        self.register_buffer("mean", MEAN.view(1, 3, 1, 1))
        self.register_buffer("std", STD.view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.prepare(self, images))


def input_normalization() -> torch.nn.Module:
    """A batch normalization that has seen levels from 0 to 255."""
    module = torch.nn.BatchNorm2d(3).eval().requires_grad_(False)
    module.running_mean = 255 * MEAN
    module.running_var = (255 * STD) ** 2
    module.weight.data = torch.tensor([1.0, 1.1, 0.9])
    return module


NORMALIZATION = input_normalization()

# What stands before the first layer, and the recipe fields that follow from it.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "nothing": (lambda s, x: x, {}),
    "levels": (
        lambda s, x: (x - 255 * s.mean) / (255 * s.std),
        {**BYTES, "channels": "rgb"},
    ),
    "in place": (
        lambda s, x: x.clone().sub_(255 * s.mean).div_(255 * s.std),
        {**BYTES, "channels": "rgb"},
    ),
    "units": (lambda s, x: (x - s.mean) / s.std, {**UNITS, "channels": "rgb"}),
    "product": (
        lambda s, x: (x - s.mean) * (1 / s.std),
        {**UNITS, "channels": "rgb"},
    ),
    "sum": (lambda s, x: x * (1 / s.std) + (-s.mean / s.std), {**UNITS, "channels": "rgb"}),
    "by 255": (lambda s, x: x / 255, BYTES),
    "times 1/255": (lambda s, x: x * (1 / 255), BYTES),
    "255, then units": (
        lambda s, x: (x / 255 - s.mean) / s.std,
        {**BYTES, "channels": "rgb"},
    ),
    "halves": (lambda s, x: (x - 0.5) / 0.5, UNITS),
    "halves of levels": (lambda s, x: x / 127.5 - 1, BYTES),
    "caffe": (
        lambda s, x: x - 255 * s.mean.flip(1),
        {**BYTES, "channels": "bgr"},
    ),
    "swap by index": (
        lambda s, x: (x[:, [2, 1, 0]] - 255 * s.mean) / (255 * s.std),
        {**BYTES, "channels": "bgr"},
    ),
    "swap by flip": (
        lambda s, x: (x.flip(1) - 255 * s.mean) / (255 * s.std),
        {**BYTES, "channels": "bgr"},
    ),
    "swap afterwards": (
        lambda s, x: ((x - 255 * s.mean) / (255 * s.std)).flip(1),
        {**BYTES, "channels": "rgb"},
    ),
    "swap alone": (lambda s, x: x.flip(1), {}),
    "normalization": (lambda s, x: NORMALIZATION(x), {**BYTES, "channels": "rgb"}),
    "one factor": (lambda s, x: 2 * x, {}),
    "three factors": (lambda s, x: x * s.std, {}),
    "centered already": (lambda s, x: (x - 0.01) / 1.1, {}),
    "used twice": (lambda s, x: (x - 255 * s.mean) / 255 + x, {}),
}


def written(folder: Path, kind: str, module: torch.nn.Module, *, half: bool = False) -> NetworkFile:
    path = folder / f"n.{kind}"
    images = torch.rand(4, 3, 32, 16)
    if kind == "xml":
        source = save_traced(folder / "n.onnx", module)
        # Converting would put a factor into the weights of the first layer, where none sees it.
        openvino.save_model(openvino.Core().read_model(source), path, compress_to_fp16=half)
    elif kind == "pt2":
        save_export(path, module, shape=(4, 3, 32, 16))
    else:
        save_traced(path, module, images=images)
    return NetworkFile(str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["onnx", "xml", "pt", "pt2"])
@pytest.mark.parametrize("case", CASES)
def test_first_operations_tell_the_recipe(tmp_path: Path, kind: str, case: str) -> None:
    prepare, fields = CASES[case]
    found = opening(written(tmp_path, kind, Prepared(prepare).eval()))
    assert found.why_unknown is None
    assert found.fields == fields
    assert found.swaps == (case.startswith("swap"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["onnx", "pt", "pt2", "xml"])
def test_a_network_that_prepares_its_input_gives_the_features_of_one_that_does_not(
    tmp_path: Path, kind: str
) -> None:
    plain = written(tmp_path, kind, Pooled().eval())
    images = crops(5)
    want = Extractor(plain, default_recipe(plain, SIZE), batch_size=4)(images)
    for case in ("levels", "units", "swap by index", "255, then units"):
        file = written(tmp_path, kind, Prepared(CASES[case][0]).eval())
        recipe = default_recipe(file, SIZE)
        got = Extractor(file, recipe, batch_size=4)(images)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_constants_of_an_ir_may_be_stored_as_halves(tmp_path: Path) -> None:
    prepare, fields = CASES["levels"]
    file = written(tmp_path, "xml", Prepared(prepare).eval(), half=True)
    assert opening(file).fields == fields


class Turned(Pooled):
    """Images `[B, H, W, 3]`, normalized there."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        turned = ((images - 255 * MEAN) / (255 * STD)).permute(0, 3, 1, 2)
        return super().forward(turned)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_operations_before_the_transposition_are_read_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"n.{kind}"
    if kind == "onnx":
        save_traced(path, Turned().eval(), images=torch.rand(4, 32, 16, 3))
    else:
        save_export(path, Turned().eval(), shape=(4, 32, 16, 3))
    found = opening(NetworkFile(str(path)))
    assert found.channels_last
    assert found.fields == {**BYTES, "channels": "rgb"}


def test_a_real_network_with_its_preprocessing_inside_is_not_normalized_twice(
    osnet: Path, pedestrians: Path, tmp_path: Path
) -> None:
    file = NetworkFile(str(inside(osnet, tmp_path / "pre_inside.onnx")))
    start = start_recipe(file)
    assert {name: start.sources[name] for name in BYTES} == dict.fromkeys(BYTES, "the file")
    assert start.remark == (
        "the network begins with (x - [123.7, 116.3, 103.5]) / [58.4, 57.12, 57.38]: it prepares "
        "its input by itself, so the recipe has `pixel_range` 255, `mean` 0 0 0, `std` 1 1 1, "
        "`channels` rgb"
    )
    images = real_crops(pedestrians, 4)
    plain = NetworkFile(str(osnet))
    want = Extractor(plain, default_recipe(plain), batch_size=4)(images)
    got = Extractor(file, start.recipe, batch_size=4)(images)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


def test_a_real_ir_tells_its_order_and_range(retail: Path) -> None:
    recipe = default_recipe(NetworkFile(str(retail)))
    assert (recipe.channels, recipe.pixel_range) == ("bgr", 255)
    assert (recipe.mean, recipe.std) == ((0, 0, 0), (1, 1, 1))


def test_what_is_given_goes_before_and_a_contradiction_is_told(tmp_path: Path) -> None:
    file = NetworkFile(str(save_traced(tmp_path / "n.pt", Prepared(CASES["levels"][0]).eval())))
    start = start_recipe(file, {"mean": (0.485, 0.456, 0.406), **SIZE})
    assert start.recipe.mean == (0.485, 0.456, 0.406)
    assert start.recipe.pixel_range == 255
    assert start.contradicted == ["mean"]
    assert start.remark is not None
    assert start.remark.endswith("has other `mean`: its input will be prepared twice")
    assert (start.sources["mean"], start.sources["std"]) == ("given", "the file")
    assert (start.sources["letterbox"], start.sources["flip"]) == ("assumed", "default")


@pytest.mark.parametrize(
    ("fields", "level"), [({}, logging.INFO), ({"mean": (0.5, 0.5, 0.5)}, logging.WARNING)]
)
def test_extraction_says_what_the_recipe_starts_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], level: int
) -> None:
    file = NetworkFile(str(save_traced(tmp_path / "n.pt", Prepared(CASES["levels"][0]).eval())))
    with caplog.at_level(logging.INFO):
        gallery_spec(str(tmp_path / "g"), file, RecipeSettings(**fields), "none", "float32", None)
    (record,) = [each for each in caplog.records if "the network begins with" in each.message]
    assert record.levelno == level


def test_a_graph_that_cannot_be_read_is_unknown_and_implies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NetworkFile(str(save_traced(tmp_path / "n.onnx", Prepared(CASES["levels"][0]).eval())))
    # An operator that ONNX Runtime has and OpenVINO lacks.
    model = onnx.load(file.path)
    model.graph.node[0].domain = "com.microsoft.other"
    model.opset_import.append(helper.make_opsetid("com.microsoft.other", 1))
    onnx.save(model, file.path)
    monkeypatch.setattr("pipeline.model.networks.onnx_image_input", lambda _: _image())
    found = opening(file)
    assert found.why_unknown is not None
    assert found.why_unknown.startswith("OpenVINO cannot read it: ")
    assert found.fields == {}


def _image() -> Any:
    from pipeline.model.backends.signature import ANY_IMAGES

    return ANY_IMAGES


numbers = st.floats(-300, 300).filter(lambda value: abs(value) > 1e-3)
threes = st.tuples(numbers, numbers, numbers)
steps = st.one_of(
    st.builds(
        Operation, st.sampled_from(["add", "subtract", "multiply", "divide", "reflect"]), threes
    ),
    st.builds(Operation, st.just("normalize"), threes, threes),
    st.just(Operation("swap")),
    st.just(Operation("pass")),
)


def applied(given: list[Operation], levels: np.ndarray) -> np.ndarray:
    for step in given:
        values = np.array(step.values)
        match step.kind:
            case "add":
                levels = levels + values
            case "subtract":
                levels = levels - values
            case "multiply":
                levels = levels * values
            case "divide":
                levels = levels / values
            case "reflect":
                levels = values - levels
            case "normalize":
                levels = levels * values + np.array(step.offsets)
            case "swap":
                levels = levels[::-1]
    return levels


@given(st.lists(steps, max_size=4), threes)
def test_steps_compose_to_one_product_and_one_sum(given: list[Operation], levels: tuple) -> None:
    factor, shift, swapped = Opening(tuple(given)).composed()
    mixed = np.array(levels)[::-1] if swapped else np.array(levels)
    want = applied(given, np.array(levels))
    scale = np.abs(factor * mixed) + np.abs(shift) + 1e-9
    np.testing.assert_allclose((factor * mixed + shift - want) / scale, 0, atol=1e-6)


def test_constants_must_be_one_or_one_a_channel() -> None:
    assert step_of("add", 2, channels_last=False) == Operation("add", (2.0,))
    assert step_of("add", np.ones((1, 3, 1, 1)), channels_last=False) == Operation(
        "add", (1.0,) * 3
    )
    assert step_of("add", np.ones(3), channels_last=True) == Operation("add", (1.0,) * 3)
    for wrong in (np.ones(3), np.ones((3, 1)), np.ones((1, 4, 1, 1)), np.array("x"), np.ones(2)):
        assert step_of("add", wrong, channels_last=False) is None
    assert step_of("add", np.ones((3, 1, 1)), channels_last=True) is None
    assert step_of("divide", 0, channels_last=False) is None
    assert normalization([None, None, np.ones(4), np.ones(4)], 1e-5) is None
    assert normalization([np.zeros(3), None, np.ones(3), np.ones(3)], 1e-5) is None
    assert reverses(np.array([2, 1, 0]))
    assert not reverses([0, 1, 2])


def test_a_named_network_has_nothing_before_it() -> None:
    assert opening(NetworkFile("osnet_x0_25", "w.pth")) == Opening()
    assert Opening().text == ""
    assert Recipe(weights="0" * 64).output is None
