"""OpenVINO IR: batches, files and what is told of those that cannot run."""

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as opset

from pipeline.errors import InputError
from pipeline.model.backends.openvino_network import (
    OpenvinoNetwork,
    openvino_files,
    openvino_image_input,
)
from pipeline.model.backends.signature import fixed_size
from tests.model.making import channel_means, save_ir


def opened(
    path: Path,
    *,
    size: tuple[int, int] = (16, 8),
    batch_size: int = 4,
    device: str = "cpu",
    precision: str = "float32",
) -> OpenvinoNetwork:
    return OpenvinoNetwork(
        str(path), size=size, batch_size=batch_size, device=device, threads=1, precision=precision
    )


def test_fixed_batch_is_reshaped_to_the_wanted_one(tmp_path: Path) -> None:
    network = opened(save_ir(tmp_path / "n.xml"))
    assert (network.batch, network.dimension, network.input_size) == (4, 3, (16, 8))
    images = np.random.default_rng(0).random((4, 3, 16, 8), np.float32)
    np.testing.assert_allclose(network(images), 2 * images.mean((2, 3)), rtol=1e-5)


def test_results_of_two_calls_do_not_share_memory(tmp_path: Path) -> None:
    network = opened(save_ir(tmp_path / "n.xml"))
    first = network(np.ones((4, 3, 16, 8), np.float32))
    network(np.zeros((4, 3, 16, 8), np.float32))
    assert first.tolist() == [[2, 2, 2]] * 4


def test_batch_that_the_graph_insists_on_is_kept(tmp_path: Path) -> None:
    def build(images: openvino.Output) -> list[openvino.Output]:
        target = opset.constant(np.array([2, 3], np.int64))
        return [opset.reshape(channel_means(images), target, False).output(0)]

    path = save_ir(tmp_path / "n.xml", build, shape=(2, 3, 16, 8))
    network = opened(path, batch_size=8)
    assert network.batch == 2
    assert network(np.ones((2, 3, 16, 8), np.float32)).tolist() == [[2, 2, 2]] * 2


def test_free_size_runs_at_any_one(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "n.xml", shape=(-1, 3, -1, -1))
    assert fixed_size(openvino_image_input(str(path)).shape) is None
    network = opened(path, size=(16, 8))
    assert network.input_size is None
    assert network(np.ones((4, 3, 24, 12), np.float32)).tolist() == [[2, 2, 2]] * 4


def test_several_features_none_and_a_free_length_are_told(tmp_path: Path) -> None:
    two = save_ir(tmp_path / "a.xml", lambda images: [channel_means(images), channel_means(images)])
    with pytest.raises(InputError, match=r"a\.xml: several outputs of shape"):
        opened(two)
    none = save_ir(tmp_path / "b.xml", lambda images: [opset.relu(images).output(0)])
    with pytest.raises(InputError, match=r"b\.xml: no output of shape"):
        opened(none)

    def bright(images: openvino.Output) -> list[openvino.Output]:
        places = opset.non_zero(images, output_type="i64")
        return [opset.transpose(places, opset.constant(np.array([1, 0], np.int64))).output(0)]

    with pytest.raises(InputError, match=r"c\.xml: (no output|the length of its feature)"):
        opened(save_ir(tmp_path / "c.xml", bright))


def test_another_size_than_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes images of 16 x 8"):
        opened(save_ir(tmp_path / "n.xml"), size=(32, 8))


def test_unsuitable_inputs_are_told(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "n.xml", shape=(1, 4, 16, 8))
    with pytest.raises(InputError, match=r"must be \[B, 3, H, W\] or \[B, H, W, 3\], but is"):
        opened(path)


def test_cuda_is_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OpenVINO runs on the CPU here, not on cuda:0"):
        opened(save_ir(tmp_path / "n.xml"), device="cuda:0")


def test_a_precision_is_taken_as_asked_or_refused(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "n.xml")
    images = np.random.default_rng(0).random((4, 3, 16, 8), np.float32)
    capable = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, capability in (("bfloat16", "BF16"), ("float16", "FP16")):
        try:
            features = opened(path, precision=precision)(images)
        except InputError as error:
            assert f"cannot compute in {precision} on this processor" in str(error)
        else:
            assert capability in capable
            np.testing.assert_allclose(features, 2 * images.mean((2, 3)), rtol=0.02)


def test_missing_and_short_weights_are_told_by_name(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "n.xml")
    weights = tmp_path / "n.bin"
    assert openvino_files(str(path)) == [path, weights]
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"n\.xml: OpenVINO cannot read it \(Incorrect weights"):
        opened(path)
    weights.unlink()
    with pytest.raises(InputError, match=r"n\.xml: its weights n\.bin are missing"):
        opened(path)


def test_damaged_xml_is_told_in_one_line(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "n.xml")
    path.write_text(path.read_text()[:300])
    with pytest.raises(InputError, match=r"n\.xml: OpenVINO cannot read it") as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_graph_that_cannot_take_the_batch_is_told(tmp_path: Path) -> None:
    def build(images: openvino.Output) -> list[openvino.Output]:
        kernel = opset.constant(np.ones((2, 3, 40, 40), np.float32))
        ones = np.array([1, 1])
        return [opset.convolution(images, kernel, ones, ones * 0, ones * 0, ones).output(0)]

    path = save_ir(tmp_path / "n.xml", build, shape=(-1, 3, -1, -1))
    with pytest.raises(InputError, match=r"cannot take a batch of shape \[4, 3, 16, 8\]"):
        opened(path)


def test_real_network(retail: Path) -> None:
    assert fixed_size(openvino_image_input(str(retail)).shape) == (256, 128)
    network = opened(retail, size=(256, 128))
    assert (network.dimension, network.batch) == (256, 4)


def test_openvino_reports_nothing_to_its_maker() -> None:
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
