"""Judged pairs against a loop and against numerical gradients."""

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.pairs import JudgedPairs, PairSettings, pair_loss
from tests.training.losses.test_cluster_memory import unit


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_and_its_gradient_equal_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 20, 4))
    same = rng.random(20) < 0.5
    expected = 0.0
    for a, b, is_same in zip(unit(first), unit(second), same, strict=True):
        expected += max(0, 0.3 + 0.2 - a @ b) if is_same else max(0, a @ b - 0.3 + 0.2)
    x, y = (torch.tensor(each, requires_grad=True) for each in (first, second))
    settings = PairSettings(0.3, 0.2)
    loss = pair_loss(JudgedPairs(x, y, torch.tensor(same)), settings)
    assert loss.item() == pytest.approx(expected / 20, abs=1e-12)
    assert torch.autograd.gradcheck(
        lambda x, y: pair_loss(JudgedPairs(x, y, torch.tensor(same)), settings),
        (x, y),
        fast_mode=True,
    )


def test_what_lies_beyond_the_margin_costs_nothing():
    x, y = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
    assert pair_loss(JudgedPairs(x, x, torch.tensor([True]))).item() == 0
    assert pair_loss(JudgedPairs(x, y, torch.tensor([False]))).item() == 0


def test_pairs_that_cannot_be():
    x, yes = torch.ones(2, 3), torch.tensor([True, True])
    for first, second in ((x, x[:1]), (x[0], x[0]), (x[:0], x[:0])):
        with pytest.raises(ValueError, match=r"first and second must be \[L, D\]"):
            JudgedPairs(first, second, yes)
    for same in (yes[:1], yes.long()):
        with pytest.raises(ValueError, match=r"same must be bool \[2\]"):
            JudgedPairs(x, x, same)
    with pytest.raises(InputError, match="`threshold` must lie from -1 to 1"):
        PairSettings(threshold=2)
    with pytest.raises(InputError, match="`margin` must be 0 or more"):
        PairSettings(margin=-0.1)
    with pytest.raises(InputError, match="`weight` must be 0 or more"):
        PairSettings(weight=float("nan"))
