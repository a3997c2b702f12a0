"""Training a network to give the features of another one."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training.distillation import distill, feature_loss


def networks():
    torch.manual_seed(0)
    student, teacher = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        for _ in range(2)
    )
    return student, teacher


def test_the_loss_is_the_mean_cosine_distance():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3))
    expected = [
        1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(first, second, strict=True)
    ]
    found = feature_loss(torch.from_numpy(first), torch.from_numpy(second))
    assert float(found) == pytest.approx(np.mean(expected))


def test_features_come_closer_to_the_same_bits_each_time():
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 12, 8), np.uint8))
    made = []
    for _ in range(2):
        student, teacher = networks()
        before = copy.deepcopy(teacher.state_dict())
        losses = distill(student, teacher, crops, lambda some: some / 255, epochs=6)
        made.append((losses, student.state_dict()))
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert made[0][0] == made[1][0]
    assert all(torch.equal(made[0][1][key], each) for key, each in made[1][1].items())
    assert all(torch.equal(before[key], each) for key, each in teacher.state_dict().items())
    assert not student.training


def test_one_crop_is_refused():
    with pytest.raises(ValueError, match="batch normalization needs two crops or more"):
        distill(
            *networks(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), lambda some: some, epochs=1
        )
