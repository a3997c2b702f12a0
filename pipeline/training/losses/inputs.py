"""What every loss asks of features and labels, and the arithmetic in which it is computed."""

import torch
from torch import Tensor
from torch.nn import functional as F


def check_batch(features: Tensor, labels: Tensor, classes: int | None = None) -> None:
    """Raise ValueError unless features are `[B, D]` with one label from 0 to `classes` - 1 each.

    A label of -1 stands for a row without an identity: junk, or noise of a clustering.
    """
    if features.ndim != 2 or not len(features) or not features.is_floating_point():
        raise ValueError(
            f"features must be floating numbers [B, D] of a batch with rows, not {features.dtype}"
            f" {list(features.shape)}"
        )
    check_ids(labels, len(features), "labels")
    if int(labels.min()) < 0:
        raise ValueError(
            f"{int((labels < 0).sum())} of {len(labels)} rows have a label below 0, which means"
            " that nobody knows their identity: leave them out of the batch"
        )
    if classes is not None and int(labels.max()) >= classes:
        raise ValueError(f"a label is {int(labels.max())}, but there are only {classes} classes")


def check_ids(ids: Tensor, rows: int, name: str) -> None:
    """Raise ValueError unless `ids` are whole numbers `[rows]`."""
    if ids.shape != (rows,) or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers [{rows}], not {ids.dtype} {list(ids.shape)}"
        )


def full_precision(features: Tensor) -> Tensor:
    """Features in float32 where they are narrower; a logit of temperature 0.05 needs its bits."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def unit_rows(features: Tensor) -> Tensor:
    """Rows `[B, D]` of unit length, in float32 or wider."""
    return F.normalize(full_precision(features), dim=1)


def without_autocast(features: Tensor) -> torch.autocast:
    """A context in which products of `features` keep their own precision."""
    return torch.autocast(features.device.type, enabled=False)
