"""Network files: their hash, the recipe that they imply, and loading them.

What runs in PyTorch, the networks that are built here, and OpenVINO are imported only where they
are used: torch takes longer to import than all the rest, as does torchvision, which the networks
built here need; and every process that runs an ONNX file would wait for them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.fetched_files import FetchedFile
from pipeline.model.backends.onnx_network import OnnxNetwork, onnx_files, onnx_image_input
from pipeline.model.backends.signature import ImageInput, check_input_size, fixed_size
from pipeline.model.input.opening import Opening
from pipeline.model.kinds import network_kind
from pipeline.model.names import BACKBONE, canonical, needs_checkpoint, split_checkpoint
from pipeline.model.recipe import Recipe, check_fields, recipe_fields
from pipeline.model.start import OF_TRAINING, PREPARED, Source, Start

if TYPE_CHECKING:
    import torch

_PROBED = 2
"""Number of rows for a trial of a network that is built here, which accepts any number."""
PRECISIONS = ("float32", "bfloat16", "float16")


class Network(Protocol):
    """A loaded network: normalized images float32 `[B, 3, H, W]` to features float32 `[B, D]`.

    `dimension` is D. `batch` is the only B that it takes, and `input_size` the only (H, W), or None
    if they are free. `levels` means that it takes only whole numbers from 0 to 255. The images are
    NumPy arrays, contiguous (NCHW). `device` is `cpu`, or `cuda:N` for a `TorchNetwork` that also
    takes tensors there.
    """

    device: str
    dimension: int
    batch: int | None
    input_size: tuple[int, int] | None
    levels: bool

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features float32 `[B, D]` in new memory; NaN is passed on."""


@dataclass(frozen=True)
class NetworkFile:
    """The files of a network.

    It is an ONNX, OpenVINO IR, TorchScript or torch.export file; or a name of `names.ARCHITECTURES`
    or `torchvision:NAME` with the checkpoint that has its weights: `FILE`, or `FILE#PART` if that
    has several sets of them. If it was given by a URL, `fetched` is the origin of the copy of the
    file, or of a named network's checkpoint (`fetched_networks.network_file`).

    Raise InputError for an unknown name or option, for a name without a checkpoint, and for a
    checkpoint beside a file that has its own weights.
    """

    path: str
    checkpoint: str | None = None
    fetched: FetchedFile | None = None

    def __post_init__(self) -> None:
        if not self.named:
            if self.checkpoint is not None:
                raise InputError(
                    f"{self.path}: holds its own weights; a checkpoint ({self.checkpoint}) goes "
                    f"with {BACKBONE}NAME and with the networks that are built here only"
                )
            return
        if self.backbone is not None:
            from pipeline.model.architectures.backbone import check_backbone_name

            check_backbone_name(self.backbone)
        if self.checkpoint is None:
            raise InputError(
                f"{self.path}: needs a checkpoint; weights are never downloaded or left random"
            )

    @property
    def named(self) -> bool:
        """Whether the network is built here by its name, with a checkpoint's weights."""
        return needs_checkpoint(self.path)

    @property
    def backbone(self) -> str | None:
        """The torchvision name, or None for any other network."""
        return self.path.removeprefix(BACKBONE) if self.path.startswith(BACKBONE) else None

    @property
    def given(self) -> tuple[str, str | None]:
        """The path and the checkpoint as the user gave them: URLs rather than copies."""
        if self.fetched is None:
            return self.path, self.checkpoint
        if self.checkpoint is None:
            return self.fetched.url, None
        return self.path, _with_part(self.fetched.url, self.checkpoint)

    def here(self) -> "NetworkFile":
        """The same network on this machine, which may be another than where it was made.

        Raise the errors of `FetchedFile.here`.
        """
        if self.fetched is None:
            return self
        copy = str(self.fetched.here())
        if self.checkpoint is None:
            return replace(self, path=copy)
        return replace(self, checkpoint=_with_part(copy, self.checkpoint))

    def weights_hash(self) -> str:
        """The SHA-256 (64 hex digits) of the contents of the files, whatever their names.

        For one file it is the SHA-256 of that file. For several files, and for a named network, it
        is the hash of these lines: its name, each file's SHA-256, and the requested part of the
        checkpoint. Raise InputError for a missing file, and for one that is not a network.
        """
        digests = [_digest(file) for file in self._files()]
        if not self.named and len(digests) == 1:
            return digests[0]
        part = None if self.checkpoint is None else split_checkpoint(self.checkpoint)[1]
        lines = [
            *([canonical(self.path)] if self.named else []),
            *digests,
            *([f"#{part}"] if part is not None else []),
        ]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def _files(self) -> list[Path]:
        if self.checkpoint is not None:
            return [Path(split_checkpoint(self.checkpoint)[0])]
        kind = network_kind(self.path)
        if kind == "onnx":
            return onnx_files(self.path)
        if kind == "openvino":
            from pipeline.model.backends.openvino_network import openvino_files

            return openvino_files(self.path)
        return [Path(self.path)]


def open_network(
    file: NetworkFile,
    *,
    size: tuple[int, int],
    batch_size: int,
    device: str = "cpu",
    threads: int = 1,
    precision: str = "float32",
    compiled: bool = False,
    output: str | None = None,
) -> Network:
    """Load a network to run at `size` (height, width), in batches of `batch_size`.

    If the returned network has its own `batch`, feed it with that. `device` is `cpu` or `cuda:N`,
    and for an ONNX file also `tensorrt:N`. `compiled` is for networks that are built here and for
    torch.export files. `output` names the feature of a file that has several outputs.

    Raise InputError for a file that cannot be loaded or run in this way, for a device that does not
    exist, and for a precision or compilation that this kind of file does not support.
    """
    _check_device(device)
    if precision not in PRECISIONS:
        raise InputError(f"precision must be {', '.join(PRECISIONS)}, not {precision!r}")
    path = file.path
    run: dict[str, Any] = {"size": size, "batch_size": batch_size}
    run |= {"device": device, "threads": threads}
    if file.checkpoint is not None:
        if output is not None:
            raise InputError(f"{path}: has one output only; leave `output` out")
        return _open_named(file, compiled, {**run, "precision": precision})
    run["output"] = output
    kind = network_kind(path)
    if compiled and kind != "export":
        raise InputError(f"{path}: torch.compile does not take {kind} files")
    if device.startswith("tensorrt") and kind != "onnx":
        raise InputError(f"{path}: device {device} runs ONNX files only; export the network")
    if kind == "onnx":
        if precision != "float32":
            raise InputError(
                f"{path}: an ONNX file runs in the precision that it holds, not in {precision}; "
                "convert the file itself, or take float32"
            )
        return OnnxNetwork(path, **run)
    run["precision"] = precision
    if kind == "openvino":
        from pipeline.model.backends.openvino_network import OpenvinoNetwork

        return OpenvinoNetwork(path, **run)
    from pipeline.model.backends.torch_files import open_export, open_torchscript

    if kind == "torchscript":
        return open_torchscript(path, **run)
    return open_export(path, **run, compiled=compiled)


def load_module(file: NetworkFile) -> "torch.nn.Module":
    """Load the module of a named network with its checkpoint's weights, channels last, on the CPU.

    Raise InputError for a network file, and for a checkpoint that does not fit.
    """
    if file.checkpoint is None:
        raise InputError(f"{file.path}: is a network file, not a network that is built here")
    if file.backbone is not None:
        from pipeline.model.architectures.backbone import load_backbone

        return load_backbone(file.backbone, file.checkpoint)
    from pipeline.model.architectures.known import load_architecture

    return load_architecture(file.path, file.checkpoint)


def input_size(file: NetworkFile) -> tuple[int, int] | None:
    """The (height, width) that a network fixes; None if it is free or the file does not say."""
    if file.backbone is not None:
        from pipeline.model.architectures.backbone import backbone_input_size

        return backbone_input_size(file.backbone)
    if file.checkpoint is not None:
        from pipeline.model.architectures.known import architecture_recipe

        return architecture_recipe(file.path, file.checkpoint)[1]
    declared = _declared(file)
    return None if declared is None else fixed_size(declared.shape)


def opening(file: NetworkFile) -> Opening:
    """The effect of a network file's first operations on its input; empty for a named network.

    Raise InputError for a file that cannot be read.
    """
    if file.named:
        return Opening()
    kind = network_kind(file.path)
    if kind == "torchscript":
        from pipeline.model.backends.torch_network import load_torchscript
        from pipeline.model.backends.torch_opening import script_opening

        return script_opening(load_torchscript(file.path, "cpu"))
    if kind == "export":
        from pipeline.model.backends.torch_network import export_image_input, read_export
        from pipeline.model.backends.torch_opening import export_opening

        program = read_export(file.path)
        return export_opening(program, export_image_input(file.path, program)[0])
    from pipeline.model.backends.openvino_network import openvino_image_input
    from pipeline.model.backends.openvino_opening import onnx_opening, openvino_opening

    read = onnx_opening if kind == "onnx" else openvino_opening
    declared = onnx_image_input if kind == "onnx" else openvino_image_input
    return read(file.path, declared(file.path))


def default_recipe(file: NetworkFile, fields: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a network, from `start_recipe`."""
    return start_recipe(file, fields).recipe


def start_recipe(file: NetworkFile, fields: Mapping[str, Any] | None = None) -> Start:
    """The recipe of a network: `fields` if given, then what its file implies, then the defaults.

    A file implies its input size and, by its first operations, the range, mean, deviation and order
    of channels. The defaults are Recipe's, unless a network that is built here states its own.
    Raise InputError for an unknown field, for a size or scales that contradict the network's fixed
    size, and for a file that is not a network.
    """
    given = dict(fields or {})
    check_fields(given, "recipe")
    sources: dict[str, Source] = dict.fromkeys(recipe_fields(), "default")
    sources |= dict.fromkeys(OF_TRAINING, "assumed")
    if file.checkpoint is not None and file.backbone is None:
        from pipeline.model.architectures.known import architecture_recipe

        own, fixed = architecture_recipe(file.path, file.checkpoint)
        sources |= dict.fromkeys((*PREPARED, *own), "its toolbox")
        found = Opening()
    else:
        if file.checkpoint is not None:
            from pipeline.model.architectures.reading import read_weights

            # If the checkpoint cannot be read, fail now and not in every worker.
            read_weights(split_checkpoint(file.checkpoint)[0])
        fixed = input_size(file)
        found = opening(file)
        own = found.fields
        sources |= dict.fromkeys(own, "the file")
    if fixed is not None:
        own = {**own, "height": fixed[0], "width": fixed[1]}
        sources |= {"height": "the file", "width": "the file"}
    sources |= dict.fromkeys(given, "given")
    recipe = Recipe(weights=file.weights_hash(), **{**own, **given})
    check_views(file.path, fixed, recipe)
    return Start(recipe, sources, found)


def check_views(path: str, fixed: tuple[int, int] | None, recipe: Recipe) -> None:
    """Raise InputError if a network of fixed input size cannot run a recipe's size or scales."""
    check_input_size(path, fixed, (recipe.height, recipe.width))
    if fixed is not None and recipe.scales != (1.0,):
        raise InputError(
            f"{path}: the network takes images of {fixed[0]} x {fixed[1]} only, so the recipe "
            f"cannot have scales {recipe.scales}"
        )


def check_levels(path: str, recipe: Recipe) -> None:
    """Raise InputError if a network that takes whole levels would get another input."""
    if (recipe.pixel_range, recipe.mean, recipe.std) != (255.0, (0.0,) * 3, (1.0,) * 3):
        raise InputError(
            f"{path}: the network takes whole levels from 0 to 255 (uint8), so the recipe must "
            "have `pixel_range` 255, `mean` 0 0 0 and `std` 1 1 1; leave them out"
        )


def _open_named(file: NetworkFile, compiled: bool, run: dict[str, Any]) -> Network:
    """Load a network that is built here."""
    from pipeline.model.architectures.folding import fold_normalizations
    from pipeline.model.backends.torch_network import TorchNetwork, torch_threads

    fixed = input_size(file)
    check_input_size(file.path, fixed, run["size"])
    with torch_threads(run["threads"]):
        module = fold_normalizations(load_module(file)).to(run["device"])
    return TorchNetwork(
        file.path,
        module,
        **run,
        input_size=fixed,
        compiled=compiled,
        probed=None if compiled else _PROBED,
    )


def _declared(file: NetworkFile) -> ImageInput | None:
    """The image input that a network file declares; None for TorchScript, which declares none."""
    match network_kind(file.path):
        case "onnx":
            return onnx_image_input(file.path)
        case "openvino":
            from pipeline.model.backends.openvino_network import openvino_image_input

            return openvino_image_input(file.path)
        case "export":
            from pipeline.model.backends.torch_network import export_image_input, read_export

            return export_image_input(file.path, read_export(file.path))[0]
        case "torchscript":
            return None


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        # TensorRT is a way to run on a CUDA device.
        kind = torch.device(device.replace("tensorrt", "cuda"))
    except RuntimeError as error:
        raise InputError(f"device must be cpu or cuda:N, not {device!r}") from error
    if kind.type != "cuda":
        raise InputError(f"device must be cpu or cuda:N, not {device!r}")
    if (kind.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices here"
        )


def _with_part(file: str, checkpoint: str) -> str:
    """Another file with the part that a checkpoint requests."""
    part = split_checkpoint(checkpoint)[1]
    return file if part is None else f"{file}#{part}"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
