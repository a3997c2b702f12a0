"""Objectives: the sum of their parts, and the state that a run goes on from."""

import copy

import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.camera_proxies import CameraProxies, CameraProxySettings
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.losses.pairs import JudgedPairs, PairSettings, pair_loss
from pipeline.training.losses.softmax import SoftmaxSettings
from pipeline.training.losses.triplet import TripletSettings, triplet_loss
from pipeline.training.objectives import (
    ClusterObjective,
    IdentityObjective,
    IdentityObjectiveSettings,
)


def batch():
    torch.manual_seed(1)
    labels, cameras = torch.arange(8) % 2, torch.arange(8) % 3
    judged = JudgedPairs(torch.randn(3, 5), torch.randn(3, 5), torch.tensor([True, False, True]))
    return torch.randn(8, 5), labels, cameras, judged


def test_an_adaptation_adds_clusters_cameras_and_verdicts():
    x, labels, cameras, judged = batch()
    memory = ClusterMemory.of(x, labels)
    proxies = CameraProxies.of(x, labels, cameras, CameraProxySettings(weight=0.25))
    objective = ClusterObjective(memory, proxies, PairSettings(weight=3))
    losses = objective(x, labels, cameras, judged)
    assert losses == {
        "clusters": memory(x, labels),
        "cameras": 0.25 * proxies(x, labels, cameras),
        "verdicts": 3 * pair_loss(judged),
    }
    assert list(ClusterObjective(memory)(x, labels, cameras)) == ["clusters"]


def test_the_memories_of_an_adaptation_follow_and_are_its_state():
    x, labels, cameras, _ = batch()
    parts = ClusterMemory.of(x, labels), CameraProxies.of(x, labels, cameras)
    objective = ClusterObjective(*copy.deepcopy(parts))
    objective.update(x.flip(0), labels.flip(0), cameras.flip(0))
    assert not torch.equal(objective.memory.centroids, parts[0].centroids)
    assert not torch.equal(objective.proxies.proxies, parts[1].proxies)
    again = ClusterObjective(*parts)
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again.memory.centroids, objective.memory.centroids)
    assert torch.equal(again.proxies.proxies, objective.proxies.proxies)


@pytest.mark.parametrize("head", ["softmax", "arcface"])
def test_training_adds_identities_triplets_and_verdicts(head):
    x, labels, _, judged = batch()
    settings = IdentityObjectiveSettings(
        head, triplet=TripletSettings(weight=0.5), pairs=PairSettings(weight=2)
    )
    objective = IdentityObjective(5, 2, settings, generator=torch.Generator().manual_seed(3))
    losses = objective(x, labels, judged=judged)
    behind = copy.deepcopy(objective.neck)(torch.cat([x, judged.first, judged.second]))
    assert torch.equal(losses["identities"], objective.head(behind[:8], labels))
    assert torch.equal(losses["triplets"], 0.5 * triplet_loss(x, labels))
    pairs = JudgedPairs(behind[8:11], behind[11:], judged.same)
    assert torch.equal(losses["verdicts"], 2 * pair_loss(pairs))
    plain = IdentityObjective(5, 2, IdentityObjectiveSettings(head, triplet=None))
    assert list(plain(x, labels)) == ["identities"]


def test_training_learns_what_it_is_shown():
    """A linear map learns to tell two identities apart, and all parts of the loss fall."""
    x, labels, _, _ = batch()
    x = torch.randn(24, 5, generator=torch.Generator().manual_seed(5))
    labels = (x[:, 0] + 0.1 * x[:, 1] > 0).long()
    for settings in (
        IdentityObjectiveSettings(softmax=SoftmaxSettings(0)),
        IdentityObjectiveSettings("arcface"),
    ):
        generator = torch.Generator().manual_seed(3)
        objective = IdentityObjective(4, 2, settings, generator=generator)
        embed = torch.randn(5, 4, generator=generator).requires_grad_()
        weights = [each for each in (embed, *objective.parameters()) if each.requires_grad]
        first = None
        for _ in range(25):
            losses = objective(x @ embed, labels)
            first = first or {name: loss.item() for name, loss in losses.items()}
            gradients = torch.autograd.grad(sum(losses.values()), weights)
            with torch.no_grad():
                for each, gradient in zip(weights, gradients, strict=True):
                    each -= 0.1 * gradient
        assert all(losses[name].item() < 0.8 * first[name] for name in losses)


def test_without_a_neck_features_are_compared_as_they_are():
    x, labels, _, _ = batch()
    settings = IdentityObjectiveSettings(neck=False)
    objective = IdentityObjective(5, 2, settings, generator=torch.Generator().manual_seed(3))
    assert torch.equal(objective(x, labels)["identities"], objective.head(x, labels))


def test_there_is_no_other_head():
    with pytest.raises(InputError, match="`head` must be one of softmax, arcface"):
        IdentityObjectiveSettings("circle")
