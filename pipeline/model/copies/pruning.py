"""Structured pruning: the same network with fewer channels.

A channel is removed together with all weights that write or read it; torch-pruning finds these
groups in the graph of the network (DepGraph, Fang et al., CVPR 2023). Its importance is the mean
L2 norm of those weights, and the least important channels of each group are removed. Networks that
cannot be pruned in this way lose the channels with the smallest scales of their batch
normalizations (L1; network slimming, Liu et al., ICCV 2017), where they have some.

The result has no random part. The dimension of the feature does not change.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import InputError

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
# What torch-pruning raises for a network whose graph it does not understand, and what a network
# raises if it was pruned wrongly.
_FAILURES = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class Pruned:
    """A pruned module; parameters and multiply-adds of one image are (before, after)."""

    module: nn.Module
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]


def check_share(share: float) -> None:
    """Raise InputError unless a share of channels lies between 0 and 1."""
    if not 0 < share < 1:
        raise InputError(f"`prune` must be a share of the channels between 0 and 1, not {share}")


def prune_channels(module: nn.Module, size: tuple[int, int], share: float) -> Pruned:
    """A copy of `module` in which each group of channels has lost `share` of them, rounded up.

    The module takes images float32 `[B, 3, H, W]`, here of `size` (H, W), and returns features
    `[B, D]`. Groups that reach the output stay whole, as do those that a normalization splits (the
    halves of IBN-a). Raise InputError for a share that is not between 0 and 1, and for a network
    that cannot be pruned.
    """
    check_share(share)
    images = torch.zeros(2, 3, *size)  # some networks squeeze a batch of one
    reason = "it has no channels that can be removed"
    for scales_only in (False, True):
        made = copy.deepcopy(module).eval().requires_grad_(True)  # the graph is that of gradients
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _remove(made, images, share, scales_only=scales_only)
            found = _counted(made, images)
        except _FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            continue
        before = _counted(module, images)
        if found[0] < before[0] and found[2] == before[2]:
            return Pruned(made.requires_grad_(False), (before[0], found[0]), (before[1], found[1]))
    raise InputError(f"the network cannot be pruned: {reason}")


def _remove(module: nn.Module, images: Tensor, share: float, *, scales_only: bool) -> None:
    """Remove channels of the module in place."""
    import torch_pruning

    importance = torch_pruning.importance
    rank = importance.BNScaleImportance() if scales_only else importance.GroupMagnitudeImportance()
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=images)
    pruner = torch_pruning.BasePruner(
        module,
        images,
        rank,
        pruning_ratio=share,
        ignored_layers=_kept(graph),
        root_module_types=list(_LAYERS),
        # Their defaults are shared by all pruners of a process.
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
    )
    pruner.step()


def _kept(graph: Any) -> list[nn.Module]:
    """The first layers of the groups that stay whole."""
    kept = []
    for group in graph.get_all_groups(root_module_types=list(_LAYERS)):
        first = group[0][0].target.module
        channels = graph.get_out_channels(first)
        for dependency, _ in group:
            node = dependency.target
            writes = graph.is_out_channel_pruning_fn(dependency.handler)
            split = isinstance(node.module, _NORMS) and node.module.num_features != channels
            if split or (writes and not node.outputs):
                kept.append(first)
                break
    return kept


def _counted(module: nn.Module, images: Tensor) -> tuple[int, int, int]:
    """Parameters, multiply-adds of an image in convolutions and linear layers, and D."""
    total = 0

    def count(layer: nn.Module, _: Any, maps: Tensor) -> None:
        nonlocal total
        weight: Any = layer.weight
        spots = maps[0].numel() // maps.shape[1 if isinstance(layer, nn.Conv2d) else -1]
        total += spots * weight.numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, _LAYERS)
    ]
    try:
        with torch.inference_mode():
            features = module(images)
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(each.numel() for each in module.parameters())
    return parameters, total, features.flatten(1).shape[1]
