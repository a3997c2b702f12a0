"""What a network must take and give: a batch of color images, a matrix of features."""

from collections.abc import Mapping

from pipeline.errors import InputError

# A side or a batch that is free (or has a symbolic name) is None.
Shape = tuple[int | None, ...]


def image_input(path: str, inputs: Mapping[str, Shape]) -> str:
    """The name of the one input, of shape `[B, 3, H, W]`; InputError where there is no such."""
    if len(inputs) != 1:
        raise InputError(
            f"{path}: the network must have one input, an image batch, but has {_told(inputs)}"
        )
    name, shape = next(iter(inputs.items()))
    if len(shape) != 4 or shape[1] not in (3, None):
        raise InputError(f"{path}: the input must be [B, 3, H, W], but is {_told(inputs)}")
    return name


def feature_output(path: str, outputs: Mapping[str, Shape], batch: int) -> str:
    """The name of the only output of shape `[batch, D]`; InputError where none or several are."""
    fitting = [n for n, shape in outputs.items() if len(shape) == 2 and shape[0] == batch]
    if len(fitting) == 1:
        return fitting[0]
    what = "several outputs" if fitting else "no output"
    raise InputError(
        f"{path}: {what} of shape [{batch}, D], one row a crop; it has {_told(outputs)}; "
        "export the network with its feature as the one such output"
    )


def fixed_size(shape: Shape) -> tuple[int, int] | None:
    """Height and width of an input `[B, 3, H, W]`, or None where one of them is free.

    >>> fixed_size((None, 3, 256, 128)), fixed_size((1, 3, None, None))
    ((256, 128), None)
    """
    height, width = shape[2:]
    return None if height is None or width is None else (height, width)


def check_size(path: str, fixed: tuple[int, int] | None, size: tuple[int, int]) -> None:
    """Raise InputError where a network of a fixed input size is asked for another one."""
    if fixed is not None and fixed != size:
        raise InputError(
            f"{path}: the network takes images of {fixed[0]} x {fixed[1]} (height x width) only, "
            f"the recipe says {size[0]} x {size[1]}; leave height and width out of the recipe"
        )


def _told(shapes: Mapping[str, Shape]) -> str:
    def told(shape: Shape) -> str:
        return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"

    return ", ".join(f"{name} {told(shape)}" for name, shape in shapes.items()) or "none"
