"""The small network of `regallery demo`: six convolutions, and a linear embedding of four stripes.

It trains within minutes on a CPU, so that adaptation and training can be shown and tested.
"""

from collections.abc import Mapping, Set

import torch
from torch import nn

SIZE = (128, 64)
"""Height and width of the input."""

_WIDTHS = ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 96, 1))
_STRIPES = 4
_FEATURE = 128


class DemoNetwork(nn.Module):
    """Six convolutions, an average over each quarter of the height, and a linear embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inside, out, 3, stride, padding=1, bias=False)
            for inside, out, stride in _WIDTHS
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _, out, _ in _WIDTHS)
        self.embed = nn.Linear(_WIDTHS[-1][1] * _STRIPES, _FEATURE, bias=False)
        self.neck: nn.Module = nn.BatchNorm1d(_FEATURE)

    def embedding(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the embedding before its normalization, on which distances are trained."""
        maps = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = norm(convolution(maps)).relu()
        stripes = nn.functional.avg_pool2d(maps, (SIZE[0] // 32, SIZE[1] // 8))
        return self.embed(stripes.flatten(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, 128]` of images `[B, 3, 128, 64]`, not of unit length."""
        return self.neck(self.embedding(images))


def demo(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
    """Build the network; the checkpoint changes nothing."""
    del state, options
    return DemoNetwork()


def demo_input_size(state: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """The (height, width) that the network takes, whatever its weights."""
    del state
    return SIZE
