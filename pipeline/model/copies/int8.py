"""8-bit networks: weights and activations as whole numbers, with ranges from the user's own crops.

The arithmetic is ONNX Runtime's static quantization (QDQ; weights by channel, activations by
tensor, ranges that cover 99.999 % of the values from the calibration crops). OpenVINO runs the same
file with the processor's 8-bit products.

A copy gives the same products on every processor, wherever it was made. x86 processors without VNNI
add two products of an activation (0 to 255) and a weight in 16 bits, and clip the sum. If weights
lie between -64 and 64, no sum of two reaches that limit (255 * 64 * 2 = 32,640 < 2^15); therefore
weights have seven bits. Products of two activations (attention) are not affected: ONNX Runtime
widens both to 16 bits first, and OpenVINO computes them in float32.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.copies.export import OPSET

INT8_DEVIATION = 0.1
"""The largest cosine distance between the features of a useful 8-bit copy and of its source."""

_OLDEST = 13  # the first ONNX operators that take one scale a channel


def quantize_network(path: Path, out: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """Write the ONNX file `path` as an 8-bit ONNX file, calibrated on `batches` `[B, 3, H, W]`.

    The batches are normalized images for the network, all of one size. Raise InputError if the
    package `onnx` is not installed, and for a network that cannot be quantized.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise InputError("int8 needs the package onnx: pip install onnx") from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self._feeds = ({name: batch} for batch in batches)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    model = onnx.load(path)
    if next(each.version for each in model.opset_import if not each.domain) < _OLDEST:
        model = onnx.version_converter.convert_version(model, OPSET)
    try:
        with _quiet():
            quantization.quantize_static(
                model,
                str(out),
                Reader(model.graph.input[0].name),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                reduce_range=True,
                calibrate_method=quantization.CalibrationMethod.Percentile,
            )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: cannot be quantized ({reason})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of the calibration on standard output and from the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(before)
