"""Structured pruning: which channels go, what stays, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from pipeline.model.architectures.resnet import HalfInstanceNorm
from pipeline.model.copies.pruning import prune_channels
from tests.model.making import Pooled

SIZE = (16, 8)


class Chain(nn.Module):
    """Two convolutions with batch normalization, a mean, and a linear layer."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 10, 3, padding=1), norm(10)
        self.second, self.last = nn.Conv2d(10, 6, 3, padding=1), nn.Linear(6, 4)
        for scale in self.norm.parameters():
            nn.init.uniform_(scale, 0.5, 1.5)

    def forward(self, images):
        maps = self.second(self.norm(self.first(images)).relu()).relu()
        return self.last(maps.mean((2, 3)))


class Heads(nn.Module):
    """A reshape to a fixed number of heads, which torch-pruning does not follow."""

    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.split, self.last = nn.Linear(3, 8), nn.Linear(8, 4)
        self.norm = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1))
        if not norm:
            self.norm = nn.Identity()

    def forward(self, images):
        heads = self.split(self.norm(images).mean((2, 3))).unflatten(1, (2, 4))
        return self.last(heads.softmax(2).flatten(1))


@torch.no_grad()
def group_scores(network):
    """The importance of the channels of `first`: the mean of what its group's layers sum."""
    scores = []
    for channel in range(10):
        parts = [
            sum(float(each) ** 2 for each in network.first.weight[channel].flatten()),
            float(network.norm.weight[channel]) ** 2,
            sum(float(each) ** 2 for each in network.second.weight[:, channel].flatten()),
        ]
        scores.append(sum(parts) / 3)
    return scores


def test_the_least_important_channels_go_and_the_rest_computes_the_same():
    network = Chain().eval()
    pruned = prune_channels(network, SIZE, 0.3)
    scores = group_scores(network)
    kept = sorted(sorted(range(10), key=scores.__getitem__)[3:])
    assert torch.equal(pruned.module.norm.weight, network.norm.weight[kept])
    # A removed channel has the effect of weights of zero where it was read.
    masked = copy.deepcopy(network)
    with torch.no_grad():
        masked.second.weight[:, [each for each in range(10) if each not in kept]] = 0
        first = {tuple(row.flatten().tolist()) for row in pruned.module.second.weight}
        gone = [
            at
            for at, row in enumerate(network.second.weight[:, kept])
            if tuple(row.flatten().tolist()) not in first
        ]
        masked.last.weight[:, gone] = 0
        images = torch.randn(5, 3, *SIZE)
        assert len(gone) == 2
        torch.testing.assert_close(pruned.module(images), masked(images))


def test_parameters_and_multiply_adds_are_those_of_the_layers_that_are_left():
    pruned = prune_channels(Chain(), SIZE, 0.3)
    assert pruned.multiply_adds == (
        16 * 8 * (3 * 10 * 9 + 10 * 6 * 9) + 6 * 4,
        16 * 8 * (3 * 7 * 9 + 7 * 4 * 9) + 4 * 4,
    )
    for place, network in enumerate((Chain(), pruned.module)):
        assert pruned.parameters[place] == sum(each.numel() for each in network.parameters())
    assert pruned.module(torch.zeros(2, 3, *SIZE)).shape == (2, 4)


def test_a_small_share_changes_little_and_the_source_not_at_all():
    network = Chain().eval()
    with torch.no_grad():
        network.second.weight[:, 4] *= 1e-6
        network.first.weight[4] *= 1e-6
        network.norm.weight[4] = 1e-6
        network.second.weight[2] *= 1e-6
        network.second.bias[2] *= 1e-6
        network.last.weight[:, 2] *= 1e-6
    before = copy.deepcopy(network.state_dict())
    pruned = prune_channels(network, SIZE, 0.01)
    images = torch.randn(5, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(pruned.module(images), network(images), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)
    again = prune_channels(network, SIZE, 0.01).module.state_dict()
    assert all(torch.equal(again[key], each) for key, each in pruned.module.state_dict().items())


def test_channels_that_a_normalization_splits_stay_whole():
    pruned = prune_channels(Chain(HalfInstanceNorm).eval(), SIZE, 0.3).module
    assert (pruned.first.out_channels, pruned.second.out_channels) == (10, 4)


def test_networks_that_cannot_be_followed_lose_channels_of_batch_normalizations():
    pruned = prune_channels(Heads(norm=True).eval(), SIZE, 0.3)
    assert pruned.module.norm[1].num_features == 4
    assert pruned.module.split.out_features == 8


@pytest.mark.parametrize(
    ("network", "share", "told"),
    [
        (Chain(), 0.0, "`prune` must be a share of the channels between 0 and 1, not 0.0"),
        (Chain(), 1.0, "between 0 and 1, not 1.0"),
        (Heads(norm=False), 0.3, "the network cannot be pruned: "),
        (Pooled(), 0.3, "the network cannot be pruned: it has no channels that can be removed"),
    ],
)
def test_what_cannot_be_pruned_is_told(network, share, told):
    with pytest.raises(InputError) as caught:
        prune_channels(network.eval(), SIZE, share)
    assert told in str(caught.value)
