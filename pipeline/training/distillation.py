"""Train a network to give the features of another one, without labels.

The loss is the mean cosine distance of the two networks' features of the same crops (knowledge
distillation on features, Romero et al., ICLR 2015, with the distance that galleries are ranked by).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.training.augmentation import AugmentationSettings, augment
from pipeline.training.schedules import LearningSchedule

_BATCH = 32
_RATE = 1e-3
_VARIATION = AugmentationSettings(erase=0.0)


def feature_loss(features: Tensor, targets: Tensor) -> Tensor:
    """The mean of 1 - cos over the rows of two arrays of features `[B, D]`.

    >>> feature_loss(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    tensor(0.5000)
    """
    return 1 - nn.functional.cosine_similarity(features, targets).mean()


def distill(
    network: nn.Module,
    teacher: nn.Module,
    crops: Tensor,
    prepare: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    seed: int = 0,
) -> list[float]:
    """Train all weights of `network` in place, and return the mean loss of each epoch.

    `crops` uint8 `[N, 3, H, W]` are mirrored and shifted, anew in each epoch; `prepare` makes them
    the input of both networks. Adam starts at 0.001 and falls along a cosine. The same call gives
    the same weights on one machine with as many threads. ValueError for fewer than two crops.
    """
    if len(crops) < 2:
        raise ValueError("batch normalization needs two crops or more to train")
    network.requires_grad_(True).train()
    teacher.eval()
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    batches = -(-len(crops) // _BATCH)
    schedule = LearningSchedule("cosine", steps=max(1, epochs * batches))
    told = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(crops))
        losses = []
        for number, rows in enumerate(np.array_split(order, batches)):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * schedule.factor(epoch * batches + number)
            images = prepare(augment(crops[rows], rows, _VARIATION, seed=seed, epoch=epoch))
            with torch.no_grad():
                targets = teacher(images).flatten(1)
            loss = feature_loss(network(images).flatten(1), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()) * len(rows))
        told.append(sum(losses) / len(crops))
    network.eval().requires_grad_(False)
    return told
