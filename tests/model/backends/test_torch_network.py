"""PyTorch networks: TorchScript and torch.export files, precisions and threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.backends.signature import fixed_size
from pipeline.model.backends.torch_network import (
    TorchNetwork,
    load_export,
    load_torchscript,
    torch_threads,
)
from tests.model.making import Flat, Pooled, save_export, save_script, scripted


def opened(run: Any, **settings: Any) -> TorchNetwork:
    given = {"size": (16, 8), "batch_size": 4, "device": "cpu", "precision": "float32", **settings}
    return TorchNetwork("net.pt", run, **given)


def test_torchscript_is_the_module(tmp_path: Path) -> None:
    module = Pooled().eval()
    network = opened(load_torchscript(str(save_script(tmp_path / "n.pt", module)), "cpu"))
    assert (network.dimension, network.batch, network.input_size) == (8, None, None)
    images = torch.rand(5, 3, 16, 8)
    with torch.inference_mode():
        np.testing.assert_allclose(network(images), module(images).numpy(), rtol=1e-5, atol=1e-6)


def test_torchscript_gives_the_same_bits_at_every_run(tmp_path: Path) -> None:
    network = opened(load_torchscript(str(save_script(tmp_path / "n.pt", Pooled())), "cpu"))
    images = torch.rand(4, 3, 16, 8)
    first = network(images)
    assert all(np.array_equal(network(images), first) for _ in range(5))


def test_torchscript_saved_in_training_mode_is_put_to_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "n.pt"
    scripted(Pooled().train()).save(str(path))
    network = opened(load_torchscript(str(path), "cpu"))
    one = torch.rand(1, 3, 16, 8)
    many = torch.cat([one, torch.rand(3, 3, 16, 8)])
    np.testing.assert_allclose(network(many)[0], network(one)[0], rtol=1e-5, atol=1e-6)


def test_export_with_a_free_batch(tmp_path: Path) -> None:
    module = Pooled().eval()
    path = save_export(tmp_path / "n.pt2", module)
    run, image, _ = load_export(str(path), "cpu")
    batch, size = image.shape[0], fixed_size(image.shape)
    network = opened(run, batch=batch, input_size=size)
    assert (network.dimension, network.batch, network.input_size) == (8, None, (16, 8))
    images = torch.rand(5, 3, 16, 8)
    with torch.inference_mode():
        np.testing.assert_allclose(network(images), module(images).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="takes images of 16 x 8"):
        opened(run, batch=batch, input_size=size, size=(32, 16))


def test_export_with_a_fixed_batch_and_a_free_size(tmp_path: Path) -> None:
    path = save_export(tmp_path / "n.pt2", Pooled().eval(), free=(None, None, "height", "width"))
    _, image, kind = load_export(str(path), "cpu")
    assert (image.shape, kind) == ((4, 3, None, None), torch.float32)


def test_export_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = save_export(tmp_path / "n.pt2", Pooled().train())
    with pytest.raises(InputError, match=r"n\.pt2: was exported in training mode"):
        load_export(str(path), "cpu")


def test_damaged_files_are_told(tmp_path: Path) -> None:
    for path, load in (
        (save_script(tmp_path / "n.pt", Pooled()), load_torchscript),
        (save_export(tmp_path / "n.pt2", Pooled().eval()), load_export),
    ):
        content = bytearray(path.read_bytes())
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=rf"{path.name}: PyTorch cannot load it") as caught:
            load(str(path), "cpu")
        assert "\n" not in str(caught.value)


def test_wrong_size_of_a_silent_file_is_told() -> None:
    script = scripted(Flat().eval())
    assert opened(script).dimension == 4
    with pytest.raises(InputError, match="cannot run on 4 images of 16 x 16"):
        opened(script, size=(16, 16))


class Outputs(torch.nn.Module):
    def __init__(self, pick: Any) -> None:
        super().__init__()
        self.pick = pick

    def forward(self, images: torch.Tensor) -> Any:
        return self.pick(images)


def test_the_one_feature_among_outputs_is_taken() -> None:
    feature = lambda images: images.mean((2, 3))  # noqa: E731
    for pick in (
        lambda images: (images, feature(images)),
        lambda images: [feature(images), images],
        lambda images: {"map": images, "feature": feature(images), "text": "x"},
    ):
        network = opened(Outputs(pick))
        assert network.dimension == 3
        assert network(torch.ones(2, 3, 16, 8)).tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("pick", "told"),
    [
        (lambda images: images, "no output of shape [4, D], one row a crop; it has output [4, 3"),
        (lambda images: (images[:, 0, 0], images[:, 1, 0]), "several outputs of shape [4, D]"),
        (lambda images: "text", "no output of shape [4, D], one row a crop; it has none"),
        (lambda images: images.flatten(), "no output of shape"),
        (lambda images: images.reshape(7, 7), "cannot run on 4 images of 16 x 8"),
    ],
)
def test_unsuitable_outputs_are_told(pick: Any, told: str) -> None:
    with pytest.raises(InputError, match=r"net\.pt: ") as caught:
        opened(Outputs(pick))
    assert told in str(caught.value)


@pytest.mark.parametrize(("precision", "near"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_halves_are_near_float32_and_not_it(precision: str, near: float) -> None:
    module = Pooled().eval()
    images = torch.rand(4, 3, 64, 32)
    full, half = opened(module)(images), opened(module, precision=precision)(images)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=near)
    assert not np.array_equal(half, full)


def test_nan_comes_out_as_nan() -> None:
    network = opened(Outputs(lambda images: images.mean((2, 3)).log()))
    assert np.isnan(network(torch.full((2, 3, 16, 8), -1.0))).all()


def test_feature_that_is_a_view_of_the_input_is_copied() -> None:
    network = opened(Outputs(lambda images: images[:, :, 0, 0]))
    images = torch.ones(4, 3, 16, 8)
    features = network(images)
    images.zero_()
    assert (features == 1).all()


def test_thread_count_holds_inside_and_is_given_back() -> None:
    before = torch.get_num_threads()
    other = before + 1
    with torch_threads(other):
        assert torch.get_num_threads() == other
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="inside"), torch_threads(other):
        raise RuntimeError("inside")
    assert torch.get_num_threads() == before


class Hungry(Pooled):
    """Runs out of memory as a GPU does, over more than `most` images."""

    most, seen = 4, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seen += 1
        return super().forward(images)


def test_a_batch_too_large_for_the_memory_is_run_in_halves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shape = {"size": (16, 8), "batch_size": 7, "device": "cpu", "precision": "float32"}
    module, images = Hungry().eval(), torch.rand(7, 3, 16, 8)
    network = TorchNetwork("n.pt", module, **shape, probed=2)  # type: ignore[arg-type]
    whole = TorchNetwork("n.pt", Pooled().eval(), **shape)(images)  # type: ignore[arg-type]
    for _ in range(2):
        np.testing.assert_allclose(network(images), whole, rtol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "n.pt: the GPU has too little memory for 7 images at once: taking half as many; give"
        " `batch_size` 4 to have it so from the start"
    ]
    assert module.seen == 5
    module.most = 3
    with pytest.raises(InputError, match=r"too little memory for 4 images at once; give a smaller"):
        network(images)


def test_a_batch_that_cannot_be_cut_is_told() -> None:
    module = Hungry().eval()
    shape = {"size": (16, 8), "batch_size": 4, "device": "cpu", "precision": "float32"}
    fixed = TorchNetwork("n.pt", module, **shape, batch=4)  # type: ignore[arg-type]
    module.most = 3
    with pytest.raises(InputError, match="too little memory for 4 images"):
        fixed(torch.rand(4, 3, 16, 8))
    one = TorchNetwork("n.pt", module, **{**shape, "batch_size": 1})  # type: ignore[arg-type]
    module.most = 0
    with pytest.raises(InputError, match="too little memory for 1 images"):
        one(torch.rand(1, 3, 16, 8))
