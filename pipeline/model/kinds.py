"""Recognize the kind of network in a file, by its content and never by its name."""

from pathlib import Path

from pipeline import input_files
from pipeline.errors import InputError
from pipeline.model.file_heads import Kind, is_safetensors, read_head, zip_kind
from pipeline.model.names import ACCEPTED, near_names, needs_checkpoint
from pipeline.object_client import is_url, split_url


def network_kind(path: str) -> Kind:
    """The kind of network in the file; raise InputError if it is missing, empty or not a
    network.
    """
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
    raise InputError(f"{path}: this is not a network file{begins}; {ACCEPTED}")


def check_network_file(model: str) -> None:
    """Raise InputError if a model is neither a network file (or a URL) nor one that is built here.

    For a checkpoint in place of a network, the error names the network with its keys, if they are
    known; for an unknown name, it lists similar names.
    """
    if needs_checkpoint(model):
        return
    if is_url(model):  # it is checked when it is fetched
        split_url(model, "a network")
        return
    if not Path(model).exists() and (near := near_names(model)):
        raise InputError(f"{model}: no such file, and no such network; {near}")
    network_kind(model)


def _weights(path: str) -> InputError:
    """The error for weights in place of a network, with the network that has their keys."""
    # Imported here: only this error needs PyTorch, and the quick checks come first.
    from pipeline.model.architectures.recognition import recognized

    how = recognized(path)
    told = how or f"give them as `checkpoint` of the network that they are of ({ACCEPTED})"
    return InputError(f"{path}: these are weights without a network; {told}")


def _kind_of_zip(path: str) -> Kind:
    try:
        kind = zip_kind(path)
    except Exception as error:  # a damaged directory may raise any error
        raise InputError(
            f"{path}: the file is damaged or cut short ({input_files.why(error)})"
        ) from error
    if kind == "checkpoint":
        raise _weights(path)
    if kind is None:
        raise InputError(f"{path}: this zip holds no network; {ACCEPTED}")
    return kind
