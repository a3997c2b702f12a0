"""ONNX files in ONNX Runtime: shapes, files and what is told of those that cannot run."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from pipeline.errors import InputError
from pipeline.model.backends.onnx_network import OnnxNetwork, onnx_files, onnx_image_input
from pipeline.model.backends.signature import fixed_size
from tests.model.making import save_onnx


def random_images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 3, 16, 8), np.float32)


def opened(path: Path, size: tuple[int, int] = (16, 8), device: str = "cpu") -> OnnxNetwork:
    return OnnxNetwork(str(path), size=size, batch_size=2, device=device, threads=1)


def test_feature_is_what_the_graph_says(tmp_path: Path) -> None:
    network = opened(save_onnx(tmp_path / "n.onnx"))
    images = random_images(5)
    np.testing.assert_allclose(network(images), images.mean((2, 3)) * [1, 2, 3], rtol=1e-5)
    assert network(images).dtype == np.float32
    assert (network.dimension, network.batch, network.input_size) == (3, None, None)


def test_fixed_batch_and_size_are_read_from_the_file(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "n.onnx", shape=(4, 3, 16, 8))
    network = opened(path)
    assert (network.batch, network.input_size) == (4, (16, 8))
    assert fixed_size(onnx_image_input(str(path)).shape) == (16, 8)
    with pytest.raises(InputError, match=r"takes images of 16 x 8 .* only, the recipe says 32 x 8"):
        opened(path, (32, 8))


def test_float16_network_takes_and_gives_float32(tmp_path: Path) -> None:
    network = opened(save_onnx(tmp_path / "n.onnx", dtype=TensorProto.FLOAT16))
    images = random_images(2)
    features = network(images)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, images.mean((2, 3)) * [1, 2, 3], rtol=1e-2)


def test_only_output_of_two_dimensions_is_taken(tmp_path: Path) -> None:
    network = opened(save_onnx(tmp_path / "n.onnx", outputs=("pooled", "feature")))
    assert network(np.ones((2, 3, 16, 8), np.float32)).tolist() == [[1, 2, 3]] * 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"outputs": ("spread",)}, "no output of shape [2, D], one row a crop; it has spread"),
        ({"outputs": ("feature", "raised")}, "several outputs of shape [2, D]"),
        ({"inputs": ("images", "mask")}, "must have one input, an image batch, but has images"),
        ({"shape": ("batch", 1, 16, 8), "weights": (1.0,)}, "must be [B, 3, H, W] or [B, H, W, 3]"),
        ({"shape": ("batch", 3, 16)}, "the input must be [B, 3, H, W] or [B, H, W, 3]"),
        ({"dtype": TensorProto.DOUBLE}, "must be float32, float16 or uint8, but is tensor(double)"),
    ],
)
def test_unsuitable_networks_are_told_by_their_ports(
    tmp_path: Path, settings: dict, told: str
) -> None:
    path = save_onnx(tmp_path / "n.onnx", **settings)
    with pytest.raises(InputError, match=r"n\.onnx: ") as caught:
        opened(path)
    assert told in str(caught.value)


def test_network_that_cannot_run_at_the_size_is_told(tmp_path: Path) -> None:
    # The file says that any size will do, and its window is larger than the image.
    path = save_onnx(tmp_path / "n.onnx", window=40)
    with pytest.raises(InputError, match="cannot run on 2 images of 16 x 8"):
        opened(path)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    whole = save_onnx(tmp_path / "n.onnx").read_bytes()
    for cut in (len(whole) // 3, len(whole) - 5):
        path = tmp_path / "cut.onnx"
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut\.onnx: (ONNX Runtime cannot load|the ONNX)"):
            opened(path)
        with pytest.raises(InputError, match=r"cut\.onnx: .*"):
            onnx_image_input(str(path))
    path.write_bytes(b"\x08\x07" + b"\xff" * 40)
    with pytest.raises(InputError, match="damaged or cut short"):
        onnx_files(str(path))
    path.write_bytes(b"\x08\x07\x0b\x00\x00\x00")
    with pytest.raises(InputError, match="damaged or cut short"):
        onnx_files(str(path))


def test_nan_comes_out_as_nan(tmp_path: Path) -> None:
    network = opened(save_onnx(tmp_path / "n.onnx", weights=(1.0, np.nan, 3.0)))
    assert (
        np.isnan(network(np.ones((2, 3, 16, 8), np.float32))).tolist() == [[False, True, False]] * 2
    )


def test_cuda_is_refused_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_onnx(tmp_path / "n.onnx")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(InputError, match="cuda:0 needs ONNX Runtime with CUDA"):
            opened(path, device="cuda:0")
    # Where the provider is compiled in but does not start, the runtime takes the CPU in silence.
    cpu = ["CPUExecutionProvider"]
    monkeypatch.setattr("pipeline.model.backends.onnx_network._providers", lambda *_: cpu)
    with pytest.raises(InputError, match="could not start cuda:0"):
        opened(path, device="cuda:0")


def test_external_data_counts_as_the_networks_files(tmp_path: Path) -> None:
    plain = save_onnx(tmp_path / "plain.onnx")
    assert onnx_files(str(plain)) == [plain]
    path = save_onnx(tmp_path / "n.onnx", external="n.weights")
    assert onnx_files(str(path)) == [path, tmp_path / "n.weights"]
    assert opened(path)(np.ones((1, 3, 16, 8), np.float32)).tolist() == [[1, 2, 3]]
    (tmp_path / "n.weights").unlink()
    with pytest.raises(InputError, match=r"its weights lie in .*n\.weights, which is missing"):
        onnx_files(str(path))


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = save_onnx(tmp_path / "inner" / "n.onnx", external="abcdefghi")
    (tmp_path / "secret").write_bytes(b"x" * 64)
    path.write_bytes(path.read_bytes().replace(b"abcdefghi", b"../secret"))
    with pytest.raises(InputError, match=r"names weights outside its own folder: \.\./secret"):
        onnx_files(str(path))


def test_real_network(osnet: Path) -> None:
    assert fixed_size(onnx_image_input(str(osnet)).shape) == (256, 128)
    assert onnx_files(str(osnet)) == [osnet]
    network = opened(osnet, (256, 128))
    assert (network.dimension, network.batch, network.input_size) == (512, None, (256, 128))
