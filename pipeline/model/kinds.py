"""Which kind of network a file holds, told by its content and never by its name."""

import difflib
import re
import zipfile
from pathlib import Path
from typing import Literal

from pipeline import input_files
from pipeline.errors import InputError

Kind = Literal["onnx", "openvino", "torchscript", "export"]

# Networks that are built here, and what may be said behind their names (see architectures.py);
# named where nothing heavy is loaded, so that a wrong name is told at once.
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
    "vit": ("after",),
}

BACKBONE = "torchvision:"

_HEAD = 512

# What users and other toolboxes call networks that are built here under another name.
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

_ACCEPTED = (
    "accepted are ONNX, OpenVINO IR (.xml beside its .bin), TorchScript, torch.export (.pt2), "
    f"and with a checkpoint {BACKBONE}NAME, {', '.join(ARCHITECTURES)}"
)


def architecture(model: str) -> tuple[str, frozenset[str]] | None:
    """Name and options of a network that is built here, `NAME` or `NAME:OPTION,OPTION`.

    None where the model is anything else. Raises InputError for an option that the network lacks.

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
    """A model's name with its options in one order, so that equal networks have equal names.

    >>> canonical("bnneck:gem,before"), canonical("torchvision:resnet50")
    ('bnneck:before,gem', 'torchvision:resnet50')
    """
    named = architecture(model)
    return model if named is None else ":".join([named[0], ",".join(sorted(named[1]))]).rstrip(":")


def needs_checkpoint(model: str) -> bool:
    """Whether a model is named, and its weights lie in a checkpoint, rather than a network file."""
    return model.startswith(BACKBONE) or architecture(model) is not None


def network_kind(path: str) -> Kind:
    """The kind of network in the file; InputError where it is missing, empty or no network."""
    head = read_head(path)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<net")):
        return "openvino"
    if is_safetensors(head) or head.startswith(b"\x80"):
        raise _weights(path)
    # An ONNX file is a protobuf message whose first field, the IR version, is a small number.
    if head[:1] == b"\x08" and 0 < head[1] < 64:
        return "onnx"
    text = (head.decode("ascii", "replace").strip().splitlines() or [""])[0][:32]
    begins = f" (it begins with {text!r})" if text.isascii() and text.isprintable() else ""
    raise InputError(f"{path}: this is no network file{begins}; {_ACCEPTED}")


def check_file(model: str) -> None:
    """Raise InputError where a model is neither a network file nor one that is built here.

    A checkpoint in place of a network is told with the network that its keys are of, where they
    are known; a name that is unknown, with the names that are near.
    """
    if needs_checkpoint(model):
        return
    if not Path(model).exists() and (near := near_names(model)):
        raise InputError(f"{model}: no such file, and no such network; {near}")
    network_kind(model)


def near_names(model: str) -> str | None:
    """What a name of no network may mean, and how that is given; None for the path of a file.

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


def read_head(path: str) -> bytes:
    """The first 64 bytes of a file; InputError where it is missing, unreadable, empty or tiny.

    So it is, too, where a text stands in its place: a Git LFS pointer, or a web page.
    """
    input_files.check_file(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({input_files.why(error)})") from error
    if len(head) < 9:
        what = f"holds {len(head)} bytes only" if head else "is empty"
        raise InputError(f"{path}: the file {what}")
    _check_head(path, head)
    return head[:64]


def check_not_text(path: str) -> None:
    """Raise InputError for a file that begins as a Git LFS pointer, a web page or an answer does.

    Downloads leave such in place of the file that was meant.
    """
    with Path(path).open("rb") as file:
        _check_head(path, file.read(_HEAD))


def _check_head(path: str, head: bytes) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: is a Git LFS pointer, not the file itself: run git lfs pull in its repository"
        )
    if text.startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"{path}: is an HTML page, not the file itself: download it anew (the page may ask to "
            "log in, or to confirm)"
        )
    if text.startswith(b"<?xml") and b"<error>" in text:
        raise InputError(
            f"{path}: is the error message of an object store, not the file itself: download it "
            "anew"
        )


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is in safetensors format: a length, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _weights(path: str) -> InputError:
    """The error for weights in place of a network, with the network that their keys are of."""
    # Imported here: only this error needs PyTorch, and what is quick to check is checked before.
    from pipeline.model.architectures.recognition import recognized

    how = recognized(path)
    told = how or f"give them as `checkpoint` of the network that they are of ({_ACCEPTED})"
    return InputError(f"{path}: these are weights without a network; {told}")


def _kind_of_zip(path: str) -> Kind:
    try:
        kind = zip_kind(path)
    except Exception as error:  # a damaged directory raises whatever its reader stumbles over
        raise InputError(
            f"{path}: the file is damaged or cut short ({input_files.why(error)})"
        ) from error
    if kind == "checkpoint":
        raise _weights(path)
    if kind is None:
        raise InputError(f"{path}: this zip holds no network; {_ACCEPTED}")
    return kind


def zip_kind(path: str) -> Kind | Literal["checkpoint"] | None:
    """What a zip file of PyTorch's holds; None for any other zip, BadZipFile for a damaged one."""
    with zipfile.ZipFile(path) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "export"
    if "constants.pkl" in members:
        return "torchscript"
    return "checkpoint" if "data.pkl" in members else None
