"""ViT-B/16 as TransReID trains it (Dosovitskiy et al. 2021, He et al. 2021): its plain transformer.

Modules have the names that TransReID writes into checkpoints. They are built without memory (on
PyTorch's meta device) and take over the checkpoint's tensors. Camera embeddings (SIE) and the
jigsaw branch (JPM) are not included: their keys count as unexpected.
"""

from collections import OrderedDict
from collections.abc import Mapping, Set

import torch
from torch import nn

from pipeline.errors import InputError

_WIDTH, _DEPTH, _HEADS, _PATCH = 768, 12, 12, 16
_SIZES = ((256, 128), (384, 128), (256, 256), (224, 224))
_STRIDES = (16, 12)


class Attention(nn.Module):
    """Self-attention of twelve heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.proj = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens `[B, N, 768]` to tokens of the same shape."""
        parts = self.qkv(tokens).unflatten(2, (3, _HEADS, _WIDTH // _HEADS))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(seen.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One layer of the transformer, normalized before each half."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH, eps=1e-6)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(_WIDTH, eps=1e-6)
        parts = {
            "fc1": nn.Linear(_WIDTH, 4 * _WIDTH),
            "act": nn.GELU(),
            "fc2": nn.Linear(4 * _WIDTH, _WIDTH),
        }
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens `[B, N, 768]` to tokens of the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Module):
    """A transformer from images of one size, as patches of 16 x 16 every `stride` pixels, to the
    class token.
    """

    def __init__(self, patches: int, stride: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, _WIDTH))
        self.pos_embed = nn.Parameter(torch.empty(1, patches + 1, _WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, _WIDTH, _PATCH, stride)})
        self.blocks = nn.Sequential(*(Layer() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the class token `[B, 768]`."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        start = self.cls_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat([start, patches], dim=1) + self.pos_embed
        return self.norm(self.blocks(tokens))[:, 0]


class TransReid(nn.Module):
    """The transformer and the neck; the feature is the one before the neck unless `after`."""

    def __init__(self, patches: int, stride: int, *, neck: bool, after: bool) -> None:
        super().__init__()
        self.base = Transformer(patches, stride)
        self.bottleneck = nn.BatchNorm1d(_WIDTH) if neck else nn.Identity()
        self.after = after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features `[B, 768]`."""
        token = self.base(images)
        return self.bottleneck(token) if self.after else token


def vit(state: Mapping[str, torch.Tensor], options: Set[str]) -> nn.Module:
    """Build the network for the input size and stride of the checkpoint's position codes."""
    patches, stride = _grid(state)[1:]
    after = "after" in options
    neck = after or any(key.startswith("bottleneck.") for key in state)
    return TransReid(patches, stride, neck=neck, after=after)


def vit_input_size(state: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """The (height, width) for which the position codes of a checkpoint were trained.

    Raise InputError if they match none of the sizes that TransReID uses.
    """
    return _grid(state)[0]


def _grid(state: Mapping[str, torch.Tensor]) -> tuple[tuple[int, int], int, int]:
    """Input size, number of patches and stride; the first size if the codes are missing."""
    known = {}
    for stride in _STRIDES:
        for size in _SIZES:
            down, across = ((side - _PATCH) // stride + 1 for side in size)
            known[down * across] = size, down * across, stride
    codes = state.get("base.pos_embed")
    patches = next(iter(known)) if codes is None or codes.ndim != 3 else codes.shape[1] - 1
    if patches not in known:
        sizes = ", ".join(f"{height} x {width}" for height, width in _SIZES)
        raise InputError(
            f"base.pos_embed has codes for {patches} patches, which fits none of {sizes} with "
            f"patches every {' or '.join(map(str, _STRIDES))} pixels"
        )
    return known[patches]
