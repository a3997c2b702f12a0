"""What one step of training makes small: the sum of several losses of a batch."""

from torch import Tensor, nn

from pipeline.training.losses.cluster_memory import ClusterMemory


class ClusterObjective(nn.Module):
    """The loss of an adaptation, whose labels are clusters.

    Call it for the losses of a batch by name, whose sum is to be made small; after the backward
    pass, `update` lets the memory follow.
    """

    def __init__(self, memory: ClusterMemory):
        super().__init__()
        self.memory = memory

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of features `[B, D]` with clusters int64 `[B]`."""
        return {"clusters": self.memory(features, labels)}

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the memory toward the features `[B, D]` of a batch."""
        self.memory.update(features, labels)
