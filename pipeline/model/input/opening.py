"""The effect of a network's first operations on its input, and what it means for the recipe.

Some exporters put the preprocessing inside the network (fast-reid's do). If such a network
subtracts the mean itself and the recipe does so too, the input is normalized twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Effect = Literal["add", "subtract", "multiply", "divide", "reflect", "normalize", "swap", "pass"]

_IMAGENET = np.array([0.485, 0.456, 0.406])  # red is brightest in every set of photographs
_NEAR = 0.03
_BYTES_MEAN = (25.0, 230.0)
_BYTES_SCALE = (100.0, 300.0)
_UNIT_MEAN = (0.1, 0.9)
_UNIT_SCALE = (0.05, 1.2)


@dataclass(frozen=True)
class Operation:
    """One operation on the input: `values` are its constants, one in total or one per channel.

    `reflect` is `values - x`; `normalize` is a batch normalization, `values * x + offsets`; `swap`
    reverses the channels; `pass` (a cast, a transposition) leaves the numbers unchanged.
    """

    kind: Effect
    values: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Opening:
    """The first operations of a network, up to one that mixes pixels.

    `levels` means that its input is declared as bytes, `channels_last` that it is declared as `[B,
    H, W, 3]`. `why_unknown` says why the operations could not be read.

    >>> mean, deviation = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    >>> opened = Opening((Operation("subtract", mean), Operation("divide", deviation)))
    >>> opened.text
    '(x - [123.7, 116.3, 103.5]) / [58.4, 57.1, 57.4]'
    >>> opened.fields["pixel_range"], opened.fields["mean"]
    (255.0, (0.0, 0.0, 0.0))
    """

    steps: tuple[Operation, ...] = ()
    levels: bool = False
    channels_last: bool = False
    why_unknown: str | None = None

    @property
    def text(self) -> str:
        """The operations as a formula of the input x; empty if there are none."""
        formula, simple = "x", True
        for step in self.steps:
            values = _numbers(step.values)
            inner = formula if simple else f"({formula})"
            match step.kind:
                case "add" | "subtract":
                    formula, simple = (
                        f"{formula} {'+' if step.kind == 'add' else '-'} {values}",
                        False,
                    )
                case "reflect":
                    formula, simple = f"{values} - {inner}", False
                case "multiply" | "divide":
                    formula, simple = (
                        f"{inner} {'*' if step.kind == 'multiply' else '/'} {values}",
                        True,
                    )
                case "normalize":
                    formula, simple = f"{inner} * {values} + {_numbers(step.offsets)}", False
                case "swap":
                    formula, simple = f"reversed channels of {inner}", False
        return "" if formula == "x" else formula

    @property
    def fields(self) -> dict[str, Any]:
        """The recipe fields that the operations imply; empty if they imply none."""
        factor, shift, swapped = self.composed()
        mean, scale = -shift / factor, 1 / factor
        level = 255.0 if self.levels else _range(mean, scale)
        if level is None:
            return {}
        found = {"pixel_range": level, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        order = _order(mean / level)
        if order is None:
            return found
        return {**found, "channels": ("rgb" if order == "bgr" else "bgr") if swapped else order}

    @property
    def swaps(self) -> bool:
        """Whether the channels are reversed inside the network."""
        return self.composed()[2]

    def composed(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Factor and shift per channel, in the order of the channels after the steps."""
        factor, shift, swapped = np.ones(3), np.zeros(3), False
        for step in self.steps:
            values = np.array(step.values or (0.0,))
            match step.kind:
                case "add":
                    shift = shift + values
                case "subtract":
                    shift = shift - values
                case "reflect":
                    factor, shift = -factor, values - shift
                case "multiply":
                    factor, shift = factor * values, shift * values
                case "divide":
                    factor, shift = factor / values, shift / values
                case "normalize":
                    factor, shift = factor * values, shift * values + np.array(step.offsets)
                case "swap":
                    factor, shift, swapped = factor[::-1], shift[::-1], not swapped
        return factor, shift, swapped


def step_of(kind: Effect, constant: Any, *, channels_last: bool) -> Operation | None:
    """The step with a constant of one number, or of one per channel in the right place; otherwise
    None.

    A factor of 0 is not a step either, because its effect on an input cannot be undone.
    """
    values = np.asarray(constant)
    if values.dtype.kind not in "fiu" or values.size not in (1, 3):
        return None
    if values.size == 3:
        place = values.ndim - (1 if channels_last else 3)
        if place < 0 or values.shape[place] != 3:
            return None
    flat = values.astype(np.float64).reshape(-1)
    if kind in ("multiply", "divide") and not np.all(flat):
        return None
    return Operation(kind, tuple(flat.tolist()))


def normalization(parts: Sequence[Any], epsilon: float) -> Operation | None:
    """A batch normalization as a step, from its gain, offset (either may be None), mean and
    variance.

    The result is None if it does not have three channels.
    """
    gain, offset, mean, variance = (
        None if part is None else np.asarray(part, np.float64).reshape(-1) for part in parts
    )
    if mean is None or variance is None or mean.size != 3:
        return None
    factor = (1.0 if gain is None else gain) / np.sqrt(variance + epsilon)
    shift = (0.0 if offset is None else offset) - mean * factor
    if not np.all(factor):
        return None
    return Operation("normalize", tuple(factor.tolist()), tuple(shift.tolist()))


def reverses(indices: Any) -> bool:
    """Whether these indices of the channels reverse their order."""
    return np.asarray(indices).reshape(-1).tolist() == [2, 1, 0]


def _range(mean: np.ndarray, scale: np.ndarray) -> float | None:
    """The value of white, 255 or 1, for a network that subtracts `mean` and divides by `scale`."""
    if _between(mean, _BYTES_MEAN) or (not mean.any() and _between(scale, _BYTES_SCALE)):
        return 255.0
    return 1.0 if _between(mean, _UNIT_MEAN) and _between(scale, _UNIT_SCALE) else None


def _order(mean: np.ndarray) -> Literal["rgb", "bgr"] | None:
    """The order of channels in which a mean is ImageNet's; None if it is another mean."""
    if np.abs(mean - _IMAGENET).max() < _NEAR:
        return "rgb"
    return "bgr" if np.abs(mean - _IMAGENET[::-1]).max() < _NEAR else None


def _between(values: np.ndarray, ends: tuple[float, float]) -> bool:
    return bool(np.all((values >= ends[0]) & (values <= ends[1])))


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{value:.4g}" for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
