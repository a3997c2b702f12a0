"""Networks given by URLs: fetched with the files that belong to them."""

import logging
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError
from pipeline.fetched_files import fetch
from pipeline.model.backends.onnx_network import onnx_data_names
from pipeline.model.kinds import network_kind
from pipeline.model.names import needs_checkpoint, split_checkpoint
from pipeline.model.networks import NetworkFile
from pipeline.object_client import is_url

_log = logging.getLogger(__name__)


def network_file(model: str, checkpoint: str | None = None) -> NetworkFile:
    """Make a `NetworkFile` from a user's name of a network; the file may be a URL of an object
    store.

    A URL becomes a copy on this machine, and workers on other machines fetch their own copy (see
    `NetworkFile.here`). Raise the errors of `NetworkFile` and `pipeline.fetched_files.fetch`.
    """
    if is_url(model):
        if checkpoint is not None:
            return NetworkFile(model, checkpoint)  # which refuses the two together
        fetched = fetch(model, _beside)
        local = NetworkFile(str(fetched.here()), fetched=fetched)
    elif checkpoint is not None and is_url(checkpoint) and needs_checkpoint(model):
        url, part = split_checkpoint(checkpoint)
        fetched = fetch(url)
        place = f"{fetched.here()}" if part is None else f"{fetched.here()}#{part}"
        local = NetworkFile(model, place, fetched)
    else:
        return NetworkFile(model, checkpoint)
    _log.info("%s is kept in %s", fetched.url, fetched.here())
    return local


def _beside(path: Path) -> list[str]:
    """The files that a network file needs beside it, by their names."""
    kind = network_kind(str(path))
    if kind == "openvino":
        return [path.with_suffix(".bin").name]
    names = onnx_data_names(str(path)) if kind == "onnx" else []
    for name in names:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise InputError(f"{path}: names weights outside its own folder: {name}")
    return names
