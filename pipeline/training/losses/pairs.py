"""A loss of pairs of rows that a person has judged: the same identity, or different ones.

The margin-based loss of Wu et al., "Sampling matters in deep embedding learning" (ICCV 2017), on
cosines s instead of distances, with a fixed boundary:

    same: max(0, threshold + margin - s)    different: max(0, s - threshold + margin)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.training.losses.inputs import full_precision, without_autocast


@dataclass(frozen=True)
class PairSettings:
    """Which cosines judged pairs must reach. Raise InputError if impossible."""

    threshold: float = 0.5
    """Cosine that separates same from different: the gallery's threshold, where there is one."""
    margin: float = 0.1
    """How far from the threshold a pair must lie to cost nothing."""
    weight: float = 1.0
    """Weight of this loss beside the others."""

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise InputError(f"`threshold` must lie from -1 to 1, not {self.threshold}")
        if not self.margin >= 0:
            raise InputError(f"`margin` must be 0 or more, not {self.margin}")
        if not self.weight >= 0:
            raise InputError(f"`weight` must be 0 or more, not {self.weight}")


@dataclass(frozen=True)
class JudgedPairs:
    """The features of L judged pairs. ValueError if the tensors do not fit, or L is 0."""

    first: Tensor
    """`[L, D]`."""
    second: Tensor
    """`[L, D]`."""
    same: Tensor
    """bool `[L]`: whether a person said that both show one identity."""

    def __post_init__(self) -> None:
        shape = self.first.shape
        if self.first.ndim != 2 or not len(self.first) or self.second.shape != shape:
            raise ValueError(
                f"first and second must be [L, D] of at least one pair, not {list(shape)} and"
                f" {list(self.second.shape)}"
            )
        if self.same.shape != shape[:1] or self.same.dtype != torch.bool:
            raise ValueError(f"same must be bool [{shape[0]}], not {self.same.dtype}")


def pair_loss(pairs: JudgedPairs, settings: PairSettings = PairSettings()) -> Tensor:
    """The mean loss of judged pairs; the weight is not applied.

    >>> x = torch.tensor([[1.0, 0], [1, 0]])
    >>> y = torch.tensor([[4.0, 3], [4, 3]])  # both cosines are 0.8
    >>> pair_loss(JudgedPairs(x, y, torch.tensor([True, False])))
    tensor(0.2000)
    """
    first, second = full_precision(pairs.first), full_precision(pairs.second)
    with without_autocast(first):
        cosines = (F.normalize(first, dim=1) * F.normalize(second, dim=1)).sum(1)
        signs = torch.where(pairs.same, -1.0, 1.0)
        return F.relu(signs * (cosines - settings.threshold) + settings.margin).mean()
