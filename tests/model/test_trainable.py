"""Networks that can be trained: weights in files, and the models that extract with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import demo_network
from pipeline.errors import InputError
from pipeline.model.feature_models import FileModel
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.model.trainable import (
    TrainableFile,
    TrainableModule,
    load_weights_file,
    weights_bytes,
    weights_hash,
)
from tests.model.making import crops

DEMO = str(Path(demo_network.__file__).with_name("demo.safetensors"))
ONNX = Path(DEMO).with_suffix(".onnx")
SIZE = {"height": 24, "width": 12}


class Small(torch.nn.Module):
    def __init__(self, width: int = 5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images)).mean((2, 3))


def extracted(model, count: int = 5) -> np.ndarray:
    return np.concatenate(list(model.load().over([crops(5, 3)[:count]])))


def save(module: torch.nn.Module, path: Path) -> Path:
    path.write_bytes(weights_bytes(module))
    return path


def test_the_demo_checkpoint_is_the_demo_network():
    """Its batch normalizations are unfolded, and its features are those of the ONNX file."""
    file = TrainableFile(NetworkFile("demo", DEMO))
    onnx = NetworkFile(str(ONNX))
    theirs = extracted(FileModel(onnx, default_recipe(onnx)))
    np.testing.assert_allclose(extracted(file.model()), theirs, atol=1e-4)


def test_a_named_network_goes_to_a_file_and_back(tmp_path):
    file = TrainableFile(NetworkFile("demo", DEMO), {"flip": True})
    module = file.module()
    assert all(each.requires_grad for each in module.parameters())
    with torch.no_grad():
        module.embed.weight.mul_(torch.rand(module.embed.weight.shape))
    weights = save(module, tmp_path / "w.safetensors")
    again = file.module(weights)
    assert weights_bytes(again) == weights_bytes(module) != weights_bytes(file.module())
    model = file.model(weights)
    assert model.recipe.flip and model.recipe.fingerprint != file.model().recipe.fingerprint
    assert file.identity() == file.model().recipe.fingerprint
    assert not np.allclose(extracted(model), extracted(file.model()), atol=1e-3)


def test_a_module_of_the_users_own(tmp_path):
    given = Small()
    file = TrainableModule(given, SIZE)
    module = file.module()
    with torch.no_grad():
        module.conv.weight.mul_(2)
    assert torch.equal(given.conv.weight, Small().conv.weight)
    weights = save(module, tmp_path / "w.safetensors")
    assert weights_hash(file.module(weights)) == weights_hash(module) != weights_hash(given)
    before, after = file.model(), file.model(weights)
    assert before.recipe.fingerprint != after.recipe.fingerprint
    assert file.identity() == TrainableModule(Small(), SIZE).identity()
    found = extracted(before)
    assert found.shape == (5, 5) and not np.allclose(found, extracted(after))
    # Its features do not depend on their batch.
    np.testing.assert_array_equal(found[:2], extracted(before, 2))


def test_what_cannot_be_trained():
    with pytest.raises(InputError, match="a network file cannot be trained; give the name"):
        TrainableFile(NetworkFile(str(ONNX)))
    with pytest.raises(InputError, match="needs height and width"):
        TrainableModule(Small(), {})
    with pytest.raises(InputError, match="cannot have flip: it says how"):
        TrainableModule(Small(), SIZE | {"flip": True})


def test_weights_that_do_not_fit(tmp_path):
    other = save(Small(4), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no weights of this network"):
        TrainableModule(Small(), SIZE).module(other)
    (tmp_path / "text").write_text("no weights")
    for path in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(InputError, match="no weights of this network"):
            load_weights_file(Small(), path)
