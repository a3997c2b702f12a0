"""Settings and result of an adaptation. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.core.clusters.stability import EpsChoice
    from pipeline.core.identities.clustering import Agreement
    from pipeline.runs.acceptance import AcceptanceTest
    from pipeline.stages.train import TrainingSettings
    from pipeline.training.loop import Precision

TrainedPart = Literal["statistics", "head", "last-stage", "lora", "everything"]


@dataclass(frozen=True)
class RoundSettings:
    """How a network is adapted to cameras that nobody has labeled."""

    rounds: int = 5
    """Rounds of clustering and training."""
    round_epochs: int = 2
    """Epochs of training in each round; an epoch draws about as many crops as are in clusters."""
    part: TrainedPart = "last-stage"
    """What is trained: batch-norm statistics only, the last layer (head), the last blocks with half
    of the weights (last-stage), low-rank adapters of a transformer's attention (lora), or
    everything. The statistics follow the new cameras in all cases."""
    learning_rate: float = 3.5e-4
    """Learning rate of Adam in the first round; it falls along a cosine to the last."""
    people: int = 16
    """Clusters in a batch."""
    crops: int = 4
    """Crops of each cluster in a batch, from as many cameras as possible."""
    eps: float | None = None
    """Largest Jaccard distance of near rows (default: where the number of clusters is most
    stable)."""
    min_samples: int = 4
    """Rows near a row, itself included, that make it the core of a cluster."""
    color_jitter: float = 0.0
    """By how much brightness, color cast, contrast and saturation of the crops vary at random (0.2:
    by up to 20 %), beside mirroring, shifts and erasing; 0 for not at all."""
    held_out: float = 0.1
    """Share of the tracklets that are never trained on: the network is tested on them."""
    untested: bool = False
    """Write the network even if the archive has nothing to test it on."""
    micro_batches: int = 1
    """Parts of a batch, each normalized on its own; the workers share them, so give a multiple of
    the workers. The result depends on this number, and not on the number of workers."""
    workers: int = 0
    """Ray workers that train together, each with the GPUs of an actor; 0 to train in this
    process."""
    seed: int = 0
    """Seed of batches, augmentation and test."""

    def __post_init__(self) -> None:
        for name in ("rounds", "round_epochs", "min_samples"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if self.eps is not None and not 0 < self.eps < 1:
            raise InputError(f"`eps` must lie between 0 and 1, not {self.eps}")
        if not 0 < self.held_out < 1:
            raise InputError(f"`held_out` must lie between 0 and 1, not {self.held_out}")
        check_training(self)

    def training(self, number: int, precision: "Precision") -> "TrainingSettings":
        """The settings of the training in a round: every round draws other batches.

        The learning rate falls along a cosine from the first to the last round.
        """
        from pipeline.stages.train import TrainingSettings
        from pipeline.training.augmentation import AugmentationSettings
        from pipeline.training.loop import StepSettings
        from pipeline.training.samplers import BatchSettings
        from pipeline.training.schedules import LearningSchedule

        return TrainingSettings(
            epochs=self.round_epochs,
            batches=BatchSettings(self.people, self.crops),
            steps=StepSettings(self.part, self.learning_rate, precision=precision),
            schedule=LearningSchedule("cosine", steps=self.rounds * self.round_epochs),
            epochs_before=(number - 1) * self.round_epochs,
            augmentation=AugmentationSettings(color_jitter=self.color_jitter),
            micro_batches=self.micro_batches,
            seed=1000 * self.seed + number,
        )


@dataclass(frozen=True)
class AdaptRound:
    """One round: the clusters that were found, and the losses of the training on them.

    `rows_clustered` counts the rows that may be trained on, `noise` those of them that are in no
    cluster, and `cameras_per_cluster` is a mean. `agreement` compares clusters with identities,
    where the archive has identities. `losses` has the mean of each loss, by epoch.
    """

    number: int
    rows_clustered: int
    clusters: int
    noise: int
    cameras_per_cluster: float
    eps: float
    choice: "EpsChoice | None"
    agreement: "Agreement | None"
    losses: list[dict[str, float]]


@dataclass(frozen=True)
class Adapted:
    """The result of an adaptation.

    `network` is the file of the adapted weights, None if they are not accepted. `crops` counts the
    images whose features were extracted, and `rejected` those that could not be read. `test`
    compares the network with the one from before; it is None if the archive has nothing to test on,
    for the reason `untested`.
    """

    out: Path
    network: Path | None
    rounds: tuple[AdaptRound, ...] = field(metadata={"json": "rounds_done"})
    crops: int
    rejected: int
    test: "AcceptanceTest | None"
    untested: str | None
    report: Path = field(metadata={"json": "report_html"})
    seconds: float

    @property
    def outcome(self) -> str:
        """One sentence about the result, for people."""
        if self.test is not None:
            return self.test.reason
        return f"the new network is not tested ({self.untested})"


class _TrainingNumbers(Protocol):
    """What every training is told."""

    @property
    def people(self) -> int: ...
    @property
    def crops(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def color_jitter(self) -> float: ...
    @property
    def held_out(self) -> float: ...
    @property
    def micro_batches(self) -> int: ...
    @property
    def workers(self) -> int: ...


def check_training(settings: _TrainingNumbers) -> None:
    """Raise InputError for numbers with which no network can be trained."""
    for name in ("people", "crops", "micro_batches"):
        if getattr(settings, name) < 1:
            raise InputError(f"`{name}` must be at least 1, not {getattr(settings, name)}")
    if settings.workers < 0:
        raise InputError(f"`workers` must be at least 0, not {settings.workers}")
    if settings.micro_batches % max(1, settings.workers):
        raise InputError(
            f"{settings.workers} `workers` cannot share {settings.micro_batches} `micro_batches`:"
            " give a multiple of the workers"
        )
    if settings.people < 2:
        raise InputError("`people` must be at least 2: a network learns from differences")
    if not settings.learning_rate > 0:
        raise InputError(f"`learning_rate` must be above 0, not {settings.learning_rate}")
    if not 0 <= settings.color_jitter <= 1:
        raise InputError(f"`color_jitter` must lie from 0 to 1, not {settings.color_jitter}")
    if not 0 <= settings.held_out < 1:
        raise InputError(f"`held_out` must be from 0 to below 1, not {settings.held_out}")
    if settings.people % settings.micro_batches:
        raise InputError(
            f"`micro_batches` {settings.micro_batches} must divide `people` {settings.people}"
        )
