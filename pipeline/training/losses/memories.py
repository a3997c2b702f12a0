"""Vectors that stand for groups of rows, and follow the features of their rows in training.

The momentum is the weight of the old vector, as in the code of Cluster-Contrast (Dai et al., ACCV
2022) and of CAP (Wang et al., AAAI 2021): v <- momentum v + (1 - momentum) f, then v to unit
length. With 0.1 a vector thus takes nine tenths from the newest feature.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import InputError

MemoryUpdate = Literal["each", "hard"]
"""`each`: by every row of the batch, one after the other. `hard`: once for each vector, by the row
that is least similar to it."""


def check_memory(temperature: float, momentum: float, update: str) -> None:
    """Raise InputError for settings that no memory can have."""
    if not temperature > 0:
        raise InputError(f"`temperature` must be more than 0, not {temperature}")
    if not 0 <= momentum <= 1:
        raise InputError(f"`momentum` must lie from 0 to 1, not {momentum}")
    if update not in get_args(MemoryUpdate):
        raise InputError(
            f"`update` must be one of {', '.join(get_args(MemoryUpdate))}, not {update}"
        )


def check_vectors(vectors: Tensor, name: str) -> None:
    """Raise ValueError unless `vectors` are `[K, D]` of unit length, K at least 1."""
    if vectors.ndim != 2 or not len(vectors) or not vectors.is_floating_point():
        raise ValueError(f"{name} must be [K, D], not {vectors.dtype} {list(vectors.shape)}")
    # Written so that NaN is an error too.
    if not bool(((vectors.norm(dim=1) - 1).abs() < 1e-3).all()):
        raise ValueError(f"{name} must have unit length")


def unit_means(features: Tensor, groups: Tensor, count: int) -> Tensor:
    """Unit means `[count, D]` of the rows `[N, D]` of each group; ValueError if one has no rows.

    `groups` `[N]` are from 0, rows of a negative group are left out. Sums are float64 in the order
    of the rows, without atomic additions, so they are equal to the bit in every run.
    """
    order = torch.argsort(groups, stable=True)
    order = order[groups[order] >= 0]
    sizes = torch.bincount(groups[order], minlength=count).tolist()
    means = [part.double().mean(0) for part in features.detach()[order].split(sizes) if len(part)]
    if len(means) != count:
        raise ValueError(f"only {len(means)} of {count} groups have rows")
    return F.normalize(torch.stack(means), dim=1).to(features.dtype)


@torch.no_grad()
def move_vectors(
    vectors: Tensor, features: Tensor, places: Tensor, momentum: float, update: MemoryUpdate
) -> None:
    """Move, in place, the vectors `[K, D]` toward the unit features `[B, D]` of their rows.

    `places` int64 `[B]` say which vector each row belongs to. Rows count in the order of the batch.
    """
    features = features.detach().to(vectors.dtype)
    order = torch.arange(len(places), device=places.device)
    if update == "hard":  # the least similar row of each vector first; of equal ones, the earlier
        order = torch.argsort((vectors[places] * features).sum(1), stable=True)
    order = order[torch.argsort(places[order], stable=True)]
    turns = _turns(places[order])
    last = 0 if update == "hard" else int(turns.max())
    for turn in range(last + 1):
        rows = order[turns == turn]  # of different vectors, so that each is written once
        own = places[rows]
        vectors[own] = F.normalize(momentum * vectors[own] + (1 - momentum) * features[rows], dim=1)


def _turns(places: Tensor) -> Tensor:
    """How many equal numbers stand before each number of a sorted list."""
    numbers = torch.arange(len(places), device=places.device)
    begins = torch.ones_like(places, dtype=torch.bool)
    begins[1:] = places[1:] != places[:-1]
    return numbers - torch.where(begins, numbers, 0).cummax(0).values
