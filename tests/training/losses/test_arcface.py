"""ArcFace against a loop over angles, and at the angles where its formula breaks down."""

import math

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.arcface import ArcFaceHead, ArcFaceSettings
from tests.training.losses.test_cluster_memory import unit


def naive_loss(features, labels, weight, settings):
    total = 0.0
    for f, label in zip(unit(features), labels, strict=True):
        logits = []
        for k, w in enumerate(unit(weight)):
            angle = math.acos(min(1.0, f @ w))
            logit = math.cos(angle)
            if k == label:
                if angle + settings.margin < math.pi:
                    logit = math.cos(angle + settings.margin)
                else:
                    logit -= settings.margin * math.sin(settings.margin)
            logits.append(settings.scale * logit)
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
    return total / len(features)


def head_of(weight, settings):
    head = ArcFaceHead(weight.shape[1], len(weight), settings).to(torch.tensor(weight).dtype)
    head.load_state_dict({"weight": torch.tensor(weight)})
    return head


@pytest.mark.parametrize("settings", [ArcFaceSettings(), ArcFaceSettings(5, 1.2)])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_and_its_gradients_equal_those_of_a_loop(settings, seed):
    rng = np.random.default_rng(seed)
    features, weight = rng.normal(size=(12, 3)), rng.normal(size=(5, 3))
    labels = np.arange(12) % 5
    features[0], features[1] = -2 * weight[0] + 0.01, weight[1] + 0.01  # angles near pi and 0
    head, y = head_of(weight, settings), torch.tensor(labels)
    x = torch.tensor(features, requires_grad=True)
    assert head(x, y).item() == pytest.approx(naive_loss(features, labels, weight, settings))
    assert torch.autograd.gradcheck(lambda x, _: head(x, y), (x, head.weight), fast_mode=True)


def test_classes_begin_as_directions_of_about_unit_length():
    generator = torch.Generator().manual_seed(0)
    lengths = ArcFaceHead(128, 50, generator=generator).weight.norm(dim=1)
    assert lengths.min() > 0.7 and lengths.max() < 1.3


@pytest.mark.parametrize("sign", [1, -1])
def test_angles_of_0_and_pi_give_finite_gradients(sign):
    weight = unit(np.random.default_rng(1).normal(size=(40, 16))).astype(np.float32)
    head = head_of(weight, ArcFaceSettings(64, 0.5))
    x = torch.tensor(sign * 3 * weight, requires_grad=True)
    loss = head(x, torch.arange(40))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(head.weight.grad).all()
    if sign == 1:  # cos(0 + margin), but for a thousandth of the sine
        exact = naive_loss(weight.astype(float), range(40), weight, head.settings)
        assert loss.item() == pytest.approx(exact, abs=64 * 1e-3)


def test_the_logit_of_the_own_class_falls_with_the_angle_everywhere():
    head = head_of(np.array([[1.0, 0], [0, 1]]), ArcFaceSettings(1, 0.5))
    angles = torch.linspace(0, math.pi, 1000, dtype=torch.float64)
    logits = head._with_margin(torch.cos(angles))
    assert (logits.diff() < 1e-6).all()


def test_without_a_margin_it_is_a_softmax_of_cosines():
    rng = np.random.default_rng(2)
    features, weight = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    head, y = head_of(weight, ArcFaceSettings(7, 0)), torch.arange(6) % 4
    logits = 7 * torch.tensor(unit(features) @ unit(weight).T)
    expected = torch.nn.functional.cross_entropy(logits, y)
    assert head(torch.tensor(features), y).item() == pytest.approx(expected.item())


def test_the_loss_is_float32_under_autocast():
    head, x, y = ArcFaceHead(8, 4), torch.randn(6, 8).bfloat16(), torch.arange(6) % 4
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(x, y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, head(x.float(), y))


def test_what_cannot_be():
    with pytest.raises(ValueError, match="label below 0"):
        ArcFaceHead(2, 3)(torch.ones(1, 2), torch.tensor([-1]))
    with pytest.raises(InputError, match="`scale` must be more than 0"):
        ArcFaceSettings(scale=0)
    for margin in (-0.1, 1.6, math.nan):
        with pytest.raises(InputError, match="`margin` must lie from 0 to below pi / 2"):
            ArcFaceSettings(margin=margin)
