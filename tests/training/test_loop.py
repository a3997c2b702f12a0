"""Steps of training: what a step does, how micro-batches share it, and how it goes on."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import InputError, RunError
from pipeline.training.loop import MicroBatch, StepSettings, Trainer
from pipeline.training.losses.camera_proxies import CameraProxies
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.objectives import ClusterObjective

ALL = StepSettings("everything", learning_rate=1e-2)


class Small(nn.Module):
    """A network with everything that a step must care about: statistics and dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))


def network(dropout: float = 0.0) -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Small(dropout)


def objective(clusters: int = 4) -> ClusterObjective:
    rng = torch.Generator().manual_seed(5)
    features = nn.functional.normalize(torch.randn(40, 5, generator=rng))
    labels, cameras = torch.arange(40) % clusters, torch.arange(40) % 3
    return ClusterObjective(
        ClusterMemory.of(features, labels), CameraProxies.of(features, labels, cameras)
    )


def batch(seed: int, rows: int = 8) -> MicroBatch:
    rng = torch.Generator().manual_seed(seed)
    return MicroBatch(
        torch.randn(rows, 3, 9, 7, generator=rng),
        torch.randint(0, 4, (rows,), generator=rng),
        torch.randint(0, 3, (rows,), generator=rng),
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trainer.network.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_step_is_that_of_plain_pytorch():
    """Forward, backward, Adam, then the memories."""
    made, plain, theirs = Trainer(network(), objective(), ALL), network(), objective()
    adam = torch.optim.Adam(plain.parameters(), 1e-2, weight_decay=ALL.weight_decay)
    plain.to(memory_format=torch.channels_last).train()
    for step in range(3):
        given, factor = batch(step), 0.5 + step
        told = made.step([given], of=1, factor=factor, seed=step)
        adam.param_groups[0]["lr"] = 1e-2 * factor
        adam.zero_grad()
        features = plain(given.images.contiguous(memory_format=torch.channels_last))
        losses = theirs(features, given.labels, given.cameras)
        torch.stack(list(losses.values())).sum().backward()
        adam.step()
        theirs.update(features.detach(), given.labels, given.cameras)
        assert told == pytest.approx({k: float(v) for k, v in losses.items()}, abs=1e-6)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(made.network.state_dict()[key], value)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(made.objective.state_dict()[key], value)


def test_micro_batches_are_normalized_alone_and_count_as_one_step():
    parts = [batch(1), batch(2)]
    made = Trainer(network(), objective(), ALL)
    before = weights(made)
    made.step(parts, of=2, factor=1, seed=0)
    means = []
    for part in parts:
        alone = network().to(memory_format=torch.channels_last).train()
        alone(part.images.contiguous(memory_format=torch.channels_last))
        means.append(alone.norm.running_mean)
    torch.testing.assert_close(made.network.norm.running_mean, (means[0] + means[1]) / 2)
    assert int(made.network.norm.num_batches_tracked) == 1
    assert not torch.equal(before["fc.weight"], made.network.fc.weight)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_loaded_state_goes_on_to_the_same_bits(dropout):
    whole = Trainer(network(dropout), objective(), ALL)
    for step in range(4):
        whole.step([batch(step)], of=1, factor=1, seed=step)
        if step == 1:
            state = copy.deepcopy(whole.state())
    again = Trainer(network(dropout), objective(), ALL)
    again.load_state(state)
    torch.rand(7)  # random numbers of others change nothing
    for step in (2, 3):
        again.step([batch(step)], of=1, factor=1, seed=step)
    assert equal(weights(whole), weights(again))
    assert equal(whole.objective.state_dict(), again.objective.state_dict())


def test_statistics_alone_follow_and_no_weight_moves():
    made = Trainer(network(), objective(), StepSettings("statistics"))
    before = weights(made)
    told = made.step([batch(1)], of=1, factor=1, seed=0)
    after = weights(made)
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert told["clusters"] > 0
    state = made.state()
    made.load_state(state)


@pytest.mark.parametrize("part", ["head", "last-stage"])
def test_only_the_part_moves(part):
    made = Trainer(network(), objective(), StepSettings(part))
    before = weights(made)
    made.step([batch(1)], of=1, factor=1, seed=0)
    moved = {k for k, v in weights(made).items() if not torch.equal(before[k], v)}
    assert "fc.weight" in moved
    assert ("conv.weight" in moved) == (part == "last-stage")


def test_half_precision_runs_and_learns():
    made = Trainer(network(), objective(), StepSettings("everything", 1e-2, precision="bfloat16"))
    losses = [sum(made.step([batch(1)], of=1, factor=1, seed=0).values()) for _ in range(12)]
    assert losses[-1] < losses[0]


def test_a_loss_that_is_not_finite_stops():
    made = Trainer(network(), objective(), ALL)
    bad = batch(1)
    bad.images[0] = np.nan
    with pytest.raises(RunError, match=r"a loss is not finite .* give a lower `learning_rate`"):
        made.step([bad], of=1, factor=1, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": "neck"}, "`part` must be one of"),
        ({"precision": "int8"}, "`precision` must be one of"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be above 0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be 0 or more"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(InputError, match=message):
        StepSettings(**fields)
