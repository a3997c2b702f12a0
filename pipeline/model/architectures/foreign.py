"""Weights of networks that are not built here: where they come from, and how to export the
network.
"""

from collections.abc import Collection
from dataclasses import dataclass

_EXPORT = (
    'model.eval(), then torch.onnx.export(model, torch.zeros(2, 3, HEIGHT, WIDTH), "network.onnx", '
    'input_names=["images"], dynamic_axes={"images": {0: "batch"}}, dynamo=False)'
)


@dataclass(frozen=True)
class _Family:
    """Networks of which some key contains each of `keys`; `made` says how to get one."""

    name: str
    keys: tuple[str, ...]
    made: str


# The first family that matches is reported, so particular ones come before general ones.
_FAMILIES = (
    _Family(
        "CLIP-ReID",
        ("prompt_learner.cls_ctx",),
        "build the model of its repository with its configuration, wrap model.image_encoder",
    ),
    _Family(
        "CLIP-ReID",
        ("image_encoder.transformer.resblocks.",),
        "build the model of its repository with its configuration, wrap model.image_encoder",
    ),
    _Family(
        "CLIP",
        ("visual.transformer.resblocks.",),
        "open_clip.create_model(NAME, pretrained=FILE).visual",
    ),
    _Family(
        "TransReID with camera embeddings or the jigsaw branch",
        ("sie_embed", "patch_embed.proj.weight"),
        "build the model of its repository, with the camera that it is to assume",
    ),
    _Family(
        "TransReID with the jigsaw branch",
        ("b1.0.norm1.weight",),
        "build the model of its repository with its configuration",
    ),
    _Family(
        "DINOv2",
        ("blocks.0.ls1.gamma", "patch_embed.proj.weight"),
        'torch.hub.load("facebookresearch/dinov2", NAME)',
    ),
    _Family(
        "a Swin transformer (SOLIDER, timm)",
        ("attn.relative_position_bias_table",),
        "timm.create_model(NAME, num_classes=0), or the model of its repository",
    ),
    _Family(
        "a transformer of the package transformers",
        ("embeddings.patch_embeddings.projection.weight",),
        "transformers.AutoModel.from_pretrained(FOLDER), with its pooled output alone",
    ),
    _Family(
        "a vision transformer of timm",
        ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
        "timm.create_model(NAME, num_classes=0) with load_state_dict",
    ),
    _Family(
        "ConvNeXt of timm",
        ("stages.0.blocks.0.conv_dw.weight",),
        "timm.create_model(NAME, num_classes=0) with load_state_dict",
    ),
)


def explained(keys: Collection[str]) -> str | None:
    """Explain whose weights have these keys, and how to write their network as a file; None if
    unknown.

    >>> explained(["layer1.0.conv1.weight"]) is None
    True
    >>> explained(["blocks.0.ls1.gamma", "patch_embed.proj.weight"])[:31]
    'these look like weights of DINO'
    """
    for family in _FAMILIES:
        if all(any(wanted in key for key in keys) for wanted in family.keys):
            return (
                f"these look like weights of {family.name}, which is not built here: "
                f"in Python, {family.made}, then {_EXPORT}, and give network.onnx as `model`"
            )
    return None
