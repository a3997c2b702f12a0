"""Losses and augmentation on every device of this machine: the same bits again, as on the CPU."""

import numpy as np
import pytest
import torch

from pipeline.training.augmentation import AugmentationSettings, augment
from pipeline.training.losses.arcface import ArcFaceHead
from pipeline.training.losses.camera_proxies import CameraProxies
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.losses.pairs import JudgedPairs, pair_loss
from pipeline.training.losses.softmax import SoftmaxHead
from pipeline.training.losses.triplet import TripletSettings, triplet_loss

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def parts(device):
    """All losses of one batch on a device, by name, as functions of its features."""
    generator = torch.Generator().manual_seed(4)
    labels, cameras = (torch.arange(24) // 4).to(device), (torch.arange(24) % 3).to(device)
    first = torch.randn(24, 16, generator=generator).to(device)
    softmax = SoftmaxHead(16, 6, generator=generator).to(device)
    arcface = ArcFaceHead(16, 6, generator=generator).to(device)
    memory, proxies = ClusterMemory.of(first, labels), CameraProxies.of(first, labels, cameras)
    memory.update(first.flip(0), labels.flip(0))
    proxies.update(first.flip(0), labels.flip(0), cameras.flip(0))
    same = labels[:12] == labels[12:]
    made = {
        "softmax": lambda x: softmax(x, labels),
        "arcface": lambda x: arcface(x, labels),
        "memory": lambda x: memory(x, labels),
        "proxies": lambda x: proxies(x, labels, cameras),
        "pairs": lambda x: pair_loss(JudgedPairs(x[:12], x[12:], same)),
    }
    for mining in ("batch-all", "batch-hard", "semi-hard", "distance-weighted"):
        settings = TripletSettings(mining, unit=True)
        made[mining] = lambda x, settings=settings: triplet_loss(x, labels, settings)
    return made


def values(device):
    """Every loss and its gradient."""
    x = torch.randn(24, 16, generator=torch.Generator().manual_seed(5)).to(device)
    found = {}
    for name, loss_of in parts(device).items():
        leaf = x.clone().requires_grad_()
        loss = loss_of(leaf)
        loss.backward()
        assert loss.device == leaf.grad.device == leaf.device
        found[name] = torch.cat([loss.detach()[None], leaf.grad.ravel()]).cpu()
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_losses_and_gradients_are_the_same_bits_again(device):
    first, again = values(device), values(device)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("device", DEVICES)
def test_losses_and_gradients_are_those_of_the_cpu(device):
    for (name, found), expected in zip(values(device).items(), values("cpu").values(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_augmented_crops_are_those_of_the_cpu(device):
    crops = torch.randint(0, 256, (5, 3, 8, 6), dtype=torch.uint8)
    settings = AugmentationSettings(pad=2, erase=1)
    expected, made = (
        augment(given, np.arange(5), settings, seed=1, epoch=1, fill=(9, 8, 7))
        for given in (crops, crops.to(device))
    )
    assert torch.equal(made.cpu(), expected)
