"""What one step of training makes small: the sum of several losses of a batch."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.training.losses.arcface import ArcFaceHead, ArcFaceSettings
from pipeline.training.losses.camera_proxies import CameraProxies
from pipeline.training.losses.cluster_memory import ClusterMemory
from pipeline.training.losses.pairs import JudgedPairs, PairSettings, pair_loss
from pipeline.training.losses.softmax import BNNeck, SoftmaxHead, SoftmaxSettings
from pipeline.training.losses.triplet import TripletSettings, triplet_loss

IdentityHead = Literal["softmax", "arcface"]


class ClusterObjective(nn.Module):
    """The losses of an adaptation, whose labels are clusters.

    Call it for the weighted losses of a batch by name, whose sum is to be made small; after the
    backward pass, `update` lets the memories follow.

    >>> objective = ClusterObjective(ClusterMemory(torch.eye(2)))
    >>> objective(torch.tensor([[1.0, 1.0]]), torch.tensor([0]), torch.tensor([3]))
    {'clusters': tensor(0.6931)}
    """

    def __init__(
        self,
        memory: ClusterMemory,
        proxies: CameraProxies | None = None,
        pairs: PairSettings = PairSettings(),
    ):
        """Without `proxies`, cameras do not count."""
        super().__init__()
        self.memory, self.proxies, self.pairs = memory, proxies, pairs

    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        cameras: Tensor,
        judged: JudgedPairs | None = None,
        *,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """The losses of features `[B, D]` with clusters and cameras int64 `[B]`.

        No loss here is drawn at random, so `seed` changes nothing.
        """
        del seed
        losses = {"clusters": self.memory(features, labels)}
        if self.proxies is not None:
            weight = self.proxies.settings.weight
            losses["cameras"] = weight * self.proxies(features, labels, cameras)
        if judged is not None:
            losses["verdicts"] = self.pairs.weight * pair_loss(judged, self.pairs)
        return losses

    def update(self, features: Tensor, labels: Tensor, cameras: Tensor) -> None:
        """Move the memories toward the features `[B, D]` of a batch."""
        self.memory.update(features, labels)
        if self.proxies is not None:
            self.proxies.update(features, labels, cameras)


@dataclass(frozen=True)
class IdentityObjectiveSettings:
    """Which losses supervised training has. Raise InputError if there is none of that name."""

    head: IdentityHead = "softmax"
    """What classes are compared by."""
    neck: bool = True
    """A batch norm between features and head; False for a network that has one of its own, or
    whose features are compared as they are."""
    softmax: SoftmaxSettings = field(default_factory=SoftmaxSettings)
    arcface: ArcFaceSettings = field(default_factory=ArcFaceSettings)
    triplet: TripletSettings | None = field(default_factory=TripletSettings)
    """None for no triplets."""
    pairs: PairSettings = field(default_factory=PairSettings)

    def __post_init__(self) -> None:
        if self.head not in get_args(IdentityHead):
            raise InputError(f"`head` must be one of {', '.join(get_args(IdentityHead))}")


class IdentityObjective(nn.Module):
    """The losses of supervised training, whose labels are identities 0 to K - 1.

    The neck belongs to the trained network: features behind it are those that are compared. The
    head is of no use after the training.
    """

    def __init__(
        self,
        dimension: int,
        classes: int,
        settings: IdentityObjectiveSettings = IdentityObjectiveSettings(),
        *,
        generator: torch.Generator | None = None,
    ):
        """Draw the weights of the head for features of `dimension` numbers."""
        super().__init__()
        self.settings = settings
        self.neck: nn.Module = BNNeck(dimension) if settings.neck else nn.Identity()
        self.head: SoftmaxHead | ArcFaceHead = (
            SoftmaxHead(dimension, classes, settings.softmax, generator=generator)
            if settings.head == "softmax"
            else ArcFaceHead(dimension, classes, settings.arcface, generator=generator)
        )

    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        cameras: Tensor | None = None,
        judged: JudgedPairs | None = None,
        *,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """The weighted losses by name of features `[B, D]` before the neck, labels int64 `[B]`.

        Cameras do not count. The features of `judged` are before the neck too: the neck sees them
        with the batch. `seed` is for distance-weighted triplets: give another one at each step.
        """
        del cameras
        rows = len(features)
        extra = [] if judged is None else [judged.first, judged.second]
        behind = self.neck(torch.cat([features, *extra]))
        losses = {"identities": self.head(behind[:rows], labels)}
        if self.settings.triplet is not None:
            triplets = triplet_loss(features, labels, self.settings.triplet, seed=seed)
            losses["triplets"] = self.settings.triplet.weight * triplets
        if judged is not None:
            first, second = behind[rows:].chunk(2)
            pairs = JudgedPairs(first, second, judged.same)
            losses["verdicts"] = self.settings.pairs.weight * pair_loss(pairs, self.settings.pairs)
        return losses

    def update(self, features: Tensor, labels: Tensor, cameras: Tensor | None = None) -> None:
        """Nothing: the head is moved by its gradient."""


Objective = ClusterObjective | IdentityObjective
"""What a network is trained for."""
