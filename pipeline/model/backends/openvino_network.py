"""Run OpenVINO networks (IR: an .xml with its .bin) on the CPU."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager

from pipeline.errors import InputError
from pipeline.model.backends.signature import (
    ImageInput,
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

_TYPES = ("f32", "f16", "u8")
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenvinoNetwork:
    """An OpenVINO IR as a function from images float32 `[B, 3, H, W]` to features `[B, D]`.

    It is compiled for one fixed shape at a time: a network of fixed batch is reshaped to
    `batch_size`, or keeps its own batch if reshaping fails. `size` is the (height, width) to run
    at; `output` names the feature if there are several outputs. Raise InputError for files that
    OpenVINO cannot read, for a device other than the CPU, for a precision that this processor
    lacks, and for a network that does not have one image input and one feature output.
    """

    def __init__(
        self,
        path: str,
        *,
        size: tuple[int, int],
        batch_size: int,
        device: str,
        threads: int,
        precision: str,
        output: str | None = None,
    ) -> None:
        if device != "cpu":
            raise InputError(
                f"{path}: OpenVINO runs on the CPU here, not on {device}; "
                "take device cpu, or the network as ONNX"
            )
        self.device = "cpu"
        self._path, self._precision, self._wanted = path, precision, output
        self._settings = _settings(threads, precision)
        self._model = read_ir(path)
        self._input = _image_input(path, self._model)
        self._dtype = self._model.inputs[0].get_element_type().to_dtype()
        self.levels = self._input.levels
        self.input_size = fixed_size(self._input.shape)
        check_input_size(path, self.input_size, size)
        self._compiled: dict[tuple[int, ...], Any] = {}
        batch = self._settle_batch(self._input.shape[0], batch_size, size)
        self.batch: int | None = batch
        self._output, self.dimension = self._feature((batch, 3, *size))
        self._request((batch, 3, *size))  # compile now, because a precision may not be available
        self._request((self.batch, 3, *size))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features float32 `[B, D]` of normalized images float32 `[B, 3, H, W]`."""
        request = self._request(tuple(images.shape))
        feed = self._input.laid_out(images).astype(self._dtype, copy=False)
        features = request.infer({0: feed}, share_inputs=True)[self._output]
        return rows(features.astype(np.float32))  # a copy, because the request's memory is reused

    def _settle_batch(self, own: int | None, wanted: int, size: tuple[int, int]) -> int:
        """The target batch, or the file's own if only that gives one row per crop."""
        if own == wanted:
            return wanted
        try:
            self._feature((wanted, 3, *size))
        except InputError:
            # Some files also have their batch inside, for example as a constant of a Reshape.
            if own is not None:
                return own
            for inside in self._batches_inside(wanted, size):
                _log.info("%s: runs in batches of %d, as it was traced", self._path, inside)
                return inside
            raise
        return wanted

    def _batches_inside(self, wanted: int, size: tuple[int, int]) -> Iterator[int]:
        """Batches with which a file that declares a free batch gives one row per crop."""
        try:
            shapes = self._outputs((wanted, 3, *size))
        except InputError:
            shapes = {}
        for inside in rows_given(shapes, wanted):
            with contextlib.suppress(InputError):
                self._feature((inside, 3, *size))
                yield inside

    def _feature(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Index and length of the feature output for inputs of one fixed shape."""
        outputs = self._outputs(shape)
        chosen = feature_output(self._path, outputs, shape[0], self._wanted)
        dimension = outputs[chosen][1]
        if dimension is None:
            raise InputError(f"{self._path}: the length of its feature is not fixed")
        return list(outputs).index(chosen), dimension

    def _outputs(self, shape: tuple[int, ...]) -> dict[str, Shape]:
        ports = self._reshaped(shape).outputs
        return {_name(port, str(i)): _sides(port) for i, port in enumerate(ports)}

    def _reshaped(self, shape: tuple[int, ...]) -> openvino.Model:
        model = self._model.clone()
        try:
            batch, channels, *size = shape
            declared = [batch, *size, channels] if self._input.channels_last else list(shape)
            model.reshape({model.inputs[0]: declared})
        except RuntimeError as error:
            raise InputError(
                f"{self._path}: cannot take a batch of shape {list(shape)} ({_last_line(error)})"
            ) from error
        return model

    def _compile(self, shape: tuple[int, ...]) -> Any:
        try:
            return openvino.Core().compile_model(self._reshaped(shape), "CPU", self._settings)
        except RuntimeError as error:
            raise InputError(
                f"{self._path}: OpenVINO cannot compile it ({_last_line(error)})"
            ) from error

    def _request(self, shape: tuple[int, ...]) -> Any:
        """An inference request for one fixed shape, compiled on first use."""
        if shape not in self._compiled:
            compiled = self._compile(shape)
            hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            if hint != _HINTS[self._precision]:
                raise InputError(
                    f"{self._path}: OpenVINO cannot compute in {self._precision} on this "
                    f"processor (it would take {hint}); take float32"
                )
            self._compiled[shape] = compiled.create_infer_request()
        return self._compiled[shape]


def openvino_image_input(path: str) -> ImageInput:
    """Read the image input that an IR declares, without compiling it."""
    return _image_input(path, read_ir(path))


def openvino_files(path: str) -> list[Path]:
    """The .xml and its .bin of the same name; raise InputError if the .bin is missing."""
    weights = Path(path).with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{path}: its weights {weights.name} are missing from the same folder")
    check_not_text(str(weights))
    return [Path(path), weights]


def _settings(threads: int, precision: str) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # With pinning, the threads of several actors would all use the same first cores.
        "ENABLE_CPU_PINNING": False,
    }


def read_ir(path: str) -> openvino.Model:
    """Read an IR with the IR reader itself, because `read_model` would try every other format
    first.
    """
    openvino_files(path)
    try:
        reader = FrontEndManager().load_by_framework("ir")
        return reader.convert(reader.load(path))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: OpenVINO cannot read it ({_last_line(error)})") from error


def _image_input(path: str, model: openvino.Model) -> ImageInput:
    shapes = {_name(port, str(i)): _sides(port) for i, port in enumerate(model.inputs)}
    types = [port.get_element_type().get_type_name() for port in model.inputs]
    found = image_input(path, shapes, levels=types == ["u8"])
    if types[0] not in _TYPES:
        raise InputError(f"{path}: the input must be float32, float16 or uint8, but is {types[0]}")
    return found


def _name(port: Any, otherwise: str) -> str:
    return port.any_name if port.names else otherwise


def _sides(port: Any) -> Shape:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)


def _last_line(error: Exception) -> str:
    """The last line of an error: OpenVINO's messages begin with its own source lines and end with
    the reason.
    """
    return str(error).strip().splitlines()[-1]
