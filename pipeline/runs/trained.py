"""Settings and result of a training with labels. Imports nothing heavy: the command line reads it
first.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pipeline.errors import InputError
from pipeline.runs.adapted import TrainedPart, check_training

if TYPE_CHECKING:
    from pipeline.core.evaluation.bootstrap import Interval
    from pipeline.stages.train import TrainingSettings
    from pipeline.training.loop import Precision
    from pipeline.training.objectives import IdentityObjectiveSettings

TrainedHead = Literal["softmax", "arcface"]
TrainedTriplets = Literal["batch-hard", "batch-all", "semi-hard", "distance-weighted", "none"]
TrainedSchedule = Literal["cosine", "step", "none"]


@dataclass(frozen=True)
class SupervisedSettings:
    """How a network is trained on crops of known people."""

    epochs: int = 60
    """Epochs of training; each draws about as many crops as there are to train on."""
    part: TrainedPart = "everything"
    """What is trained: batch-norm statistics only, the last layer (head), the last blocks with half
    of the weights (last-stage), low-rank adapters of a transformer's attention (lora), or
    everything."""
    learning_rate: float = 3.5e-4
    """Largest learning rate of Adam."""
    weight_decay: float = 5e-4
    """Weight decay of Adam."""
    people: int = 16
    """People in a batch."""
    crops: int = 4
    """Crops of each person in a batch, from as many cameras as possible."""
    head: TrainedHead = "softmax"
    """Loss that tells the people apart: a label-smoothed softmax (smoothing 0.1), or ArcFace (scale
    30, margin 0.5)."""
    triplets: TrainedTriplets = "batch-hard"
    """Triplets of a batch that the network learns from, too (margin 0.3, on unit vectors)."""
    schedule: TrainedSchedule = "cosine"
    """How the learning rate falls after the warm-up: along a cosine to 0, in steps (to a tenth
    after half of the epochs, and to a hundredth after three quarters), or not at all."""
    warmup: int | None = None
    """Epochs in which the learning rate rises from a tenth (default: a tenth of the epochs)."""
    color_jitter: float = 0.0
    """By how much brightness, color cast, contrast and saturation of the crops vary at random (0.2:
    by up to 20 %), beside mirroring, shifts and erasing; 0 for not at all."""
    shift: int = 10
    """Pixels by which crops are shifted at random, at most, in each direction (10 is meant for
    crops of 256 x 128)."""
    erasing: float = 0.5
    """Probability that a part of a crop is hidden (random erasing)."""
    held_out: float = 0.1
    """Share of the people who are never trained on: the network is measured on them."""
    micro_batches: int = 1
    """Parts of a batch, each normalized on its own; the workers share them, so give a multiple of
    the workers. The result depends on this number, and not on the number of workers."""
    workers: int = 0
    """Ray workers that train together, each with the GPUs of an actor; 0 to train in this
    process."""
    seed: int = 0
    """Seed of first weights, batches and augmentation."""

    def __post_init__(self) -> None:
        check_training(self)
        for name, known in (
            ("part", TrainedPart),
            ("head", TrainedHead),
            ("triplets", TrainedTriplets),
            ("schedule", TrainedSchedule),
        ):
            if (given := getattr(self, name)) not in get_args(known):
                raise InputError(
                    f"`{name}` must be one of {', '.join(get_args(known))}, not {given}"
                )
        if self.epochs < 1:
            raise InputError(f"`epochs` must be at least 1, not {self.epochs}")
        if self.shift < 0:
            raise InputError(f"`shift` must be at least 0, not {self.shift}")
        if not 0 <= self.erasing <= 1:
            raise InputError(f"`erasing` must lie from 0 to 1, not {self.erasing}")
        if self.weight_decay < 0:
            raise InputError(f"`weight_decay` must be at least 0, not {self.weight_decay}")
        if self.warmup is not None and not 0 <= self.warmup < self.epochs:
            raise InputError(
                f"`warmup` must be at least 0 and less than the {self.epochs} `epochs`, not"
                f" {self.warmup}"
            )
        if self.triplets != "none" and min(self.people // self.micro_batches, self.crops) < 2:
            raise InputError(
                "`triplets` need at least 2 `crops` of each of 2 `people` in a batch, and in each"
                " of its `micro_batches`; give more, or `triplets` none"
            )

    def training(self, precision: "Precision") -> "TrainingSettings":
        """The settings of the training itself."""
        from pipeline.stages.train import TrainingSettings
        from pipeline.training.augmentation import AugmentationSettings
        from pipeline.training.loop import StepSettings
        from pipeline.training.samplers import BatchSettings
        from pipeline.training.schedules import LearningSchedule

        falls = {self.epochs // 2, 3 * self.epochs // 4} - {0}
        return TrainingSettings(
            epochs=self.epochs,
            batches=BatchSettings(self.people, self.crops),
            steps=StepSettings(self.part, self.learning_rate, self.weight_decay, precision),
            schedule=LearningSchedule(
                self.schedule,
                warmup=self.epochs // 10 if self.warmup is None else self.warmup,
                milestones=tuple(sorted(falls)),
                steps=self.epochs,
            ),
            augmentation=AugmentationSettings(
                pad=self.shift, erase=self.erasing, color_jitter=self.color_jitter
            ),
            micro_batches=self.micro_batches,
            seed=self.seed,
        )

    def objective(self) -> "IdentityObjectiveSettings":
        """The losses, without a neck: the features that are compared later are trained as they are.

        A network that needs a neck ends with one of its own.
        """
        from pipeline.training.losses.triplet import TripletSettings
        from pipeline.training.objectives import IdentityObjectiveSettings

        triplet = None if self.triplets == "none" else TripletSettings(self.triplets, unit=True)
        return IdentityObjectiveSettings(self.head, neck=False, triplet=triplet)


@dataclass(frozen=True)
class HeldOutFigures:
    """How well a network recognizes people that it was not trained on.

    Each of `queries` crops is ranked against all other crops of the held-out people; crops of the
    same person under its own camera do not count. The `interval` is that of mAP.
    """

    people: int
    queries: int
    mean_ap: float = field(metadata={"json": "mAP"})
    rank_1: float
    interval: "Interval"


@dataclass(frozen=True)
class LeftOut:
    """Images that were not trained on, by reason; those that were `rejected` could not be read."""

    junk: int
    distractors: int
    unknown: int
    rejected: int


@dataclass(frozen=True)
class SupervisedResult:
    """The result of a training with labels.

    `network` is the file of the trained weights, `people` and `crops` count what it was trained on.
    By verdicts, `identities_merged` identities are now a part of another one, and
    `crops_identified` images without a person have one.
    `losses` has the mean of each loss, by epoch. `before` is None for a network that
    began with random weights; both are None if no held-out person is seen by two cameras.
    """

    out: Path
    network: Path
    people: int
    crops: int
    identities_merged: int
    crops_identified: int
    left_out: LeftOut = field(metadata={"json": "crops_left_out"})
    losses: list[dict[str, float]]
    before: HeldOutFigures | None = field(metadata={"json": "figures_before"})
    after: HeldOutFigures | None = field(metadata={"json": "figures_after"})
    seconds: float
