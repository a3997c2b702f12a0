"""Identities as classes: the batch-norm neck, and the label-smoothed softmax behind it.

Luo et al., "Bag of tricks and a strong baseline for deep person re-identification" (CVPR
workshops 2019). The feature before the neck is for triplets; the one behind it is for classes, and
for the comparison of crops later.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.training.losses.inputs import check_batch, full_precision, without_autocast


@dataclass(frozen=True)
class SoftmaxSettings:
    """How sure the classes must become. Raise InputError if impossible."""

    smoothing: float = 0.1
    """Share of a row's target that all K classes get alike (Szegedy et al., CVPR 2016)."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError(f"`smoothing` must lie from 0 to below 1, not {self.smoothing}")


class BNNeck(nn.BatchNorm1d):
    """A batch norm of features `[B, D]` without a shift, so that classes lie around the origin.

    >>> neck = BNNeck(4)
    >>> [name for name, each in neck.named_parameters() if each.requires_grad]
    ['weight']
    """

    def __init__(self, dimension: int):
        super().__init__(dimension)
        self.bias.requires_grad_(False)


class SoftmaxHead(nn.Module):
    """The loss of a linear classifier without bias, for features behind the neck.

    With z = f W^T and K classes: -(1 - smoothing) log p_y - smoothing / K sum over k of log p_k, p
    the softmax of z.

    >>> head = SoftmaxHead(2, 2, SoftmaxSettings(smoothing=0))
    >>> _ = head.load_state_dict({"weight": torch.eye(2)})
    >>> head(torch.tensor([[1.0, 0]]), torch.tensor([0]))
    tensor(0.3133, grad_fn=<NllLossBackward0>)
    """

    def __init__(
        self,
        dimension: int,
        classes: int,
        settings: SoftmaxSettings = SoftmaxSettings(),
        *,
        generator: torch.Generator | None = None,
    ):
        """Draw the weights `[classes, dimension]` from a normal distribution of deviation 0.001."""
        super().__init__()
        self.settings = settings
        self.weight = nn.Parameter(torch.empty(classes, dimension))
        nn.init.normal_(self.weight, std=0.001, generator=generator)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of features `[B, D]`, labels int64 `[B]` from 0. ValueError if not."""
        check_batch(features, labels, len(self.weight))
        with without_autocast(features):
            wide = full_precision(features)
            logits = wide @ self.weight.T.to(wide.dtype)
            return F.cross_entropy(logits, labels, label_smoothing=self.settings.smoothing)
