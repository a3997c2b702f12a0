"""Training on prepared crops: epochs of steps, a checkpoint after each, in one process or on Ray.

Batches and augmentation are functions of the seed, the epoch and the row. So a run that was killed
goes on from its last epoch to the same weights, and several workers, each with a share of every
batch, come to the weights of one, up to the order in which gradients are added.
"""

import gc
import json
import logging
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.archive.video.ahead import ahead
from pipeline.errors import InputError, RunError
from pipeline.model.input.preprocessing import padding_color, standardize
from pipeline.model.trainable import TrainableNetwork, weights_bytes
from pipeline.output_files import replace_file
from pipeline.stages.execution import StartProgress, Step, silent
from pipeline.training.augmentation import AugmentationSettings, augment
from pipeline.training.loop import MicroBatch, StepSettings, Trainer
from pipeline.training.objectives import Objective
from pipeline.training.ranks import ranks
from pipeline.training.samplers import BatchSettings, EpochBatches, IdentityBatches
from pipeline.training.schedules import LearningSchedule

_log = logging.getLogger(__name__)

CHECKPOINT = "training.pth"
WEIGHTS = "network.safetensors"
_LOSSES = "losses.json"
_RAY = "ray"
_STEPS_AHEAD = 2
_MOST_FAILURES = 3


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained on labeled crops. Raise InputError if impossible."""

    epochs: int = 2
    """How often about as many crops as there are labeled ones are seen."""
    batches: BatchSettings = field(default_factory=BatchSettings)
    steps: StepSettings = field(default_factory=StepSettings)
    schedule: LearningSchedule = field(default_factory=lambda: LearningSchedule("none"))
    """Of the learning rate, by epoch."""
    epochs_before: int = 0
    """Epochs of the schedule that earlier trainings have done."""
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    micro_batches: int = 1
    """Parts of a batch with a normalization and losses of their own; workers share them."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"`epochs` must be at least 1, not {self.epochs}")
        if self.micro_batches < 1 or self.batches.identities % self.micro_batches:
            raise InputError(
                f"`micro_batches` must divide the {self.batches.identities} identities of a batch,"
                f" which {self.micro_batches} does not"
            )


@dataclass(frozen=True)
class HardRows:
    """The `weights` `[N]` and the `rivals` `[M, 2]` of `IdentityBatches`."""

    weights: NDArray[np.float64] | None = None
    rivals: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TrainingWork:
    """All that a worker needs to train: it sees `crops` and `folder`.

    `crops` is the file of `prepare_crops`; the rows have `labels` int64 `[N]` (below 0: left out),
    `cameras` int64 `[N]` from 0. `hard` says which rows are drawn more often, and beside each
    other. `objective` is as it is before the first step. `about` is a text of all else that decides
    about the result.
    """

    network: TrainableNetwork
    start: Path | None
    objective: Objective
    crops: Path
    labels: NDArray[np.int64]
    cameras: NDArray[np.int64]
    folder: Path
    about: str
    settings: TrainingSettings = TrainingSettings()
    hard: HardRows | None = None


@dataclass(frozen=True)
class Trained:
    """The file of the trained weights, and the mean of each loss in every epoch."""

    weights: Path
    losses: list[dict[str, float]]


def train_here(
    work: TrainingWork, device: str = "cpu", progress: StartProgress = silent
) -> Trained:
    """Train in this process, or as one of the processes of a `torch.distributed` group.

    Goes on from the checkpoint in `work.folder` if that is of the same work. Process 0 writes.
    Raise RunError if a loss is not finite or a file cannot be written.
    """
    settings, (rank, count) = work.settings, ranks()
    if settings.micro_batches % count:
        raise InputError(
            f"`micro_batches` {settings.micro_batches} cannot be shared by {count} workers equally"
        )
    trainer = Trainer(work.network.module(work.start), work.objective, settings.steps, device)
    hard = HardRows() if work.hard is None else work.hard
    batches = IdentityBatches(
        work.labels,
        work.cameras,
        settings.batches,
        weights=hard.weights,
        rivals=hard.rivals,
        seed=settings.seed,
    )
    losses = _go_on(work, trainer)
    step = progress("training", settings.epochs * batches.steps)
    step(len(losses) * batches.steps)
    for epoch in range(len(losses), settings.epochs):
        found = _train_epoch(work, trainer, batches.epoch(epoch), epoch, step)
        _log.info("epoch %d of %d: %s", epoch + 1, settings.epochs, found)
        losses.append(found)
        if rank == 0:
            _save(work, trainer, losses)
    if rank == 0:
        _finish(work.folder, trainer, losses)
    return Trained(work.folder / WEIGHTS, losses)


def train_on_ray(work: TrainingWork, workers: int, gpus: float = 0) -> Trained:
    """Train with several workers of a running Ray cluster, each with a share of every batch.

    Each has one CPU, and `gpus` GPUs if above 0. All must see the folder of the work. Lost workers
    are replaced, and training goes on from the last epoch. Raise RunError if it fails for good.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    # After an extraction that failed, Ray Data's actors live until its error is collected. They
    # hold CPUs, which this training would wait for without end.
    gc.collect()
    stored = ray.put(work)
    trainer = TorchTrainer(
        _train_share,
        train_loop_config={"work": stored},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(
            storage_path=str(work.folder.absolute()),
            name=_RAY,
            failure_config=FailureConfig(max_failures=_MOST_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        raise RunError(
            f"training on Ray failed ({error}); the same command goes on from its last epoch"
        ) from error
    finally:
        shutil.rmtree(work.folder / _RAY, ignore_errors=True)  # Ray's notes about its workers
    return _read(work.folder)


def finished_training(folder: Path) -> Trained | None:
    """What the training in a folder came to; None if it has not finished."""
    if not (folder / WEIGHTS).exists() or (folder / CHECKPOINT).exists():
        return None
    return _read(folder)


def _train_share(config: dict[str, Any]) -> None:
    """Train as one of the workers of `train_on_ray`."""
    import ray
    import ray.train
    from ray.train.torch import get_device

    torch.set_num_threads(1)
    done = train_here(ray.get(config["work"]), str(get_device()))
    ray.train.report({"epochs": len(done.losses)})


def _train_epoch(
    work: TrainingWork, trainer: Trainer, chosen: EpochBatches, epoch: int, step: Step
) -> dict[str, float]:
    """Take this process's share in the steps of an epoch; the means of the losses."""
    settings, (rank, count) = work.settings, ranks()
    share = settings.micro_batches // count
    mine = range(rank * share, (rank + 1) * share)
    parts = [chosen.shard(each, settings.micro_batches) for each in mine]
    means: dict[str, float] = {}
    for number, batches in enumerate(ahead(_prepared(work, parts, epoch), _STEPS_AHEAD)):
        found = trainer.step(
            batches,
            of=settings.micro_batches,
            factor=settings.schedule.factor(settings.epochs_before + epoch),
            seed=_seed(settings.seed, epoch, number) + mine.start,
        )
        for name, loss in found.items():
            means[name] = means.get(name, 0.0) + loss / len(chosen)
        step(1)
    return means


def _prepared(
    work: TrainingWork, parts: Sequence[EpochBatches], epoch: int
) -> Iterator[list[MicroBatch]]:
    """The micro-batches of each step: read, augmented, and standardized by the recipe."""
    crops = np.load(work.crops, mmap_mode="r")
    recipe = work.network.recipe()
    for number in range(len(parts[0])):
        made = []
        for part in parts:
            rows = part.rows[number]
            pixels = augment(
                torch.from_numpy(crops[rows]), rows, work.settings.augmentation,
                seed=work.settings.seed, epoch=epoch, turns=part.turns[number],
                fill=padding_color(recipe),
            )  # fmt: skip
            images = torch.from_numpy(standardize(pixels.numpy(), recipe))
            labels, cameras = (torch.from_numpy(each[rows]) for each in (work.labels, work.cameras))
            made.append(MicroBatch(images, labels, cameras))
        yield made


def _seed(seed: int, epoch: int, step: int) -> int:
    """A seed for a step, as far from those of others as chance has it."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0])


def _save(work: TrainingWork, trainer: Trainer, losses: list[dict[str, float]]) -> None:
    held = {"about": work.about, "losses": losses, "state": trainer.state()}
    replace_file(work.folder / CHECKPOINT, lambda file: torch.save(held, file))


def _go_on(work: TrainingWork, trainer: Trainer) -> list[dict[str, float]]:
    """Load the checkpoint of a killed run of the same work; the losses of its epochs."""
    path = work.folder / CHECKPOINT
    if not path.exists():
        return []
    try:
        held = torch.load(path, weights_only=True, map_location=trainer.device)
        if held["about"] != work.about:
            return []
        trainer.load_state(held["state"])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        _log.warning("%s: cannot be read (%s); the training begins anew", path, error)
        return []
    return list(held["losses"])


def _finish(folder: Path, trainer: Trainer, losses: list[dict[str, float]]) -> None:
    """Write the losses and the weights; the checkpoint is of no more use."""
    told, data = json.dumps(losses).encode(), weights_bytes(trainer.finished())
    replace_file(folder / _LOSSES, lambda file: file.write(told))
    replace_file(folder / WEIGHTS, lambda file: file.write(data))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _read(folder: Path) -> Trained:
    """What `_finish` wrote."""
    return Trained(folder / WEIGHTS, json.loads((folder / _LOSSES).read_text()))
