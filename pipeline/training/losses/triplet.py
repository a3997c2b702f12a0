"""Triplets: a row must be nearer to one of its own identity than to one of another.

Hermans et al., "In defense of the triplet loss for person re-identification" (2017). With the
Euclidean distances d of anchor and positive, and of anchor and negative:

    max(0, d_ap - d_an + margin), or log(1 + exp(d_ap - d_an)) with the soft margin

`mining` says which triplets of a batch count.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.training.losses.inputs import (
    check_batch,
    full_precision,
    unit_rows,
    without_autocast,
)
from pipeline.training.losses.mining import (
    all_triplets,
    distance_weighted_triplets,
    hardest_triplets,
    semi_hard_triplets,
)

Mining = Literal["batch-all", "batch-hard", "semi-hard", "distance-weighted"]


@dataclass(frozen=True)
class TripletSettings:
    """Which triplets cost how much. Raise InputError if impossible."""

    mining: Mining = "batch-hard"
    """Which triplets of a batch count."""
    margin: float = 0.3
    """How much farther a negative must be than a positive."""
    soft: bool = False
    """Take the soft margin instead, which has no size."""
    unit: bool = False
    """Scale features to unit length first; distance-weighted mining needs it."""
    weight: float = 1.0
    """Weight of this loss beside the others."""

    def __post_init__(self) -> None:
        if self.mining not in get_args(Mining):
            raise InputError(f"`mining` must be one of {', '.join(get_args(Mining))}")
        if not self.margin >= 0:
            raise InputError(f"`margin` must be 0 or more, not {self.margin}")
        if self.mining == "distance-weighted" and not self.unit:
            raise InputError("`mining` distance-weighted is for unit vectors: set `unit`")
        if not self.weight >= 0:
            raise InputError(f"`weight` must be 0 or more, not {self.weight}")


def triplet_loss(
    features: Tensor,
    labels: Tensor,
    settings: TripletSettings = TripletSettings(),
    *,
    seed: int = 0,
) -> Tensor:
    """The mean loss of the triplets of a batch; the weight is not applied.

    Features are `[B, D]`, labels int64 `[B]`. For batch-all the mean is over triplets that cost
    something, since most soon cost nothing. `seed` is for distance-weighted mining: give another
    one at each step. ValueError if a label is negative, or the batch has no triplet: that needs
    two rows of one identity and one of another.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [1.1]])
    >>> triplet_loss(x, torch.tensor([0, 0, 1]))  # rows 0 and 1 are anchors: 0.2 and 1.2
    tensor(0.7000)
    """
    check_batch(features, labels)
    with without_autocast(features):
        wide = unit_rows(features) if settings.unit else full_precision(features)
        distances = _distances(wide)
        anchors, positives, negatives = _mined(distances.detach(), labels, settings, wide, seed)
        if not len(anchors):
            raise ValueError(
                "the batch has no triplet: it needs two rows of one identity and one of another"
            )
        gaps = distances[anchors, positives] - distances[anchors, negatives]
        if settings.soft:
            return F.softplus(gaps).mean()
        losses = F.relu(gaps + settings.margin)
        if settings.mining == "batch-all":
            return losses.sum() / (losses > 0).sum().clamp_min(1)
        return losses.mean()


def _mined(
    distances: Tensor, labels: Tensor, settings: TripletSettings, features: Tensor, seed: int
) -> Tensor:
    if settings.mining == "batch-all":
        return all_triplets(labels)
    if settings.mining == "batch-hard":
        return hardest_triplets(distances, labels)
    if settings.mining == "semi-hard":
        return semi_hard_triplets(distances, labels)
    return distance_weighted_triplets(distances, labels, features.shape[1], seed)


def _distances(features: Tensor) -> Tensor:
    """Euclidean distances `[B, B]`; the gradient of equal rows is 0, not NaN."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares - 2 * features @ features.T
    return squared.clamp_min(1e-12).sqrt()
