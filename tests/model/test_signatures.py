"""Inputs and outputs as networks of the field have them: taken, or refused with the way round."""

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import InputError
from pipeline.model.backends.signature import ANY_IMAGES, feature_output, image_input
from pipeline.model.copies.export import COPY_SUFFIXES, Target, export_network
from pipeline.model.extractor import Extractor
from pipeline.model.networks import NetworkFile, default_recipe, opening
from tests.model.making import crops, save_export, save_traced

SIDES = (32, 16)
FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
WEIGHTS = np.random.default_rng(0).normal(0, 0.1, (16, 3, 16, 16)).astype(np.float32)
CLASSES = np.random.default_rng(1).normal(0, 1, (16, 40)).astype(np.float32)
LEVELS = {"pixel_range": 255.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}

Nodes = list[onnx.NodeProto]


def core(name: str = "x") -> Nodes:
    return [
        helper.make_node("Conv", [name, "W"], ["c"], strides=[16, 16]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
    ]


FLAT = helper.make_node("Flatten", ["p"], ["f"])
TURN = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
LOGITS = helper.make_node("MatMul", ["f", "C"], ["logits"])


def save(
    path: Path,
    nodes: Nodes,
    outputs: list[str],
    *,
    shape: tuple[Any, ...] = ("N", 3, *SIDES),
    kind: int = FLOAT,
    opset: int = 13,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    constants = {"W": WEIGHTS, "C": CLASSES, **(extra or {})}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(made, path)
    return path


def as_ir(path: Path) -> Path:
    out = path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(path), out, compress_to_fp16=False)
    return out


def features(path: Path, *, batch_size: int = 4, **fields: Any) -> np.ndarray:
    file = NetworkFile(str(path))
    recipe = default_recipe(file, {"height": SIDES[0], "width": SIDES[1], **fields})
    return Extractor(file, recipe, batch_size=batch_size)(crops(6))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`[N, 3, H, W]` float32 to one output `[N, 16]`: what the others must equal."""
    return save(tmp_path_factory.mktemp("plain") / "plain.onnx", [*core(), FLAT], ["f"])


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "ir"])
def test_sides_of_one_behind_the_feature_are_dropped(tmp_path: Path, plain: Path, ir: bool) -> None:
    path = save(tmp_path / "n.onnx", core(), ["p"])
    got = features(as_ir(path) if ir else path)
    np.testing.assert_allclose(got, features(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "ir"])
@pytest.mark.parametrize("outputs", [["f", "logits"], ["logits", "f"]])
def test_of_feature_and_logits_one_is_named(
    tmp_path: Path, plain: Path, outputs: list[str], ir: bool
) -> None:
    path = save(tmp_path / "n.onnx", [*core(), FLAT, LOGITS], outputs)
    path = as_ir(path) if ir else path
    told = ", ".join(f"{name} [4, {16 if name == 'f' else 40}]" for name in outputs)
    with pytest.raises(InputError) as caught:
        features(path)
    assert f"several outputs of shape [4, D], one row a crop: {told}; name" in str(caught.value)
    with pytest.raises(InputError, match=r"has no output g; it has (f|logits) \[4, "):
        features(path, output="g")
    np.testing.assert_allclose(features(path, output="f"), features(plain), rtol=1e-4, atol=1e-5)
    assert features(path, output="logits").shape == (6, 40)


def test_the_output_is_part_of_the_recipe(tmp_path: Path) -> None:
    file = NetworkFile(str(save(tmp_path / "n.onnx", [*core(), FLAT, LOGITS], ["f", "logits"])))
    by_name = {name: default_recipe(file, {"output": name}) for name in ("f", "logits")}
    assert by_name["f"].fingerprint != by_name["logits"].fingerprint
    assert by_name["f"].differences(by_name["logits"]) == ["output: f here, logits there"]


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "ir"])
def test_channels_last_is_taken_as_declared(tmp_path: Path, plain: Path, ir: bool) -> None:
    shape = ("N", *SIDES, 3)
    path = save(tmp_path / "n.onnx", [TURN, *core("t"), FLAT], ["f"], shape=shape)
    got = features(as_ir(path) if ir else path)
    np.testing.assert_allclose(got, features(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "ir"])
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
def test_bytes_are_taken_as_whole_levels(tmp_path: Path, plain: Path, last: bool, ir: bool) -> None:
    cast = helper.make_node("Cast", ["x"], ["u" if last else "t"], to=FLOAT)
    turn = helper.make_node("Transpose", ["u"], ["t"], perm=[0, 3, 1, 2])
    shape = ("N", *SIDES, 3) if last else ("N", 3, *SIDES)
    nodes = [cast, *([turn] if last else []), *core("t"), FLAT]
    path = save(tmp_path / "n.onnx", nodes, ["f"], shape=shape, kind=BYTE)
    path = as_ir(path) if ir else path
    recipe = default_recipe(NetworkFile(str(path)))
    assert {name: getattr(recipe, name) for name in LEVELS} == LEVELS
    np.testing.assert_allclose(features(path), features(plain, **LEVELS), rtol=1e-4, atol=1e-3)
    with pytest.raises(InputError, match=r"whole levels from 0 to 255 \(uint8\), so the recipe"):
        features(path, mean=(0.5, 0.5, 0.5))


class Levels(torch.nn.Module):
    """Images of bytes, to the mean of each channel, whole numbers divided as such."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.bitwise_and(255).float().mean((2, 3))


def test_programs_take_bytes_too(tmp_path: Path) -> None:
    images = torch.zeros(4, 3, *SIDES, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(Levels(), (images,), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "n.pt2")
    file = NetworkFile(str(tmp_path / "n.pt2"))
    recipe = default_recipe(file)
    assert {name: getattr(recipe, name) for name in LEVELS} == LEVELS
    even = np.full((40, 20, 3), (30, 60, 60), np.uint8)
    (feature,) = Extractor(file, recipe, batch_size=4)([even])
    np.testing.assert_allclose(feature, [1 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_other_types_of_input_are_refused_by_name(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["x"], ["t"], to=FLOAT)
    path = save(tmp_path / "n.onnx", [cast, *core("t"), FLAT], ["f"], kind=TensorProto.INT32)
    with pytest.raises(
        InputError, match=r"must be float32, float16 or uint8, but is tensor\(int32"
    ):
        features(path)
    with pytest.raises(InputError, match=r"must be float32, float16 or uint8, but is i32"):
        features(as_ir(path))


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "ir"])
@pytest.mark.parametrize("batch_size", [4, 1])
def test_a_batch_of_one_that_was_traced_in_is_run_one_by_one(
    tmp_path: Path, plain: Path, batch_size: int, ir: bool
) -> None:
    reshape = helper.make_node("Reshape", ["p", "s"], ["f"])
    shape = {"s": np.array([1, -1], np.int64)}
    path = save(tmp_path / "n.onnx", [*core(), reshape], ["f"], extra=shape)
    got = features(as_ir(path) if ir else path, batch_size=batch_size)
    np.testing.assert_allclose(got, features(plain), rtol=1e-4, atol=1e-5)


def test_a_batch_that_was_traced_in_is_the_one_it_runs_in(tmp_path: Path, plain: Path) -> None:
    reshape = helper.make_node("Reshape", ["p", "s"], ["f"])
    shape = {"s": np.array([2, -1], np.int64)}
    path = save(tmp_path / "n.onnx", [*core(), reshape], ["f"], extra=shape)
    file = NetworkFile(str(path))
    extractor = Extractor(file, default_recipe(file), batch_size=4)
    assert extractor.batch_size == 2
    np.testing.assert_allclose(extractor(crops(6)), features(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [27, 99])
def test_an_opset_of_the_future_is_told_in_one_line(tmp_path: Path, opset: int) -> None:
    path = save(tmp_path / "n.onnx", [*core(), FLAT], ["f"], opset=opset)
    with pytest.raises(InputError) as caught:
        features(path)
    message = str(caught.value)
    assert f"it is of opset {opset}, and this ONNX Runtime reads up to " in message
    assert len(message) < 250 + len(str(path))
    assert "onnxruntime::" not in message


class Net(torch.nn.Module):
    """A convolution, its mean, and what `mode` says of the outputs."""

    def __init__(self, mode: str = "plain") -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 16, 16, 16, bias=False)
        self.head = torch.nn.Linear(16, 40)
        self.mode = mode
        with torch.no_grad():
            self.convolution.weight.copy_(torch.from_numpy(WEIGHTS))
            self.head.weight.copy_(torch.from_numpy(CLASSES.T))

    def forward(self, images: torch.Tensor) -> Any:
        if self.mode == "turned":
            images = images.permute(0, 3, 1, 2)
        pooled = self.convolution(images).relu().mean((2, 3), keepdim=True)
        feature = pooled.view(1, -1) if self.mode == "baked" else pooled.flatten(1)
        if self.mode == "zeros":
            feature = feature + torch.zeros(1, 16, device=images.device)
        return {
            "map": pooled,
            "tuple": (self.head(feature), feature),
            "dict": {"features": feature, "logits": self.head(feature)},
        }.get(self.mode, feature)


def script(path: Path, mode: str, **settings: Any) -> Path:
    return save_traced(path, Net(mode).eval(), **settings)


@pytest.mark.parametrize(
    ("mode", "output", "told"),
    [
        ("tuple", "1", r"0 \[4, 40\], 1 \[4, 16\]; name the feature as `output`"),
        ("dict", "features", r"features \[4, 16\], logits \[4, 40\]; name the feature"),
    ],
)
def test_outputs_of_torchscript_are_named_by_key_or_place(
    tmp_path: Path, plain: Path, mode: str, output: str, told: str
) -> None:
    path = script(tmp_path / "n.pt", mode)
    with pytest.raises(InputError, match=told):
        features(path)
    np.testing.assert_allclose(features(path, output=output), features(plain), rtol=1e-4, atol=1e-5)


def test_a_map_of_torchscript_is_a_feature(tmp_path: Path, plain: Path) -> None:
    got = features(script(tmp_path / "n.pt", "map"))
    np.testing.assert_allclose(got, features(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_half_precision_torchscript_gets_halves(tmp_path: Path, plain: Path, frozen: bool) -> None:
    module, images = Net().eval().half(), torch.rand(1, 3, *SIDES).half()
    traced = torch.jit.trace(module, images, check_trace=False)
    (torch.jit.freeze(traced) if frozen else traced).save(str(tmp_path / "n.pt"))
    got = features(tmp_path / "n.pt")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, features(plain), rtol=0.02, atol=0.02)


def test_half_precision_programs_get_halves(tmp_path: Path, plain: Path) -> None:
    module = Net().eval().half()
    program = torch.export.export(
        module,
        (torch.zeros(4, 3, *SIDES).half(),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=2)},),
    )
    torch.export.save(program, tmp_path / "n.pt2")
    np.testing.assert_allclose(features(tmp_path / "n.pt2"), features(plain), rtol=0.02, atol=0.02)


def test_channels_last_torchscript_and_programs_are_told_by_their_graph(
    tmp_path: Path, plain: Path
) -> None:
    images = torch.rand(4, *SIDES, 3)
    path = script(tmp_path / "n.pt", "turned", images=images)
    np.testing.assert_allclose(features(path), features(plain), rtol=1e-4, atol=1e-5)
    program = save_export(tmp_path / "n.pt2", Net("turned").eval(), shape=(4, *SIDES, 3))
    np.testing.assert_allclose(features(program), features(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [4, 1])
def test_torchscript_traced_with_one_crop_is_run_one_by_one(
    tmp_path: Path, plain: Path, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = script(tmp_path / "n.pt", "baked", images=torch.rand(1, 3, *SIDES))
    with caplog.at_level(logging.INFO):
        got = features(path, batch_size=batch_size)
    assert "n.pt: runs in batches of 1, as it was traced" in caplog.text
    np.testing.assert_allclose(got, features(plain), rtol=1e-4, atol=1e-5)


def test_constants_that_were_traced_on_a_gpu_are_moved(
    tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, moved, named = script(tmp_path / "n.pt", "zeros"), io.BytesIO(), 0
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(moved, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            if entry.filename.endswith(".py"):
                named += content.count(b'torch.device("cpu")')
                content = content.replace(b'torch.device("cpu")', b'torch.device("cuda:0")')
            after.writestr(entry, content)
    assert named
    path.write_bytes(moved.getvalue())
    with caplog.at_level(logging.INFO):
        np.testing.assert_allclose(features(path), features(plain), rtol=1e-4, atol=1e-5)
    assert "was traced on another device; its constants are made on cpu" in caplog.text


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_a_copy_has_the_named_output_alone(tmp_path: Path, plain: Path, target: Target) -> None:
    traced = torch.jit.trace(Net("tuple").eval(), torch.rand(4, 3, *SIDES), check_trace=False)
    source = tmp_path / "n.pt"
    traced.save(str(source))
    out = tmp_path / f"copy{COPY_SUFFIXES[target]}"
    export_network(NetworkFile(str(source)), SIDES, target, out, "1")
    np.testing.assert_allclose(features(out), features(plain), rtol=1e-4, atol=1e-5)


def test_an_output_of_a_network_that_is_built_here_is_refused(tmp_path: Path) -> None:
    from pipeline.model.architectures.osnet import OsNet

    torch.save(OsNet(0.25, ain=False).state_dict(), tmp_path / "w.pth")
    file = NetworkFile("osnet_x0_25", str(tmp_path / "w.pth"))
    with pytest.raises(InputError, match="osnet_x0_25: has one output only; leave `output` out"):
        Extractor(file, default_recipe(file, {"output": "f"}))


def test_shapes_that_leave_it_open_are_channels_first() -> None:
    free = image_input("n", {"x": (None, None, None, None)})
    assert not free.channels_last
    assert image_input("n", {"x": (1, 3, 5, 3)}).shape == (1, 3, 5, 3)
    last = image_input("n", {"x": (1, 5, 4, 3)})
    assert (last.channels_last, last.shape) == (True, (1, 3, 5, 4))
    images = np.random.default_rng(0).random((2, 3, 5, 4), np.float32)
    assert ANY_IMAGES.laid_out(images) is images
    assert np.array_equal(last.laid_out(images), images.transpose(0, 2, 3, 1))
    assert last.laid_out(images).flags.c_contiguous


def test_an_output_of_two_sides_goes_before_one_of_four() -> None:
    shapes = {"map": (2, 8, 1, 1), "feature": (2, 8)}
    assert feature_output("n", shapes, 2) == "feature"
    assert feature_output("n", shapes, 2, "map") == "map"
    with pytest.raises(InputError, match=r"no output of shape \[2, D\].*it has map \[2, 8, 4, 2\]"):
        feature_output("n", {"map": (2, 8, 4, 2), "f": (2, 8)}, 2, "map")


def test_the_first_operations_of_a_transposed_network_tell_its_layout(tmp_path: Path) -> None:
    path = script(tmp_path / "n.pt", "turned", images=torch.rand(4, *SIDES, 3))
    assert opening(NetworkFile(str(path))).channels_last
