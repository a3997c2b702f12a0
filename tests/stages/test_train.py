"""Training on prepared crops: what is learned, how a killed run goes on, and several workers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import demo_network
from pipeline.errors import InputError, RunError
from pipeline.model.backends.torch_network import torch_threads
from pipeline.model.networks import NetworkFile
from pipeline.model.trainable import TrainableFile, TrainableModule, load_weights_file
from pipeline.stages import train
from pipeline.stages.train import (
    CHECKPOINT,
    TrainingSettings,
    TrainingWork,
    train_here,
    train_on_ray,
)
from pipeline.training.augmentation import AugmentationSettings
from pipeline.training.loop import StepSettings
from pipeline.training.losses.cluster_memory import ClusterMemory, ClusterMemorySettings
from pipeline.training.objectives import ClusterObjective
from pipeline.training.samplers import BatchSettings
from pipeline.training.schedules import LearningSchedule
from tests.training.test_lora import Network

DEMO = str(Path(demo_network.__file__).with_name("demo.safetensors"))
ROWS, CLUSTERS = 48, 6


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side: threads that wait for each other would take all of their time."""
    with torch_threads(1):
        yield


@pytest.fixture
def work(tmp_path):
    """Crops of six colors, two epochs of four steps with batches of twelve."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLUSTERS
    colors = rng.integers(0, 255, (CLUSTERS, 3, 1, 1))[labels]
    crops = np.clip(colors + rng.integers(-40, 40, (ROWS, 3, 128, 64)), 0, 255)
    np.save(tmp_path / "crops.npy", crops.astype(np.uint8))
    network = TrainableFile(NetworkFile("demo", DEMO))
    centroids = torch.nn.functional.normalize(torch.randn(
        CLUSTERS, 128, generator=torch.Generator().manual_seed(0)))  # fmt: skip
    settings = TrainingSettings(
        epochs=2,
        batches=BatchSettings(CLUSTERS, 2),
        steps=StepSettings("everything", 1e-3),
        schedule=LearningSchedule("step", milestones=(1,), gamma=0.5),
        micro_batches=2,
        seed=5,
    )
    (tmp_path / "run").mkdir()
    return TrainingWork(
        network=network,
        start=None,
        objective=ClusterObjective(ClusterMemory(centroids)),
        crops=tmp_path / "crops.npy",
        labels=labels,
        cameras=np.arange(ROWS) % 3,
        folder=tmp_path / "run",
        about="these crops",
        settings=settings,
    )


def fresh(work: TrainingWork, name: str, **changes) -> TrainingWork:
    """The same work in another folder, from the start."""
    folder = work.folder.with_name(name)
    folder.mkdir(exist_ok=True)
    memory = ClusterMemory(work.objective.memory.centroids.clone())
    return replace(work, folder=folder, objective=ClusterObjective(memory), **changes)


def test_training_learns_and_leaves_weights_and_losses(work):
    settings = replace(
        work.settings,
        epochs=6,
        schedule=LearningSchedule("none"),
        augmentation=AugmentationSettings(0, 0, 0),
    )
    fixed = ClusterMemory(work.objective.memory.centroids, ClusterMemorySettings(momentum=1))
    steps: list[int] = []
    lines: list[tuple[str, int]] = []

    def progress(name, length):
        lines.append((name, length))
        return steps.append

    done = train_here(
        replace(work, settings=settings, objective=ClusterObjective(fixed)), progress=progress
    )
    losses = [each["clusters"] for each in done.losses]
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert lines == [("training", 24)] and sum(steps) == 24
    module = work.network.module()
    before = module.embed.weight.clone()
    load_weights_file(module, done.weights)
    assert not torch.equal(before, module.embed.weight)
    assert not (work.folder / CHECKPOINT).exists()


def test_a_schedule_goes_on_from_an_earlier_training(work, monkeypatch):
    factors = []

    class Spy(train.Trainer):
        def step(self, micro_batches, *, of, factor, seed):
            factors.append(factor)
            return super().step(micro_batches, of=of, factor=factor, seed=seed)

    monkeypatch.setattr(train, "Trainer", Spy)
    schedule = LearningSchedule("cosine", steps=6)
    train_here(replace(work, settings=replace(work.settings, schedule=schedule, epochs_before=3)))
    assert factors == [schedule.factor(3)] * 4 + [schedule.factor(4)] * 4


def test_adapters_of_a_module_become_plain_weights(work):
    pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TrainableModule(Network(), {"height": 128, "width": 64})
    settings = replace(work.settings, steps=StepSettings("lora", 1e-2))
    memory = ClusterMemory(torch.eye(8)[:CLUSTERS])
    lora = replace(work, network=network, settings=settings, objective=ClusterObjective(memory))
    done = train_here(lora)
    before, after = network.module(), network.module(done.weights)
    assert not torch.equal(before.own.qkv.weight, after.own.qkv.weight)
    assert torch.equal(before.layer.linear1.weight, after.layer.linear1.weight)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_killed_run_goes_on_to_the_same_bits(work, monkeypatch, epoch):
    whole = train_here(fresh(work, "whole"))
    again, epochs = fresh(work, "again"), []

    def killed(work, trainer, chosen, number, step, real=train._train_epoch):
        epochs.append(number)
        if number == epoch and epochs.count(epoch) == 1:
            raise RuntimeError("killed")
        return real(work, trainer, chosen, number, step)

    monkeypatch.setattr(train, "_train_epoch", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train_here(again)
    done = train_here(fresh(work, "again"))
    assert epochs == [*range(epoch), epoch, *range(epoch, 2)]
    assert done.weights.read_bytes() == whole.weights.read_bytes()
    assert done.losses == whole.losses


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_checkpoint_of_other_work_or_a_damaged_one_is_not_used(work, damage, monkeypatch):
    real = train._finish
    monkeypatch.setattr(train, "_finish", lambda *_: None)
    train_here(fresh(work, "run"))
    monkeypatch.setattr(train, "_finish", real)
    path = work.folder / CHECKPOINT
    assert path.exists()
    if damage is not None:
        path.write_bytes(damage)
    other = fresh(work, "run", about="other crops" if damage is None else work.about)
    done = train_here(other)
    assert done.weights.read_bytes() == train_here(fresh(work, "whole")).weights.read_bytes()


def test_shares_that_do_not_fit(work, monkeypatch):
    with pytest.raises(InputError, match="`epochs` must be at least 1"):
        TrainingSettings(epochs=0)
    with pytest.raises(InputError, match="`micro_batches` must divide the 16 identities"):
        TrainingSettings(micro_batches=3)
    monkeypatch.setattr(train, "ranks", lambda: (0, 3))
    with pytest.raises(InputError, match="cannot be shared by 3 workers"):
        train_here(work)


@pytest.mark.ray
def test_two_workers_come_to_the_weights_of_one(work, new_cluster, monkeypatch):
    """On a new cluster: two workers need all of its CPUs, and an actor that dies late holds one."""
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that only waits
    one = train_here(fresh(work, "one"))
    two = train_on_ray(fresh(work, "two"), workers=2)
    assert two.losses == [pytest.approx(each, rel=1e-4) for each in one.losses]
    first, second = work.network.module(one.weights), work.network.module(two.weights)
    for (name, mine), theirs in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        scale = mine.abs().max().clamp(min=1e-3)
        assert ((mine - theirs).abs().max() / scale) < 1e-3, name
    assert sorted(path.name for path in two.weights.parent.iterdir()) == [
        "losses.json", "network.safetensors",
    ]  # fmt: skip
    monkeypatch.setattr(train, "_MOST_FAILURES", 0)  # each try starts another dozen processes
    bad = fresh(work, "bad", crops=work.folder / "missing.npy")
    with pytest.raises(RunError, match="training on Ray failed"):
        train_on_ray(bad, workers=1)
