"""Low-rank adapters on the attention layers of a network, by the package peft.

LoRA (Hu et al., ICLR 2022): the matrix W of a layer becomes W + (alpha / rank) B A, with A of
`rank` rows and B of `rank` columns. Only A and B are trained. B begins at 0, so the network begins
as it was; at the end the sum becomes the layer's matrix, so that plain weights remain.
"""

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.errors import InputError

if TYPE_CHECKING:
    from peft import LoraModel

_RANK = 8
_ALPHA = 16
_NAMES = "attention", "attn"


def attention_layers(network: nn.Module) -> list[str]:
    """The names of the layers of a network that compute attention, in order.

    These are `torch.nn.MultiheadAttention`, and the linear layers of modules whose class has
    "Attention" or "Attn" in its name.

    >>> layer = nn.TransformerEncoderLayer(8, 2)
    >>> attention_layers(layer)
    ['self_attn']
    """
    found = []
    for name, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            found.append(name)
        elif any(each in type(module).__name__.lower() for each in _NAMES):
            found += [
                f"{name}.{child}".lstrip(".")
                for child, layer in module.named_children()
                if isinstance(layer, nn.Linear)
            ]
    return found


def add_lora(network: nn.Module) -> "LoraModel":
    """Add adapters to the attention layers of a network, in place.

    They are the only parameters that take gradients. `merge_and_unload` of the result makes the
    network a plain one again. The first A are the same in every call. Raise InputError if peft is
    not installed, and for a network without attention layers.
    """
    try:
        from peft import LoraConfig, LoraModel
    except ImportError as error:
        raise InputError(
            "`part` lora needs the package peft: pip install 'regallery[peft]'"
        ) from error
    layers = attention_layers(network)
    if not layers:
        raise InputError(
            "the network has no attention layers, so it cannot have adapters (`part` lora); train"
            " another part of it"
        )
    names = "|".join(re.escape(name) for name in layers)
    config = LoraConfig(r=_RANK, lora_alpha=_ALPHA, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LoraModel(network, config, "default")
