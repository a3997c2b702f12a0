"""Fold normalizations into the convolutions before them: the same features in less time."""

import logging

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_log = logging.getLogger(__name__)


def fold_normalizations(module: nn.Module) -> nn.Module:
    """Remove the batch normalizations that follow a convolution from a module in evaluation mode.

    In evaluation, a batch normalization is a factor and a summand for each channel, and the weights
    of the convolution absorb both. Features change by float32 rounding. A normalization stays if
    its convolution also serves others, and a module stays unchanged if its steps depend on its
    input.

    >>> stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> [type(part).__name__ for part in fold_normalizations(stem).children()]
    ['Conv2d', 'ReLU']
    """
    try:
        graph = fx.symbolic_trace(module)
    except (fx.proxy.TraceError, TypeError) as error:
        _log.debug("normalizations are not folded: %s", error)
        return module
    parts = dict(graph.named_modules())
    used = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(parts[node.target]) is not nn.BatchNorm2d:
            continue
        before = node.args[0]
        if before.op != "call_module" or type(parts[before.target]) is not nn.Conv2d:
            continue
        if len(before.users) > 1 or used.count(before.target) > 1 or used.count(node.target) > 1:
            continue
        folded = fuse_conv_bn_eval(parts[before.target], parts[node.target])
        graph.set_submodule(before.target, folded)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.to(memory_format=torch.channels_last)
