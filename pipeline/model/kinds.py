"""Which kind of network a file holds, told by its content and never by its name."""

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
        raise InputError(
            f"{path}: these are weights without a network; "
            f"give them as the checkpoint of the network that they are of ({_ACCEPTED})"
        )
    # An ONNX file is a protobuf message whose first field, the IR version, is a small number.
    if head[:1] == b"\x08" and 0 < head[1] < 64:
        return "onnx"
    raise InputError(f"{path}: this is no network file; {_ACCEPTED}")


def check_file(model: str) -> None:
    """Raise InputError where a model is neither a network file nor one that is built here."""
    if not needs_checkpoint(model):
        network_kind(model)


def read_head(path: str) -> bytes:
    """The first 64 bytes of a file; InputError where it is missing, unreadable, empty or tiny."""
    input_files.check_file(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({input_files.why(error)})") from error
    if len(head) < 9:
        what = f"holds {len(head)} bytes only" if head else "is empty"
        raise InputError(f"{path}: the file {what}")
    return head


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is in safetensors format: a length, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _kind_of_zip(path: str) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception as error:  # a damaged directory raises whatever its reader stumbles over
        raise InputError(
            f"{path}: the file is damaged or cut short ({input_files.why(error)})"
        ) from error
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "export"
    if "constants.pkl" in members:
        return "torchscript"
    if "data.pkl" in members:
        raise InputError(
            f"{path}: this is a checkpoint (weights without a network); "
            f"give it as the checkpoint of torchvision:NAME ({_ACCEPTED})"
        )
    raise InputError(f"{path}: this zip holds no network; {_ACCEPTED}")
