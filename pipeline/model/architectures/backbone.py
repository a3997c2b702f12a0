"""Backbones of torchvision by name, with weights from a checkpoint and without the classifier
head.
"""

import torch

from pipeline.errors import InputError
from pipeline.model.architectures.checkpoints import fit, load_weights
from pipeline.model.architectures.outlines import without_memory, without_values
from pipeline.model.architectures.torchvision_models import models
from pipeline.model.names import BACKBONE

# Families whose forward pass is pooling, flattening and one named head. The head is replaced by the
# identity, so that the network returns the pooled feature. ConvNeXt's head begins with a
# normalization that belongs to the feature, so only its last part is removed.
_HEADS = {
    "convnext": "classifier.2",
    "densenet": "classifier",
    "efficientnet": "classifier",
    "mobilenet": "classifier",
    "regnet": "fc",
    "resnet": "fc",
    "resnext": "fc",
    "shufflenet": "fc",
    "swin": "head",
    "vit": "heads",
    "wide_resnet": "fc",
}


def backbone_names() -> list[str]:
    """The names that `torchvision:NAME` accepts."""
    names = models.list_models(module=models)
    return [name for name in names if _head(name) is not None]


def check_backbone_name(name: str) -> None:
    """Raise InputError for a name that `torchvision:NAME` does not accept."""
    if name not in backbone_names():
        raise InputError(
            f"{BACKBONE}{name}: no such backbone; known are {', '.join(backbone_names())}"
        )


def load_backbone(name: str, checkpoint: str) -> torch.nn.Module:
    """Load the backbone with the checkpoint's weights, without its classifier head, for evaluation.

    Nothing is downloaded, and no weight keeps its random start: raise InputError unless the
    checkpoint has every weight (see checkpoints.py).
    """
    check_backbone_name(name)
    outline = outlined(name)
    fitted = fit(checkpoint, lambda _: outline)
    with torch.random.fork_rng(devices=[]), without_values():
        module = _headless(name)  # the caller's random numbers stay his own
    return load_weights(module, fitted.match.matched)


def initial_backbone(name: str, seed: int) -> torch.nn.Module:
    """The backbone with random weights, a function of `seed`; see `backbone_names`."""
    check_backbone_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _headless(name)


def backbone_input_size(name: str) -> tuple[int, int] | None:
    """The (height, width) of a vision transformer, which its position codes fix; None for
    others.
    """
    check_backbone_name(name)
    if not name.startswith("vit"):
        return None
    with without_memory():
        side = models.get_model(name, weights=None).image_size
    return side, side


def outlined(name: str) -> torch.nn.Module:
    """Build the backbone, without its head and without memory for its weights."""
    if name.startswith("regnet"):  # its widths are computed with tensors, which need memory
        with without_values():
            return _headless(name).to("meta")
    with without_memory():
        return _headless(name)


def _headless(name: str) -> torch.nn.Module:
    module = models.get_model(name, weights=None)
    module.set_submodule(_head(name) or "", torch.nn.Identity())
    return module


def _head(name: str) -> str | None:
    return next((head for family, head in _HEADS.items() if name.startswith(family)), None)
