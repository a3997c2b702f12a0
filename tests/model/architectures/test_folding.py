"""Folded networks give the features that they gave before."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from pipeline.model.architectures.folding import fold_normalizations
from pipeline.model.architectures.known import NETWORKS
from tests.model import toolboxes
from tests.model.toolboxes import State, linear, norm

STATES: dict[str, Callable[[], State]] = {
    "ft_net": lambda: (
        toolboxes.resnet50("model.")
        | linear("classifier.add_block.0", 512, 2048)
        | norm("classifier.add_block.1", 512)
    ),
    "pcb": lambda: toolboxes.resnet50("model."),
    "bnneck": lambda: toolboxes.resnet50("base.", ibn=True) | norm("bottleneck", 2048),
    "osnet_x0_25": lambda: toolboxes.osnet(0.25),
    "osnet_ain_x0_25": lambda: toolboxes.osnet(0.25, ain=True),
}
LEFT = {"bnneck": 13}
"""Normalizations after a convolution, two-dimensional, that stay: the halves of IBN."""


def settled(module: nn.Module) -> nn.Module:
    """In evaluation mode, with normalizations as training leaves them."""
    generator = torch.Generator().manual_seed(7)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.bias):
                tensor.data.normal_(0, 0.1, generator=generator)
            for tensor in (part.running_var, part.weight):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return module.eval().requires_grad_(False)


def normalizations(module: nn.Module) -> int:
    return sum(type(part) is nn.BatchNorm2d for part in module.modules())


def check_alike(module: nn.Module, size: tuple[int, int] = (64, 32)) -> nn.Module:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = module(images)
        folded = fold_normalizations(module)
        after = folded(images)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    assert (1 - F.cosine_similarity(after.double(), before.double())).max() < 1e-9
    return folded


@pytest.mark.parametrize("name", STATES)
def test_networks_that_are_built_here(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = STATES[name]()
        module = NETWORKS[name].build(state, frozenset())
        module.load_state_dict(state, strict=False)
    folded = check_alike(settled(module))
    assert normalizations(folded) == LEFT.get(name, 0) < normalizations(module)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_backbones_of_torchvision(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torchvision.models.get_model(name, weights=None)
    check_alike(settled(module))


def test_a_convolution_that_serves_others_keeps_its_normalization() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            plain = self.conv(images)
            return (plain + self.norm(plain)).mean((2, 3))

    class Twice(Shared):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (self.norm(self.conv(images)) + self.conv(images)).mean((2, 3))

    for kind in (Shared, Twice):
        assert normalizations(check_alike(settled(kind()))) == 1


def test_what_cannot_be_followed_stays_as_it_is() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.body(images).mean((2, 3))
            return features if features.sum() > 0 else -features

    module = settled(Branching())
    assert check_alike(module) is module
