"""ArcFace: classes are directions, and a row's own class must be nearer by an angle.

Deng et al., "ArcFace: additive angular margin loss for deep face recognition" (CVPR 2019). With
theta_k the angle between the feature and the weights of class k, and y the class of the row, the
loss is the cross entropy of the logits scale cos(theta_k), that of y being scale cos(theta_y +
margin).

cos(theta + margin) rises again where theta + margin passes pi; from there on its place is taken by
cos(theta) - margin sin(margin), as is common, so that the logit falls with the angle everywhere.
The sine has an infinite derivative at angles 0 and pi: within about 0.001 of them it is taken as
constant, so that no gradient is infinite, or NaN where a rounded cosine is above 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.training.losses.inputs import check_batch, unit_rows, without_autocast

_LEAST_SQUARED_SINE = 1e-6


@dataclass(frozen=True)
class ArcFaceSettings:
    """How far apart classes must lie. Raise InputError if impossible."""

    scale: float = 30.0
    """Multiplies cosines; the paper's 64 is for tens of thousands of classes."""
    margin: float = 0.5
    """Radians."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"`scale` must be more than 0, not {self.scale}")
        if not 0 <= self.margin < math.pi / 2:
            raise InputError(f"`margin` must lie from 0 to below pi / 2, not {self.margin}")


class ArcFaceHead(nn.Module):
    """The loss of directions of classes, for features behind the neck.

    >>> head = ArcFaceHead(2, 2, ArcFaceSettings(scale=1, margin=0))
    >>> _ = head.load_state_dict({"weight": torch.eye(2)})
    >>> head(torch.tensor([[5.0, 0]]), torch.tensor([0]))
    tensor(0.3133, grad_fn=<NllLossBackward0>)
    """

    def __init__(
        self,
        dimension: int,
        classes: int,
        settings: ArcFaceSettings = ArcFaceSettings(),
        *,
        generator: torch.Generator | None = None,
    ):
        """Draw the weights `[classes, dimension]`: directions of about unit length.

        Only the direction of a class counts, and a step of Adam turns short weights farther. With a
        deviation of 0.01, as is common, a training from random weights learned less.
        """
        super().__init__()
        self.settings = settings
        self.weight = nn.Parameter(torch.empty(classes, dimension))
        nn.init.normal_(self.weight, std=dimension**-0.5, generator=generator)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of features `[B, D]`, labels int64 `[B]` from 0. ValueError if not."""
        check_batch(features, labels, len(self.weight))
        with without_autocast(features):
            unit = unit_rows(features)
            cosines = unit @ unit_rows(self.weight).T.to(unit.dtype)
            own = cosines[torch.arange(len(labels), device=labels.device), labels]
            is_own = labels[:, None] == torch.arange(len(self.weight), device=labels.device)
            logits = torch.where(is_own, self._with_margin(own)[:, None], cosines)
            return F.cross_entropy(self.settings.scale * logits, labels)

    def _with_margin(self, cosines: Tensor) -> Tensor:
        margin = self.settings.margin
        sines = (1 - cosines.square()).clamp_min(_LEAST_SQUARED_SINE).sqrt()
        turned = cosines * math.cos(margin) - sines * math.sin(margin)
        beyond = cosines - margin * math.sin(margin)
        return torch.where(cosines > -math.cos(margin), turned, beyond)
