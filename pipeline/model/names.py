"""The names of the networks that are built here and of their checkpoints, and hints for wrong
names.
"""

import difflib
import re
from pathlib import Path

from pipeline.errors import InputError

# Networks that are built here, and the options after their names (see architectures.py). This
# module loads nothing heavy, so that a wrong name is reported at once.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "ft_net": ("stride1",),
    "pcb": (),
    "bnneck": ("before", "gem", "stride2"),
    "osnet_x0_25": (),
    "osnet_x0_5": (),
    "osnet_x0_75": (),
    "osnet_x1_0": (),
    "osnet_ain_x0_25": (),
    "osnet_ain_x0_5": (),
    "osnet_ain_x0_75": (),
    "osnet_ain_x1_0": (),
    "demo": (),
    "vit": ("after",),
}

BACKBONE = "torchvision:"

# Other names that users and toolboxes use for networks that are built here.
_RESNETS = ["bnneck", "ft_net", "pcb"]
_ALSO_CALLED = {
    "osnet": ["osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25"],
    "osnet_ain": ["osnet_ain_x1_0", "osnet_ain_x0_75", "osnet_ain_x0_5", "osnet_ain_x0_25"],
    "osnet_ibn_x1_0": ["osnet_ain_x1_0", "osnet_x1_0"],
    "resnet": _RESNETS,
    "resnet50": _RESNETS,
    "resnet50_ibn_a": ["bnneck"],
    "sbs_r50": ["bnneck"],
    "bagtricks_r50": ["bnneck"],
    "agw_r50": ["bnneck"],
    "transreid": ["vit"],
    "vit_base": ["vit"],
}

_TORCHVISION = r"(wide_)?res(net|next)\d|vit_|swin_|convnext_|efficientnet_|densenet\d"

ACCEPTED = (
    "accepted are ONNX, OpenVINO IR (.xml beside its .bin), TorchScript, torch.export (.pt2), "
    f"and with a checkpoint {BACKBONE}NAME, {', '.join(ARCHITECTURES)}"
)


def architecture(model: str) -> tuple[str, frozenset[str]] | None:
    """Name and options of a network that is built here, `NAME` or `NAME:OPTION,OPTION`.

    The result is None for any other model. Raise InputError for an option that the network lacks.

    >>> architecture("bnneck:before,gem") == ("bnneck", {"before", "gem"})
    True
    >>> architecture("galleries/osnet.onnx")
    """
    name, _, rest = model.partition(":")
    if name not in ARCHITECTURES:
        return None
    options = frozenset(rest.split(",")) if rest else frozenset()
    unknown = sorted(options - set(ARCHITECTURES[name]))
    if unknown:
        known = ", ".join(ARCHITECTURES[name]) or "none"
        raise InputError(f"{model}: {name} has no option {', '.join(unknown)}; it has {known}")
    return name, options


def canonical(model: str) -> str:
    """Put the options of a model's name in one order, so that equal networks have equal names.

    >>> canonical("bnneck:gem,before"), canonical("torchvision:resnet50")
    ('bnneck:before,gem', 'torchvision:resnet50')
    """
    named = architecture(model)
    return model if named is None else ":".join([named[0], ",".join(sorted(named[1]))]).rstrip(":")


def needs_checkpoint(model: str) -> bool:
    """Whether a model is a name whose weights are in a checkpoint, and not a network file."""
    return model.startswith(BACKBONE) or architecture(model) is not None


def split_checkpoint(checkpoint: str) -> tuple[str, str | None]:
    """Split a checkpoint `FILE#PART` into its file and the requested part, or None.

    If a file's own name has a `#`, the whole text is the file.

    >>> split_checkpoint("timm.pth.tar#state_dict_ema"), split_checkpoint("timm.pth.tar")
    (('timm.pth.tar', 'state_dict_ema'), ('timm.pth.tar', None))
    """
    file, mark, part = checkpoint.rpartition("#")
    if not mark or Path(checkpoint).exists():
        return checkpoint, None
    return file, part


def near_names(model: str) -> str | None:
    """Suggest similar names for an unknown one, and how to give them; None for the path of a file.

    >>> near_names("osnet")[:58]
    'did you mean osnet_x1_0, osnet_x0_75, osnet_x0_5 or osnet_'
    >>> near_names("crops/network.onnx")
    """
    name = model.rpartition(":")[2].rpartition("/")[2].lower()
    stem, dot, _ = name.partition(".")
    of = [known for known in ARCHITECTURES if stem.startswith(known)]
    if dot and of:
        return (
            f"nothing is downloaded; weights of {of[-1]} are given as `checkpoint` FILE, beside "
            f"`model` {of[-1]}"
        )
    if not re.fullmatch(r"[a-z][\w-]*", name) or model.startswith((".", "/")):
        return None
    known, hint = list(ARCHITECTURES), ""
    of_torchvision = re.match(_TORCHVISION, name) is not None
    near = _ALSO_CALLED.get(name, [])
    if not near and not of_torchvision:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    if of_torchvision:
        near = [*near, f"{BACKBONE}{name}"]
    if model.startswith(("timm:", "hf-hub:", "hf_hub:")) or ("ibn" in name and "osnet" in name):
        hint = "; any other network is given as a file: export it as ONNX or TorchScript"
    if not near:
        near = known
    either = " or ".join([", ".join(near[:-1]), near[-1]]) if len(near) > 1 else near[0]
    return (
        f"did you mean {either}? Networks that are built here need their weights as `checkpoint`, "
        f"a file{hint}"
    )
