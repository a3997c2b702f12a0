"""The required signature of a network: a batch of color images in, a matrix of features out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

# None stands for a side or a batch that is free (or has a symbolic name).
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class ImageInput:
    """The input for images: its name, and its shape as `[B, 3, H, W]`, whatever its layout.

    `channels_last` means that it is declared as `[B, H, W, 3]`; `levels` means that it takes whole
    numbers from 0 to 255 (uint8).
    """

    name: str
    shape: Shape
    channels_last: bool = False
    levels: bool = False

    def laid_out(self, images: NDArray[np.float32]) -> NDArray:
        """Convert images `[B, 3, H, W]` to the network's layout, and to bytes for levels.

        The levels are exact: the recipe of such a network is 0 to 255 without mean or deviation.
        """
        if self.channels_last:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        return images.astype(np.uint8) if self.levels else images


ANY_IMAGES = ImageInput("images", (None, 3, None, None))
"""The input of a network that declares none."""


class NoRowACrop(InputError):  # noqa: N818 - it says what went wrong
    """A network did not return one row per crop; this has the shapes that it returned."""

    def __init__(self, message: str, shapes: Mapping[str, Shape]) -> None:
        super().__init__(message)
        self.shapes = shapes


def image_input(path: str, inputs: Mapping[str, Shape], *, levels: bool = False) -> ImageInput:
    """Find the only input, `[B, 3, H, W]` or `[B, H, W, 3]`; raise InputError if there is none."""
    if len(inputs) != 1:
        raise InputError(
            f"{path}: the network must have one input, an image batch, but has {_listed(inputs)}"
        )
    name, shape = next(iter(inputs.items()))
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        batch, height, width, channels = shape
        return ImageInput(name, (batch, channels, height, width), True, levels)
    if len(shape) != 4 or shape[1] not in (3, None):
        raise InputError(
            f"{path}: the input must be [B, 3, H, W] or [B, H, W, 3], but is {_listed(inputs)}"
        )
    return ImageInput(name, shape, False, levels)


def feature_output(
    path: str, outputs: Mapping[str, Shape], batch: int, wanted: str | None = None
) -> str:
    """The name of the only output of shape `[batch, D]`, or otherwise `[batch, D, 1, 1]`.

    `wanted` names one of several. Raise InputError if there are none or several, and if `wanted`
    does not exist or has another shape.
    """
    if wanted is not None and wanted not in outputs:
        raise InputError(f"{path}: has no output {wanted}; it has {_listed(outputs)}")
    named = outputs if wanted is None else {wanted: outputs[wanted]}
    flat = [n for n, shape in named.items() if len(shape) == 2 and shape[0] == batch]
    fitting = flat or [n for n, shape in named.items() if _is_pooled(shape, batch)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{path}: several outputs of shape [{batch}, D], one row a crop: "
            f"{_listed({n: outputs[n] for n in fitting})}; name the feature as `output`"
        )
    raise InputError(
        f"{path}: no output of shape [{batch}, D], one row a crop; it has {_listed(named)}; "
        "export the network with its feature as the one such output"
    )


def rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features `[B, D]` of an output that may have trailing sides of 1."""
    return features.reshape(features.shape[:2])


def rows_given(outputs: Mapping[str, Shape], batch: int) -> list[int]:
    """Batches to try for a network without one row per crop: the number of rows that it returns,
    and 1.

    The batch of tracing may be fixed inside a network, whatever its axes say.

    >>> rows_given({"f": (1, 64)}, 4), rows_given({"f": (2, 32), "g": (2, 3, 3)}, 4)
    ([1], [2, 1])
    """
    found = [shape[0] for shape in outputs.values() if len(shape) >= 2 and shape[0]]
    return list(dict.fromkeys(rows for rows in [*found, 1] if rows is not None and rows < batch))


def fixed_size(shape: Shape) -> tuple[int, int] | None:
    """Height and width of an input `[B, 3, H, W]`, or None if one of them is free.

    >>> fixed_size((None, 3, 256, 128)), fixed_size((1, 3, None, None))
    ((256, 128), None)
    """
    height, width = shape[2:]
    return None if height is None or width is None else (height, width)


def check_input_size(path: str, fixed: tuple[int, int] | None, size: tuple[int, int]) -> None:
    """Raise InputError if a network of a fixed input size is to run at another one."""
    if fixed is not None and fixed != size:
        raise InputError(
            f"{path}: the network takes images of {fixed[0]} x {fixed[1]} (height x width) only, "
            f"the recipe says {size[0]} x {size[1]}; leave height and width out of the recipe"
        )


def _is_pooled(shape: Shape, batch: int) -> bool:
    return len(shape) > 2 and shape[0] == batch and all(side == 1 for side in shape[2:])


def _listed(shapes: Mapping[str, Shape]) -> str:
    def shape_text(shape: Shape) -> str:
        return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"

    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items()) or "none"
