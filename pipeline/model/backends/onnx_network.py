"""Run ONNX networks in ONNX Runtime."""

import logging
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.backends.signature import (
    ImageInput,
    NoRowACrop,
    Shape,
    check_input_size,
    feature_output,
    fixed_size,
    image_input,
    rows,
    rows_given,
)
from pipeline.model.file_heads import check_not_text

_log = logging.getLogger(__name__)

_DTYPES: dict[str, np.dtype] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxNetwork:
    """An ONNX file as a function from images float32 `[B, 3, H, W]` to features float32 `[B, D]`.

    It runs in the precision of the file, and converts the images to the layout and type of its
    input. `size` is the (height, width) and `batch_size` the batch, for dimensions that the file
    does not fix. `output` names its feature if it has several outputs. Raise InputError for a file
    that ONNX Runtime cannot load or run at that size, or that does not have one image input and one
    feature output.
    """

    def __init__(
        self,
        path: str,
        *,
        size: tuple[int, int],
        batch_size: int,
        device: str,
        threads: int,
        output: str | None = None,
    ) -> None:
        self.device = "cpu"  # of its input; the runtime copies it onwards
        self._session = _session(path, _providers(path, device), threads)
        self._check_provider(path, device)
        self._input = _image_input(path, self._session)
        self._dtype = _dtype(path, self._session.get_inputs()[0].type)
        self.levels = self._input.levels
        self.batch = self._input.shape[0]
        self.input_size = fixed_size(self._input.shape)
        check_input_size(path, self.input_size, size)
        self._output, self.dimension = self._settle(path, batch_size, size, output)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features float32 `[B, D]` of normalized images float32 `[B, 3, H, W]`."""
        (features,) = self._session.run([self._output], self._feed(images))
        return rows(features.astype(np.float32, copy=False))

    def _feed(self, images: NDArray[np.float32]) -> dict[str, NDArray]:
        return {self._input.name: self._input.laid_out(images).astype(self._dtype, copy=False)}

    def _check_provider(self, path: str, device: str) -> None:
        """Check the provider: if it does not start, ONNX Runtime silently uses the CPU."""
        if device != "cpu" and self._session.get_providers()[0] == "CPUExecutionProvider":
            raise InputError(f"{path}: ONNX Runtime could not start {device}")

    def _settle(
        self, path: str, wanted: int, size: tuple[int, int], output: str | None
    ) -> tuple[str, int]:
        """Find name and length of the feature; the batch becomes the one that is fixed inside the
        file.
        """
        batch = self.batch or max(wanted, 2)  # a batch of one would hide a fixed batch
        try:
            return self._probe(path, (batch, 3, *size), output)
        except NoRowACrop as error:
            if self.batch is None:
                for rows_inside in rows_given(error.shapes, batch):
                    try:
                        found = self._probe(path, (rows_inside, 3, *size), output)
                    except InputError:
                        continue
                    self.batch = rows_inside
                    _log.info("%s: runs in batches of %d, as it was traced", path, rows_inside)
                    return found
            raise

    def _probe(
        self, path: str, shape: tuple[int, int, int, int], output: str | None
    ) -> tuple[str, int]:
        """Run once on black, because the outputs that a file declares may lack their shapes."""
        names = [node.name for node in self._session.get_outputs()]
        try:
            values = self._session.run(names, self._feed(np.zeros(shape, np.float32)))
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            raise NoRowACrop(
                f"{path}: cannot run on {shape[0]} images of {shape[2]} x {shape[3]} "
                f"({_first_line(error)})",
                {},
            ) from error
        shapes = {name: np.shape(value) for name, value in zip(names, values, strict=True)}
        try:
            name = feature_output(path, shapes, shape[0], output)
        except InputError as error:
            raise NoRowACrop(str(error), shapes) from error
        return name, shapes[name][1]


def onnx_image_input(path: str) -> ImageInput:
    """Read the image input that an ONNX file declares, without preparing the file to run."""
    return _image_input(path, _session(path, ["CPUExecutionProvider"], 1, optimize=False))


def onnx_files(path: str) -> list[Path]:
    """The file and the external data files that its tensors name, in order of their names.

    Raise InputError for a damaged file, and for data that is missing or outside the file's folder.
    """
    folder = Path(path).parent
    named = onnx_data_names(path)
    for location in named:
        data = folder / location
        if not data.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path}: names weights outside its own folder: {location}")
        if not data.is_file():
            raise InputError(f"{path}: its weights lie in {data}, which is missing")
        check_not_text(str(data))
    return [Path(path), *(folder / location for location in named)]


def onnx_data_names(path: str) -> list[str]:
    """The external data files that an ONNX file's tensors name, as written in the file, sorted.

    Raise InputError for a damaged file.
    """
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        try:
            return sorted(set(_locations(raw, 0, len(raw), "model")))
        except (IndexError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{path}: the ONNX file is damaged or cut short") from error


# The fields of ONNX's protobuf messages that lead to a tensor's external data (onnx.proto3):
# message -> field number -> message.
_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def _locations(raw: mmap.mmap, start: int, stop: int, message: str) -> Iterator[str]:
    """Walk a protobuf message, skip what cannot lead to a tensor, and yield the file names."""
    if message == "entry":
        texts = {field: raw[a:b].decode() for field, a, b in _fields(raw, start, stop)}
        if texts.get(1) == "location":
            yield texts.get(2, "")
        return
    for field, begin, end in _fields(raw, start, stop):
        inner = _FIELDS[message].get(field)
        if inner is not None:
            yield from _locations(raw, begin, end, inner)


def _fields(raw: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield field number, begin and end of every length-delimited field of one protobuf message."""
    at = start
    while at < stop:
        key, at = _varint(raw, at)
        wire = key & 7
        if wire == 2:
            length, at = _varint(raw, at)
            if at + length > stop:
                raise IndexError("a field reaches beyond its message")
            yield key >> 3, at, at + length
            at += length
        elif wire == 0:
            _, at = _varint(raw, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise IndexError(f"no protobuf wire type: {wire}")


def _varint(raw: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _session(
    path: str, providers: list, threads: int, *, optimize: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    # A spinning thread uses a core that another actor's network could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise InputError(f"{path}: ONNX Runtime cannot load it ({_first_line(error)})") from error


def _providers(path: str, device: str) -> list:
    """The providers that run the graph, best first; each takes what the one before it cannot."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    names = ["CUDAExecutionProvider"]
    if device.startswith("tensorrt"):
        names = ["TensorrtExecutionProvider", *names]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    if missing:
        raise InputError(
            f"{path}: {device} needs ONNX Runtime with {missing[0]} (pip install onnxruntime-gpu), "
            "and the one installed lacks it"
        )
    index = device.partition(":")[2] or "0"
    settings = {"CUDAExecutionProvider": {"use_tf32": "0"}}
    chosen = [(name, {"device_id": index, **settings.get(name, {})}) for name in names]
    return [*chosen, "CPUExecutionProvider"]


def _dtype(path: str, declared: str) -> np.dtype:
    if declared not in _DTYPES:
        raise InputError(f"{path}: the input must be float32, float16 or uint8, but is {declared}")
    return _DTYPES[declared]


def _image_input(path: str, session: onnxruntime.InferenceSession) -> ImageInput:
    nodes = session.get_inputs()
    levels = [node.type for node in nodes] == ["tensor(uint8)"]
    return image_input(path, {node.name: _sides(node.shape) for node in nodes}, levels=levels)


def _sides(shape: list[int | str | None]) -> Shape:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()[0].removeprefix("[ONNXRuntimeError] : ")
    newer = re.search(r"Opset (\d+) is under development.* is till opset (\d+)", text)
    if newer is None:
        return re.sub(r"^\d+ : \w+ : (Load model from .* failed:)?(Fatal error: )?", "", text)
    return (
        f"it is of opset {newer[1]}, and this ONNX Runtime reads up to {newer[2]}: "
        "export it with an older opset, or install a newer onnxruntime"
    )
