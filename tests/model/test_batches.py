"""Networks whose features depend on the rest of the batch are refused, whatever their format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.extractor import Extractor
from pipeline.model.independence import AGREEMENT
from pipeline.model.networks import NetworkFile, default_recipe
from tests.model.making import Pooled, crops, save_ir, save_traced

SIZE = {"height": 32, "width": 16}
DEPENDS = r"the feature of a crop depends on the rest of its batch: it differs by [\d.]+ %"


def opened(path: Path, batch_size: int = 8) -> Extractor:
    file = NetworkFile(str(path))
    return Extractor(file, default_recipe(file, SIZE), batch_size=batch_size)


class Instance(torch.nn.Module):
    """Normalizes each crop by itself, in training mode too (fast-reid's IBN)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3)
        self.normalization = torch.nn.InstanceNorm2d(8, affine=True, track_running_stats=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalization(self.convolution(images)).relu().mean((2, 3))


class Dropping(Pooled):
    """Leaves out features at random in training mode."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(super().forward(images), 0.5, self.training)


class Centered(Pooled):
    """Takes the batch's mean off every feature."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = super().forward(images)
        return features - features.mean(0, keepdim=True)


class Shifted(Pooled):
    """Gives every crop something of the one before it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = super().forward(images)
        return features + 0.1 * features.roll(1, 0)


def training(module: torch.nn.Module) -> torch.nn.Module:
    module.train()
    return module


@pytest.mark.parametrize("kind", ["pt", "onnx"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: training(Pooled()),
        lambda: training(Dropping()),
        lambda: Centered().eval(),
        lambda: Shifted().eval(),
    ],
    ids=["normalization", "dropout", "mean", "neighbor"],
)
def test_networks_that_mix_the_crops_of_a_batch_are_refused(
    tmp_path: Path, kind: str, make: Callable[[], torch.nn.Module]
) -> None:
    path = save_traced(tmp_path / f"n.{kind}", make())
    for batch_size in (8, 2, 1):
        with pytest.raises(InputError, match=rf"n\.{kind}: {DEPENDS}"):
            opened(path, batch_size)


@pytest.mark.parametrize("kind", ["pt", "onnx"])
@pytest.mark.parametrize(
    "make",
    [lambda: Pooled().eval(), lambda: training(Instance()), lambda: Dropping().eval()],
    ids=["evaluation", "instance", "no-dropout"],
)
def test_networks_that_keep_crops_apart_are_taken(
    tmp_path: Path, kind: str, make: Callable[[], torch.nn.Module]
) -> None:
    path = save_traced(tmp_path / f"n.{kind}", make())
    images = crops(9)
    features = opened(path, 8)(images)
    np.testing.assert_allclose(opened(path, 2)(images), features, rtol=AGREEMENT, atol=AGREEMENT)


def test_a_fixed_batch_is_tried_too(tmp_path: Path) -> None:
    mixing = save_traced(tmp_path / "n.onnx", training(Pooled()), free=False)
    with pytest.raises(InputError, match=DEPENDS):
        opened(mixing)
    apart = save_traced(tmp_path / "m.onnx", Pooled().eval(), free=False)
    assert opened(apart).batch_size == 4


def test_an_ir_that_mixes_crops_is_refused(tmp_path: Path) -> None:
    import openvino

    source = save_traced(tmp_path / "n.onnx", Centered().eval())
    openvino.save_model(openvino.convert_model(source), tmp_path / "n.xml")
    with pytest.raises(InputError, match=rf"n\.xml: {DEPENDS}"):
        opened(tmp_path / "n.xml")
    file = NetworkFile(str(save_ir(tmp_path / "m.xml", shape=(1, 3, 32, 16))))
    assert Extractor(file, default_recipe(file)).dimension == 3


def test_features_that_are_no_numbers_are_not_taken_for_a_difference(tmp_path: Path) -> None:
    class Broken(Pooled):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) / 0

    assert opened(save_traced(tmp_path / "n.pt", Broken().eval())).dimension == 8


def test_networks_of_the_field_that_were_saved_in_training_mode(field: Path) -> None:
    folder = field / "01-training-mode-networks"
    for batch_size in (32, 2):
        file = NetworkFile(str(folder / "jit_train.pt"))
        with pytest.raises(InputError, match=rf"jit_train\.pt: {DEPENDS}.*model\.eval\(\)"):
            Extractor(file, default_recipe(file), batch_size=batch_size)
    plain = NetworkFile(str(folder / "jit_plain.pt"))
    images = crops(6)
    both = [Extractor(plain, default_recipe(plain), batch_size=n)(images) for n in (32, 2)]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-5, atol=1e-6)
