"""Adapters of attention layers: what they train, and that plain weights remain."""

import copy
import sys

import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from pipeline.training.loop import MicroBatch, StepSettings, Trainer
from pipeline.training.lora import add_lora, attention_layers
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.objectives import ClusterObjective
from pipeline.training.parts import check_part


class WindowAttention(nn.Module):
    """As in timm: one layer for queries, keys and values, and one behind."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj, self.drop = nn.Linear(8, 24), nn.Linear(8, 8), nn.Identity()

    def forward(self, tokens):
        query, key, value = self.qkv(tokens).chunk(3, -1)
        return self.proj(nn.functional.scaled_dot_product_attention(query, key, value))


class Network(nn.Module):
    """A small transformer with both kinds of attention, on patches of an image."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.BatchNorm2d(8)
        self.own = WindowAttention()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)

    def forward(self, images):
        tokens = self.norm(self.patches(images)).flatten(2).transpose(1, 2)
        return self.layer(tokens + self.own(tokens)).mean(1)


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 16, 8, generator=generator)
    return [MicroBatch(images, torch.arange(8) % 4, torch.zeros(8, dtype=torch.int64))]


def trainer_of(network):
    centroids = torch.eye(8)[:4]
    settings = StepSettings("lora", 1e-2)
    return Trainer(copy.deepcopy(network), ClusterObjective(ClusterMemory(centroids)), settings)


def test_attention_is_known_by_its_class():
    assert attention_layers(Network()) == ["own.qkv", "own.proj", "layer.self_attn"]
    assert attention_layers(WindowAttention()) == ["qkv", "proj"]
    assert attention_layers(nn.Sequential(nn.Linear(2, 2))) == []


def test_a_network_without_attention_or_a_machine_without_peft(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        InputError, match=r"needs the package peft: pip install 'regallery\[peft\]'"
    ):
        check_part(network, "lora")
    monkeypatch.undo()
    pytest.importorskip("peft")
    with pytest.raises(InputError, match="no attention layers, so it cannot have adapters"):
        check_part(nn.Sequential(nn.Linear(2, 2)), "lora")


def test_only_adapters_are_trained_and_the_network_begins_as_it_was(network):
    pytest.importorskip("peft")
    made, state = copy.deepcopy(network), torch.random.get_rng_state()
    check_part(made, "lora")
    assert torch.equal(torch.random.get_rng_state(), state)
    trained = [name for name, each in made.named_parameters() if each.requires_grad]
    assert len(trained) == 8 and all(".lora_" in name for name in trained)
    images = batch(0)[0].images
    torch.testing.assert_close(made(images), network(images))
    again = copy.deepcopy(network)
    add_lora(again)
    for (_, one), (_, other) in zip(made.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other)


def test_plain_weights_remain_that_give_the_features_of_the_adapters(network):
    """Only matrices of attention have changed, and the statistics of batch normalization."""
    pytest.importorskip("peft")
    trainer = trainer_of(network)
    losses = [trainer.step(batch(n % 2), of=1, factor=1, seed=n)["clusters"] for n in range(40)]
    assert losses[-1] < losses[0]
    images = batch(9)[0].images
    trainer.network.train()  # in evaluation, PyTorch has a way of its own around the adapters
    with torch.no_grad():
        expected = copy.deepcopy(trainer.network)(images)
    done = trainer.finished()
    before, after = network.state_dict(), done.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        "own.qkv.weight", "own.proj.weight", "layer.self_attn.in_proj_weight",
        "layer.self_attn.out_proj.weight", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked",
    }  # fmt: skip
    plain = Network()
    plain.load_state_dict(after)
    with torch.no_grad():
        torch.testing.assert_close(plain.train()(images), expected)


def test_a_state_goes_on_to_the_same_bits(network):
    pytest.importorskip("peft")
    whole, first, second = (trainer_of(network) for _ in range(3))
    for number in range(3):
        whole.step(batch(number), of=1, factor=1, seed=number)
    first.step(batch(0), of=1, factor=1, seed=0)
    second.load_state(copy.deepcopy(first.state()))
    for number in (1, 2):
        second.step(batch(number), of=1, factor=1, seed=number)
    wanted, found = (each.finished().state_dict() for each in (whole, second))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
