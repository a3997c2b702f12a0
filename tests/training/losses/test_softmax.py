"""The label-smoothed softmax against a loop, and the neck."""

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.softmax import BNNeck, SoftmaxHead, SoftmaxSettings


def naive_loss(features, labels, weight, smoothing):
    total = 0.0
    for f, label in zip(features, labels, strict=True):
        logits = [float(f @ w) for w in weight]
        log_sum = np.log(sum(np.exp(logit) for logit in logits))
        for k, logit in enumerate(logits):
            share = smoothing / len(weight) + (1 - smoothing) * (k == label)
            total += share * (log_sum - logit)
    return total / len(features)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.7])
def test_the_loss_and_its_gradients_equal_those_of_a_loop(smoothing):
    rng = np.random.default_rng(3)
    features, weight, labels = rng.normal(size=(9, 4)), rng.normal(size=(5, 4)), np.arange(9) % 5
    head = SoftmaxHead(4, 5, SoftmaxSettings(smoothing)).double()
    head.load_state_dict({"weight": torch.tensor(weight)})
    x, y = torch.tensor(features, requires_grad=True), torch.tensor(labels)
    assert head(x, y).item() == pytest.approx(naive_loss(features, labels, weight, smoothing))
    assert torch.autograd.gradcheck(lambda x, _: head(x, y), (x, head.weight), fast_mode=True)


def test_the_first_weights_come_from_the_generator():
    first, second = (
        SoftmaxHead(64, 50, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first.weight, second.weight)
    assert first.weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_the_loss_is_float32_under_autocast():
    head, x, y = SoftmaxHead(8, 4), torch.randn(6, 8).bfloat16(), torch.arange(6) % 4
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(x, y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, head(x.float(), y))


def test_the_neck_normalizes_and_never_shifts():
    neck = BNNeck(3)
    x = torch.tensor([[1.0, 2, 3], [3, 2, 7]])
    np.testing.assert_allclose(neck(x).detach(), [[-1, 0, -1], [1, 0, 1]], atol=1e-4)
    neck(x).square().sum().backward()
    assert neck.bias.grad is None
    assert neck.weight.grad is not None


def test_what_cannot_be():
    head = SoftmaxHead(2, 3)
    with pytest.raises(ValueError, match="label below 0"):
        head(torch.ones(1, 2), torch.tensor([-1]))
    with pytest.raises(ValueError, match="there are only 3 classes"):
        head(torch.ones(1, 2), torch.tensor([3]))
    with pytest.raises(InputError, match="`smoothing` must lie from 0 to below 1"):
        SoftmaxSettings(1)
