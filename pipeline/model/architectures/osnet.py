"""OSNet (omni-scale features, Zhou et al. 2019) and OSNet-AIN (Zhou et al. 2021).

Modules have the names that torchreid writes into checkpoints. They are built without memory (on
PyTorch's meta device) and take over the checkpoint's tensors.
"""

from collections.abc import Callable, Mapping, Set

import torch
from torch import nn

_CHANNELS = (64, 256, 384, 512)
_STREAMS = 4
_FEATURE = 512


class Convolution(nn.Module):
    """A convolution without bias, with batch or instance normalization, and a ReLU unless
    linear.
    """

    def __init__(
        self, inside: int, outside: int, *, kernel: int = 1, relu: bool = True, norm: str = "batch"
    ) -> None:
        super().__init__()
        stride, padding = (2, 3) if kernel == 7 else (1, 0)
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.Identity()
        if norm == "batch":
            self.bn = nn.BatchNorm2d(outside)
        elif norm == "instance":
            self.bn = nn.InstanceNorm2d(outside, affine=True)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the next maps."""
        return self.relu(self.bn(self.conv(maps)))


class Light(nn.Module):
    """A 3 x 3 convolution in two steps: 1 x 1 over channels, then 3 x 3 in each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the next maps."""
        return self.bn(self.conv2(self.conv1(maps))).relu()


class Stream(nn.Module):
    """Light convolutions in a row, with OSNet-AIN's names."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Light(channels) for _ in range(depth)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the next maps."""
        return self.layers(maps)


class Gate(nn.Module):
    """Weight the channels of a stream according to its mean; all streams share one gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the weighted maps."""
        return maps * self.fc2(self.fc1(maps.mean((2, 3), keepdim=True)).relu()).sigmoid()


class OSBlock(nn.Module):
    """OSNet's block: gated streams of one to four light convolutions, added to the shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        middle = outside // 4
        self.conv1 = Convolution(inside, middle)
        self.conv2a = Light(middle)
        self.conv2b = nn.Sequential(*(Light(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(Light(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(Light(middle) for _ in range(4)))
        self.gate = Gate(middle)
        self.conv3 = Convolution(middle, outside, relu=False)
        self.downsample = _shortcut(inside, outside)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the next maps."""
        split = self.conv1(maps)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        joined = sum(self.gate(stream(split)) for stream in streams)
        return (self.conv3(joined) + self.downsample(maps)).relu()


class AinBlock(nn.Module):
    """OSNet-AIN's variant of the block; `instance` normalizes by instance inside the shortcut."""

    def __init__(self, inside: int, outside: int, *, instance: bool) -> None:
        super().__init__()
        middle = outside // 4
        self.conv1 = Convolution(inside, middle)
        self.conv2 = nn.ModuleList(Stream(middle, depth) for depth in range(1, _STREAMS + 1))
        self.gate = Gate(middle)
        self.conv3 = Convolution(middle, outside, relu=False, norm="none" if instance else "batch")
        self.IN = nn.InstanceNorm2d(outside, affine=True) if instance else nn.Identity()
        self.downsample = _shortcut(inside, outside)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the next maps."""
        split = self.conv1(maps)
        joined = sum(self.gate(stream(split)) for stream in self.conv2)
        return (self.IN(self.conv3(joined)) + self.downsample(maps)).relu()


class OsNet(nn.Module):
    """OSNet of a width, or OSNet-AIN, from images `[B, 3, H, W]` to features `[B, 512]`."""

    def __init__(self, width: float, *, ain: bool) -> None:
        super().__init__()
        stem, first, second, third = (int(width * channels) for channels in _CHANNELS)
        self.conv1 = Convolution(3, stem, kernel=7, norm="instance" if ain else "batch")
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        if ain:
            self.conv2 = _ain_stage(stem, first, (True, True))
            self.pool2 = _pooling(first)
            self.conv3 = _ain_stage(first, second, (False, True))
            self.pool3 = _pooling(second)
            self.conv4 = _ain_stage(second, third, (True, False))
        else:
            # The pooling is inside the stage here, and beside it in OSNet-AIN.
            self.conv2 = nn.Sequential(OSBlock(stem, first), OSBlock(first, first), _pooling(first))
            self.pool2 = self.pool3 = nn.Identity()
            self.conv3 = nn.Sequential(
                OSBlock(first, second), OSBlock(second, second), _pooling(second)
            )
            self.conv4 = nn.Sequential(OSBlock(second, third), OSBlock(third, third))
        self.conv5 = Convolution(third, third)
        self.fc = nn.Sequential(nn.Linear(third, _FEATURE), nn.BatchNorm1d(_FEATURE), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, 512]`, none negative."""
        maps = self.pool2(self.conv2(self.maxpool(self.conv1(images))))
        maps = self.conv5(self.conv4(self.pool3(self.conv3(maps))))
        return self.fc(maps.mean((2, 3)))


def osnet(
    width: float, *, ain: bool = False
) -> Callable[[Mapping[str, torch.Tensor], Set[str]], nn.Module]:
    """Make the function that builds OSNet (or OSNet-AIN) of a width; the checkpoint changes
    nothing.
    """

    def build(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
        del state, options
        return OsNet(width, ain=ain)

    return build


def _shortcut(inside: int, outside: int) -> nn.Module:
    return nn.Identity() if inside == outside else Convolution(inside, outside, relu=False)


def _pooling(channels: int) -> nn.Module:
    return nn.Sequential(Convolution(channels, channels), nn.AvgPool2d(2))


def _ain_stage(inside: int, outside: int, instance: tuple[bool, bool]) -> nn.Module:
    return nn.Sequential(
        AinBlock(inside, outside, instance=instance[0]),
        AinBlock(outside, outside, instance=instance[1]),
    )
