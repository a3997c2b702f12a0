"""Networks on ResNet-50: layumi's ft_net and PCB, and the neck of two toolboxes.

Every module has the names that its toolbox writes into checkpoints, so that keys match unchanged.
All are built without memory (on PyTorch's meta device) and take over the checkpoint's tensors.
"""

from collections.abc import Mapping, Set

import torch
from torch import nn

from pipeline.model.architectures.torchvision_models import Bottleneck, ResNet

_CHANNELS = 2048
_STRIPES = 6


class Trunk(ResNet):
    """ResNet-50 from images `[B, 3, H, W]` to its last map `[B, 2048, H / 16, W / 16]`.

    `last_stride` 2 halves the map once more. `ibn` puts IBN-a into the first three stages (Pan et
    al. 2018). `stem_relu` False and `ceil_pool` True are the variants of two toolboxes (see
    docs/models.md).
    """

    def __init__(
        self,
        *,
        last_stride: int = 1,
        ibn: bool = False,
        stem_relu: bool = True,
        ceil_pool: bool = False,
    ) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.fc, self.avgpool
        first = self.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (last_stride, last_stride)
        for stage in (self.layer1, self.layer2, self.layer3) if ibn else ():
            for block in stage:
                block.bn1 = HalfInstanceNorm(block.bn1.num_features)
        if not stem_relu:
            self.relu = nn.Identity()
        if ceil_pool:
            self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last map of normalized images."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(stem))))


class HalfInstanceNorm(nn.Module):
    """IBN-a: instance normalization for the first half of the channels, batch normalization for the
    second.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split_at = channels // 2
        self.IN = nn.InstanceNorm2d(self.split_at, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split_at)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the normalized maps, `[B, C, H, W]`."""
        return torch.cat(
            [self.IN(maps[:, : self.split_at]), self.BN(maps[:, self.split_at :])], dim=1
        )


class GeneralizedMean(nn.Module):
    """Generalized-mean pooling, (mean of x^p)^(1/p) over each map (Radenovic et al. 2018).

    If `learnt`, the power is a weight of the checkpoint (`p`, `[1]`); otherwise it is 3.
    """

    def __init__(self, *, learnt: bool) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.empty(1)) if learnt else 3.0

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool maps `[B, C, H, W]` to `[B, C, 1, 1]`; values below 1e-6 count as 1e-6."""
        return maps.clamp(min=1e-6).pow(self.p).mean((2, 3), keepdim=True).pow(1 / self.p)


class FtNet(nn.Module):
    """layumi's ft_net: ResNet-50, mean, then the ClassBlock's linear layer and normalization."""

    def __init__(self, width: int, *, last_stride: int) -> None:
        super().__init__()
        self.model = Trunk(last_stride=last_stride)
        block = nn.Sequential(nn.Linear(_CHANNELS, width), nn.BatchNorm1d(width))
        self.classifier = nn.ModuleDict({"add_block": block})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, width]`."""
        return self.classifier["add_block"](self.model(images).mean((2, 3)))


class Pcb(nn.Module):
    """The part-based convolutional baseline as layumi tests it (Sun et al. 2018): six stripes.

    Each stripe's mean is scaled to length 1 / sqrt(6); the feature is channel-major, `[2048, 6]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = Trunk(last_stride=1)
        self.avgpool = nn.AdaptiveAvgPool2d((_STRIPES, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, 12288]`."""
        stripes = self.avgpool(self.model(images)).flatten(2)
        return (nn.functional.normalize(stripes, dim=1) / _STRIPES**0.5).flatten(1)


class StrongBaseline(nn.Module):
    """reid-strong-baseline's network: ResNet-50, mean, and the neck (Luo et al. 2019)."""

    def __init__(self, *, ibn: bool, last_stride: int, neck: bool, before: bool) -> None:
        super().__init__()
        # The toolbox's own ResNet-50 has no ReLU in its stem, but its IBN variant has one.
        self.base = Trunk(last_stride=last_stride, ibn=ibn, stem_relu=ibn)
        self.bottleneck = nn.BatchNorm1d(_CHANNELS) if neck else nn.Identity()
        self.before = before

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, 2048]`, after the neck unless `before`."""
        pooled = self.base(images).mean((2, 3))
        return pooled if self.before else self.bottleneck(pooled)


class FastReid(nn.Module):
    """fast-reid's baseline: ResNet-50, a pooling, a reduction if there is one, and the neck."""

    def __init__(
        self, pool: nn.Module, neck: nn.Module, *, ibn: bool, last_stride: int, before: bool
    ) -> None:
        super().__init__()
        self.backbone = Trunk(last_stride=last_stride, ibn=ibn, ceil_pool=True)
        self.heads = nn.ModuleDict({"pool_layer": pool, "bottleneck": neck})
        self.before = before

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, D]`, after the neck unless `before`."""
        pooled = self.heads["pool_layer"](self.backbone(images))
        return (pooled if self.before else self.heads["bottleneck"](pooled)).flatten(1)


def ft_net(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
    """Build ft_net of the width that the checkpoint has (512 unless it was trained with
    another).
    """
    block = state.get("classifier.add_block.0.weight")
    width = 512 if block is None else len(block)
    return FtNet(width, last_stride=1 if "stride1" in options else 2)


def pcb(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
    """Build PCB, which has no variants."""
    del state, options
    return Pcb()


def bnneck(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
    """Build the network with the neck of the toolbox whose key names the checkpoint has.

    IBN-a, a learned power of GeM and a reduction are recognized by their weights.
    """
    ibn, before = any(".bn1.IN." in key for key in state), "before" in options
    last_stride = 2 if "stride2" in options else 1
    if not any(key.startswith("backbone.") for key in state):
        neck = not before or any(key.startswith("bottleneck.") for key in state)
        return StrongBaseline(ibn=ibn, last_stride=last_stride, neck=neck, before=before)
    learnt = "heads.pool_layer.p" in state
    gem = learnt or "gem" in options
    pool = GeneralizedMean(learnt=learnt) if gem else nn.AdaptiveAvgPool2d(1)
    return FastReid(pool, _neck(state, before), ibn=ibn, last_stride=last_stride, before=before)


def _neck(state: Mapping[str, torch.Tensor], before: bool) -> nn.Module:
    """Build fast-reid's `heads.bottleneck`: a normalization, perhaps after a 1 x 1 convolution."""
    if before and not any(key.startswith("heads.bottleneck.") for key in state):
        return nn.Sequential()
    first = state.get("heads.bottleneck.0.weight")
    if first is None or first.ndim == 1:
        return nn.Sequential(nn.BatchNorm2d(_CHANNELS))
    reduction = nn.Conv2d(_CHANNELS, len(first), 1, bias=False)
    return nn.Sequential(reduction, nn.BatchNorm2d(len(first)))
