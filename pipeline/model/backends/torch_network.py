"""Networks that PyTorch runs: TorchScript, torch.export programs, and modules built here.

TorchScript and .pt2 files are programs, and reading a .pt2 may unpickle: use them only from a
source whose code you would run. (A checkpoint for torchvision:NAME is read without running
anything.)
"""

import contextlib
import io
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.passes import move_to_device_pass

from pipeline.errors import InputError
from pipeline.model.backends.signature import (
    ANY_IMAGES,
    ImageInput,
    NoRowACrop,
    check_input_size,
    feature_output,
    image_input,
    rows_given,
)

_log = logging.getLogger(__name__)

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Operations that behave differently in training, and the position of their training flag.
_TRAINING_FLAG = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}


class TorchNetwork:
    """A PyTorch callable as a function from images float32 `[B, 3, H, W]` to features `[B, D]`.

    `run` is on `device` already; `threads` is the number of CPU threads that it runs with. `batch`
    and `input_size` are the fixed batch and size, or None; otherwise it runs with `batch_size` and
    `size` (height, width). float16 and bfloat16 run under autocast. `image` is the input if the
    file declares one, and `types` the floating types that it may have; the first type that runs is
    used. `output` names the feature among several outputs. `compiled` lets `torch.compile` generate
    code for the processor first, which takes a minute and a C++ compiler.

    To check it, the network first runs on black: in a whole batch, or in one of `probed` rows if
    any number will do. Raise InputError if it does not run at `size` or does not have one feature
    output `[B, D]`. If it does not return one row per crop and no batch is fixed, it runs in the
    batch of its tracing. If a GPU has too little memory for a batch, this batch and all later ones
    run in two halves; raise InputError if the halves are too large, too.
    """

    def __init__(
        self,
        path: str,
        run: Any,
        *,
        size: tuple[int, int],
        batch_size: int,
        device: str,
        precision: str,
        threads: int = 1,
        batch: int | None = None,
        input_size: tuple[int, int] | None = None,
        compiled: bool = False,
        probed: int | None = None,
        image: ImageInput = ANY_IMAGES,
        types: Sequence[torch.dtype] = (torch.float32,),
        output: str | None = None,
    ) -> None:
        self.device, self._threads = device, threads
        self._device = torch.device(device)
        if self._device.type == "cuda":
            # The neighbor search sets this too: a feature must not depend on which of the two came
            # first.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        self.batch, self.input_size = batch, input_size
        self.levels, self._input, self._wanted = image.levels, image, output
        self._run = torch.compile(run) if compiled else run
        self._half = _HALVES.get(precision)
        self._path, self._parts = path, 1
        check_input_size(path, input_size, size)
        self._type = types[0]
        with torch_threads(threads):
            self._output, self.dimension = self._settle(
                path,
                (probed or batch or max(batch_size, 2), 3, *size),
                types,
                free=not (probed or batch),
            )

    def __call__(self, images: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
        """Compute features float32 `[B, D]` of normalized images float32 `[B, 3, H, W]`.

        The images are a NumPy array, or a tensor, which may be on the network's device.
        """
        return self.start(images)()

    def start(
        self, images: NDArray[np.float32] | torch.Tensor
    ) -> Callable[[], NDArray[np.float32]]:
        """Begin a call; return a function that waits for the features.

        A GPU works in the meantime. The caller may already write the next batch into `images`.
        """
        given = images if isinstance(images, torch.Tensor) else torch.from_numpy(images)
        with torch_threads(self._threads):
            while (feature := self._tried(given)) is None:
                torch.cuda.empty_cache()
        if feature.device.type == "cpu":
            # A copy: a network's feature may be a view of its input, which the caller reuses.
            made: NDArray[np.float32] = feature.numpy().copy()
            return lambda: made
        pinned = torch.empty(feature.shape, dtype=torch.float32, pin_memory=True)
        pinned.copy_(feature, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> NDArray[np.float32]:
            done.synchronize()
            return pinned.numpy()

        return wait

    def _feature(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features float32 `[B, D]` on the device, in as many parts as the memory
        requires.
        """
        parts = images.chunk(self._parts)
        features = [
            named_outputs(self._forward(part))[self._output].float().flatten(1) for part in parts
        ]
        return features[0] if len(features) == 1 else torch.cat(features)

    def _tried(self, images: torch.Tensor) -> torch.Tensor | None:
        """Compute the features; None if memory runs out and a smaller batch may work.

        The retry happens outside, because here the error still holds the network's intermediate
        results.
        """
        try:
            return self._feature(images)
        except torch.OutOfMemoryError as error:
            self._halve(len(images), error)
        return None

    def _halve(self, rows: int, error: torch.OutOfMemoryError) -> None:
        """Run batches in two halves from now on; raise InputError if they cannot be divided."""
        if self._parts > 1 or rows == 1 or self.batch is not None:
            raise InputError(
                f"{self._path}: the GPU has too little memory for {-(-rows // self._parts)} images"
                " at once; give a smaller `batch_size` or fewer `actors`"
            ) from error
        _log.warning(
            "%s: the GPU has too little memory for %d images at once: taking half as many; give"
            " `batch_size` %d to have it so from the start",
            self._path, rows, -(-rows // 2),
        )  # fmt: skip
        self._parts = 2

    def _forward(self, images: torch.Tensor) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                # On a GPU, TorchScript may fuse operations after its first runs, which would change
                # the last bits between batches.
                stack.enter_context(torch.jit.optimized_execution(False))
                # By default a GPU computes float32 convolutions in TF32.
                stack.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                    )
                )
            if self._half is not None:
                stack.enter_context(torch.autocast(self._device.type, dtype=self._half))
            images = images.to(self._device)
            if self._input.channels_last:
                images = images.permute(0, 2, 3, 1).contiguous()
            return self._run(images.to(torch.uint8 if self.levels else self._type))

    def _settle(
        self, path: str, shape: tuple[int, int, int, int], types: Sequence[torch.dtype], free: bool
    ) -> tuple[str, int]:
        """Find name and length of the feature; set the type and the batch to those that run."""
        first: NoRowACrop | None = None
        for self._type in types:
            try:
                return self._probe(path, shape)
            except NoRowACrop as error:
                first = first or error
                for inside in rows_given(error.shapes, shape[0]) if free else ():
                    with contextlib.suppress(InputError):
                        found = self._probe(path, (inside, *shape[1:]))
                        _log.info("%s: runs in batches of %d, as it was traced", path, inside)
                        self.batch = inside
                        return found
        raise first or InputError(f"{path}: takes no floating numbers")

    def _probe(self, path: str, shape: tuple[int, int, int, int]) -> tuple[str, int]:
        """Run once on black, because the output is unknown before."""
        try:
            outputs = named_outputs(self._forward(torch.zeros(shape)))
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            raise NoRowACrop(
                f"{path}: cannot run on {shape[0]} images of {shape[2]} x {shape[3]} "
                f"({_reason(error)})",
                {},
            ) from error
        shapes = {n: tuple(t.shape) for n, t in outputs.items()}
        try:
            name = feature_output(path, shapes, shape[0], self._wanted)
        except InputError as error:
            raise NoRowACrop(str(error), shapes) from error
        return name, outputs[name].shape[1]


def load_torchscript(path: str, device: str) -> Any:
    """Load the TorchScript module of a file to `device`, ready for inference.

    `device` replaces the devices that its code names, for example after tracing on a GPU.
    """
    try:
        with warnings.catch_warnings():
            # torch.jit is deprecated for writing, but archives of it will remain in use for long.
            warnings.filterwarnings("ignore", ".*torch.jit.*deprecated", FutureWarning)
            return torch.jit.load(_on_device(path, device), map_location=device).eval()
    except Exception as error:  # the reader may raise any error
        raise InputError(f"{path}: PyTorch cannot load it ({_reason(error)})") from error


def script_types(module: torch.jit.ScriptModule) -> tuple[torch.dtype, ...]:
    """The floating types that a module's input may have: that of its weights, or any, float32
    first.

    In a frozen module the weights are constants of its code, so their type is unknown.
    """
    weights = [*module.parameters(), *module.buffers()]
    found = dict.fromkeys(each.dtype for each in weights if each.is_floating_point())
    return tuple(found) or (torch.float32, *_HALVES.values())


def load_export(path: str, device: str) -> tuple[Any, ImageInput, torch.dtype]:
    """Load the program of a .pt2 file to `device`; return it with its input and the input's type.

    Raise InputError for a file that cannot be read, and for one exported in training mode, whose
    batch normalization would mix the crops of a batch.
    """
    program = read_export(path)
    image, kind = export_image_input(path, program)
    for node in program.graph.nodes:
        flag = _TRAINING_FLAG.get(str(node.target))
        if flag is not None and len(node.args) > flag and node.args[flag] is True:
            raise InputError(f"{path}: was exported in training mode; call model.eval() before")
    if device != "cpu":
        program = move_to_device_pass(program, device)
    return program.module(), image, kind


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads inside the block, and the previous number after it.

    PyTorch has one count per process, so two networks with different counts must not run at the
    same time in one process (an actor has one network).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_export(path: str) -> Any:
    """Read the program of a .pt2 file unchanged; raise InputError if it cannot be read."""
    try:
        return torch.export.load(path)
    except Exception as error:  # the reader may raise any error
        raise InputError(f"{path}: PyTorch cannot load it ({_reason(error)})") from error


def export_image_input(path: str, program: Any) -> tuple[ImageInput, torch.dtype]:
    """The image input of a torch.export program, and its type."""
    names = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    shapes = {
        str(name): tuple(side if isinstance(side, int) else None for side in values[name].shape)
        for name in names
        if isinstance(values.get(name), torch.Tensor)
    }
    kinds = {str(name): values[name].dtype for name in names if str(name) in shapes}
    image = image_input(path, shapes, levels=[*kinds.values()] == [torch.uint8])
    return image, kinds[image.name]


_NAMED_DEVICE = re.compile(rb'torch\.device\("(?:cuda(?::\d+)?|cpu)"\)')


def _on_device(path: str, device: str) -> str | io.BytesIO:
    """The file, or a copy in memory whose code names `device` instead of any other device."""
    wanted = f'torch.device("{device}")'.encode()
    with zipfile.ZipFile(path) as archive:
        code = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
        moved = {name: _NAMED_DEVICE.sub(wanted, text) for name, text in code.items()}
        if moved == code:
            return path
        _log.info("%s: was traced on another device; its constants are made on %s", path, device)
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as out:
            for entry in archive.infolist():
                out.writestr(entry, moved.get(entry.filename) or archive.read(entry))
    copy.seek(0)
    return copy


def named_outputs(outputs: Any) -> dict[str, torch.Tensor]:
    """A network's outputs by name or, in a tuple or list, by position."""
    if isinstance(outputs, torch.Tensor):
        return {"output": outputs}
    if isinstance(outputs, Mapping):
        return {str(k): v for k, v in outputs.items() if isinstance(v, torch.Tensor)}
    if isinstance(outputs, tuple | list):
        return {str(i): v for i, v in enumerate(outputs) if isinstance(v, torch.Tensor)}
    return {}


def _reason(error: Exception) -> str:
    """The last line of an error; TorchScript's errors begin with a trace of their own."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
