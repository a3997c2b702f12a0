"""Open TorchScript and torch.export files as networks that PyTorch runs."""

from dataclasses import replace
from typing import Any

from pipeline.model.backends.signature import ANY_IMAGES, fixed_size
from pipeline.model.backends.torch_network import (
    TorchNetwork,
    load_export,
    load_torchscript,
    script_types,
    torch_threads,
)
from pipeline.model.backends.torch_opening import script_opening


def open_torchscript(path: str, *, device: str, threads: int, **run: Any) -> TorchNetwork:
    """Open a TorchScript file; `run` are the other settings of `TorchNetwork`, and its errors."""
    with torch_threads(threads):
        script = load_torchscript(path, device)
        # A TorchScript file declares no shape, but its first operation shows the layout.
        turned = replace(ANY_IMAGES, channels_last=script_opening(script).channels_last)
    types = script_types(script)
    return TorchNetwork(
        path, script, device=device, threads=threads, **run, image=turned, types=types
    )


def open_export(path: str, *, device: str, threads: int, **run: Any) -> TorchNetwork:
    """Open a torch.export file; `run` are the other settings of `TorchNetwork`, and its errors."""
    with torch_threads(threads):
        program, image, type_ = load_export(path, device)
    return TorchNetwork(
        path,
        program,
        device=device,
        threads=threads,
        **run,
        batch=image.shape[0],
        input_size=fixed_size(image.shape),
        image=image,
        types=(type_,),
    )
