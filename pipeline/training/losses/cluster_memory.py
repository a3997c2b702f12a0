"""A memory of one centroid for each cluster, and the loss that draws rows to their own centroid.

Cluster-Contrast (Dai et al., ACCV 2022): with the unit feature f of a row of cluster y and unit
centroids C `[K, D]`, the loss is the cross entropy of f C^T / temperature with the target y, and
the centroids follow the features of the batch (see `memories`). No gradient reaches them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.training.losses.inputs import check_batch, unit_rows, without_autocast
from pipeline.training.losses.memories import (
    MemoryUpdate,
    check_memory,
    check_vectors,
    move_vectors,
    unit_means,
)


@dataclass(frozen=True)
class ClusterMemorySettings:
    """The sharpness of the loss, and how fast centroids follow features. Raise InputError if
    impossible.
    """

    temperature: float = 0.05
    """Divides the cosines before the softmax."""
    momentum: float = 0.1
    """Weight of the old centroid when a feature moves it."""
    update: MemoryUpdate = "each"
    """Which rows of a batch move their centroid: `each` in turn, or only the `hard`est."""

    def __post_init__(self) -> None:
        check_memory(self.temperature, self.momentum, self.update)


class ClusterMemory(nn.Module):
    """The centroids of K clusters.

    Call it for the loss, do the backward pass, then call `update` with the same features. If
    several processes train, give `update` the features of all, in the order of their ranks. The
    `state_dict` holds the centroids: `ClusterMemory(state["centroids"], settings)` continues with
    the same bits.

    >>> memory = ClusterMemory(torch.eye(2), ClusterMemorySettings(temperature=1, momentum=0))
    >>> f = torch.tensor([[3.0, 4.0]])
    >>> memory(f, torch.tensor([1]))
    tensor(0.5981)
    >>> memory.update(f, torch.tensor([1]))
    >>> memory.centroids
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    """

    centroids: Tensor
    """`[K, D]`, of unit length."""

    def __init__(
        self, centroids: Tensor, settings: ClusterMemorySettings = ClusterMemorySettings()
    ):
        """Copy `centroids` `[K, D]`, on their device; ValueError if they are not of unit length."""
        super().__init__()
        check_vectors(centroids, "centroids")
        self.settings = settings
        self.register_buffer("centroids", centroids.detach().clone())

    @classmethod
    def of(
        cls,
        features: Tensor,
        labels: Tensor,
        settings: ClusterMemorySettings = ClusterMemorySettings(),
    ) -> "ClusterMemory":
        """The memory of clusters 0 to K - 1: the unit means of the unit features `[N, D]`.

        Rows whose label `[N]` is negative are in no cluster. ValueError if there is no cluster, or
        if one of the K has no rows.
        """
        count = int(labels.max()) + 1 if len(labels) else 0
        if count < 1:
            raise ValueError("no row belongs to a cluster")
        return cls(unit_means(unit_rows(features), labels, count), settings)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch of features `[B, D]` of any length, labels int64 `[B]`.

        ValueError if a label is not one of 0 to K - 1.
        """
        check_batch(features, labels, len(self.centroids))
        with without_autocast(features):
            unit = unit_rows(features)
            logits = unit @ self.centroids.T.to(unit.dtype)
            return F.cross_entropy(logits / self.settings.temperature, labels)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids toward the features `[B, D]` of a batch, after its backward pass."""
        check_batch(features, labels, len(self.centroids))
        move_vectors(
            self.centroids,
            unit_rows(features),
            labels,
            self.settings.momentum,
            self.settings.update,
        )
