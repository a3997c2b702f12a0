"""Which weights are trained."""

import pytest
import torch
import torchvision
from torch import nn

from pipeline.errors import InputError
from pipeline.model.architectures.demo import DemoNetwork
from pipeline.model.architectures.osnet import OsNet
from pipeline.training.parts import normalizations, train_part


def trained(network: nn.Module) -> list[str]:
    return [name for name, each in network.named_parameters() if each.requires_grad]


@pytest.mark.parametrize(
    ("network", "head", "stage"),
    [
        (lambda: OsNet(0.25, ain=False), "fc.0.weight", "conv4.0.conv1.conv.weight"),
        (DemoNetwork, "embed.weight", "convolutions.5.weight"),
        (torchvision.models.resnet18, "fc.weight", "layer4.0.conv1.weight"),
        (torchvision.models.mobilenet_v2, "classifier.1.weight", "features.17.conv.0.0.weight"),
        (lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 2))), "0.0.weight", "0.0.weight"),
    ],
)
def test_the_head_and_the_last_stage(network, head, stage):
    with torch.device("meta"):
        made = network()
    names = [name for name, _ in made.named_parameters()]
    for part, first in (("head", head), ("last-stage", stage)):
        assert train_part(made, part) == trained(made) == names[names.index(first) :]
    assert train_part(made, "everything") == trained(made) == names


def test_the_last_stage_holds_half_of_the_weights():
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    assert train_part(network, "last-stage")[0] == "3.weight"


def test_statistics_alone_need_batch_normalizations():
    network = DemoNetwork()
    assert train_part(network, "statistics") == trained(network) == []
    assert len(normalizations(network)) == 7
    with pytest.raises(InputError, match="no batch normalization"):
        train_part(nn.Linear(2, 2), "statistics")
    loose = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(InputError, match="no batch normalization"):
        train_part(loose, "statistics")


def test_an_unknown_part():
    with pytest.raises(InputError, match="`part` must be one of statistics, head"):
        train_part(DemoNetwork(), "neck")
