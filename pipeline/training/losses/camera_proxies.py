"""A proxy for each cluster under each camera, and the loss that brings cameras together.

Inter-camera contrast of camera-aware proxies (Wang et al., AAAI 2021), with the positives of PPLR
(Cho et al., CVPR 2022): for the unit feature f of a row, P are the proxies of its cluster under
other cameras, Q the proxies of other clusters that are most similar to it, and s_p = f.p /
temperature:

    loss = - mean over p in P of log(exp s_p / sum over q in P and Q of exp s_q)

A row whose cluster no other camera has seen has no positives, and its loss is 0. (In the code of
Wang et al. the proxy of the row's own camera is a positive too.) No gradient reaches the proxies;
they follow the features of a batch as in `memories`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.training.losses.inputs import check_batch, check_ids, unit_rows, without_autocast
from pipeline.training.losses.memories import (
    MemoryUpdate,
    check_memory,
    check_vectors,
    move_vectors,
    unit_means,
)


@dataclass(frozen=True)
class CameraProxySettings:
    """The loss between cameras, and how fast proxies follow. Raise InputError if impossible."""

    temperature: float = 0.07
    """Divides the cosines before the softmax."""
    negatives: int = 50
    """Most similar proxies of other clusters that count."""
    weight: float = 0.5
    """Weight of this loss beside that of the clusters."""
    momentum: float = 0.1
    """Weight of the old proxy when a feature moves it."""
    update: MemoryUpdate = "each"
    """Which rows of a batch move their proxy: `each` in turn, or only the `hard`est."""

    def __post_init__(self) -> None:
        check_memory(self.temperature, self.momentum, self.update)
        if self.negatives < 1:
            raise InputError(f"`negatives` must be at least 1, not {self.negatives}")
        if not self.weight >= 0:
            raise InputError(f"`weight` must be 0 or more, not {self.weight}")


class CameraProxies(nn.Module):
    """The proxies of M pairs of a cluster and a camera.

    Use it like `ClusterMemory`. Its `state_dict` holds `proxies`, `labels` and `cameras`, which
    make the same module again.

    >>> proxies = CameraProxies(torch.eye(3), torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]),
    ...                         CameraProxySettings(temperature=1))
    >>> f = torch.tensor([[2.0, 0, 0]])
    >>> proxies(f, torch.tensor([0]), torch.tensor([1]))  # positive: camera 2's; negative: the last
    tensor(0.6931)
    """

    proxies: Tensor
    """`[M, D]`, of unit length."""
    labels: Tensor
    """Cluster of every proxy, int64 `[M]`."""
    cameras: Tensor
    """Camera of every proxy, int64 `[M]`."""

    def __init__(
        self,
        proxies: Tensor,
        labels: Tensor,
        cameras: Tensor,
        settings: CameraProxySettings = CameraProxySettings(),
    ):
        """Copy `proxies` `[M, D]` of unit length, and their clusters and cameras int64 `[M]`.

        ValueError if the shapes do not fit, or if two proxies are of one cluster and one camera.
        """
        super().__init__()
        check_vectors(proxies, "proxies")
        check_batch(proxies, labels)
        check_ids(cameras, len(proxies), "cameras")
        if len(torch.stack([labels, cameras], 1).unique(dim=0)) < len(labels):
            raise ValueError("two proxies are of one cluster and one camera")
        self.settings = settings
        for name, values in (("proxies", proxies), ("labels", labels), ("cameras", cameras)):
            self.register_buffer(name, values.detach().clone())

    @classmethod
    def of(
        cls,
        features: Tensor,
        labels: Tensor,
        cameras: Tensor,
        settings: CameraProxySettings = CameraProxySettings(),
    ) -> "CameraProxies":
        """The unit means of the unit features `[N, D]` of each cluster under each camera.

        Rows whose label `[N]` is negative are in no cluster; `cameras` are whole numbers `[N]`.
        ValueError if there is no cluster.
        """
        known = labels >= 0
        if not bool(known.any()):
            raise ValueError("no row belongs to a cluster")
        both, groups = torch.stack([labels, cameras], 1)[known].unique(dim=0, return_inverse=True)
        means = unit_means(unit_rows(features[known]), groups, len(both))
        return cls(means, both[:, 0], both[:, 1], settings)

    def forward(self, features: Tensor, labels: Tensor, cameras: Tensor) -> Tensor:
        """The mean loss of a batch of features `[B, D]` of any length; the weight is not applied.

        `labels` and `cameras` are int64 `[B]`. ValueError if a label is negative.
        """
        check_batch(features, labels)
        check_ids(cameras, len(features), "cameras")
        own = labels[:, None] == self.labels
        positive = own & (cameras[:, None] != self.cameras)
        rows = positive.any(1)
        own, positive = own[rows], positive[rows]
        with without_autocast(features):
            unit = unit_rows(features)[rows]
            scores = unit @ self.proxies.T.to(unit.dtype) / self.settings.temperature
            nothing = torch.full_like(scores, -torch.inf)
            count = min(self.settings.negatives, scores.shape[1])
            hardest = torch.where(own, nothing, scores).topk(count, dim=1).values
            rivals = torch.cat([torch.where(positive, scores, nothing), hardest], 1)
            means = torch.where(positive, scores, 0).sum(1) / positive.sum(1)
            return (rivals.logsumexp(1) - means).sum() / len(features)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, cameras: Tensor) -> None:
        """Move the proxies toward the features `[B, D]` of a batch, after its backward pass.

        ValueError if a row's cluster has no proxy under its camera.
        """
        check_batch(features, labels)
        check_ids(cameras, len(features), "cameras")
        match = (labels[:, None] == self.labels) & (cameras[:, None] == self.cameras)
        if not bool(match.any(1).all()):
            row = int((~match.any(1)).nonzero()[0])
            raise ValueError(
                f"cluster {int(labels[row])} has no proxy under camera {int(cameras[row])}"
            )
        move_vectors(
            self.proxies,
            unit_rows(features),
            match.int().argmax(1),
            self.settings.momentum,
            self.settings.update,
        )
