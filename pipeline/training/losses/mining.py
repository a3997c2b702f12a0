"""Which triplets of a batch are learned from: anchor, positive, negative.

Every function takes distances `[B, B]` and labels `[B]`, and returns rows int64 `[3, T]` in a
fixed order: of equal distances, the row that stands earlier in the batch counts. An anchor without
a positive or a negative has no triplet.
"""

import numpy as np
import torch
from torch import Tensor

# Distances below are taken as this, since their weights would be too large; Wu et al. use it too.
_NEAREST = 0.5
# Beyond, a triplet costs nothing with their margin; the densest distance of unit vectors is 1.41.
_FARTHEST = 1.4


def all_triplets(labels: Tensor) -> Tensor:
    """All of the batch (batch-all; Hermans et al. 2017)."""
    anchors, positives = _positive_pairs(labels)
    pair, negatives = (labels[anchors][:, None] != labels).nonzero(as_tuple=True)
    return torch.stack([anchors[pair], positives[pair], negatives])


def hardest_triplets(distances: Tensor, labels: Tensor) -> Tensor:
    """For each anchor its farthest positive and nearest negative (batch-hard; Hermans et al.)."""
    same = labels[:, None] == labels
    positive = same.clone().fill_diagonal_(False)
    farthest = torch.where(positive, distances, -torch.inf).argmax(1)
    nearest = torch.where(same, torch.inf, distances).argmin(1)
    anchors = (positive.any(1) & ~same.all(1)).nonzero()[:, 0]
    return torch.stack([anchors, farthest[anchors], nearest[anchors]])


def semi_hard_triplets(distances: Tensor, labels: Tensor) -> Tensor:
    """For each anchor and positive the nearest negative that is farther than the positive.

    Semi-hard (Schroff et al., "FaceNet", CVPR 2015). If no negative is farther: the farthest.
    """
    anchors, positives, negative = _pairs_with_negatives(labels)
    far = distances[anchors]
    beyond = negative & (far > distances[anchors, positives][:, None])
    nearest = torch.where(beyond, far, torch.inf).argmin(1)
    farthest = torch.where(negative, far, -torch.inf).argmax(1)
    return torch.stack([anchors, positives, torch.where(beyond.any(1), nearest, farthest)])


def distance_weighted_triplets(
    distances: Tensor, labels: Tensor, dimension: int, seed: int
) -> Tensor:
    """For each anchor and positive a negative that is drawn by the inverse density of distances.

    Wu et al., "Sampling matters in deep embedding learning" (ICCV 2017). Unit vectors of D numbers
    drawn at random lie at a distance d with a density q(d) proportional to d^(D-2) (1 - d^2 / 4)
    ^((D-3)/2), so nearly all at 1.41. A negative at d is drawn with a probability proportional to
    1 / q(max(d, 0.5)), one at 1.4 or more only if all are, and then all alike. Draws are a
    function of `seed` and of the shape, on every device.
    """
    anchors, positives, negative = _pairs_with_negatives(labels)
    d = distances[anchors].double().clamp_min(_NEAREST)
    log_density = (dimension - 2) * d.log() + (dimension - 3) / 2 * (1 - d.square() / 4).clamp_min(
        1e-8
    ).log()
    near = negative & (d < _FARTHEST)
    some = near.any(1, keepdim=True)
    logits = torch.where(some, -log_density, 0.0)
    logits = torch.where(torch.where(some, near, negative), logits, -torch.inf)
    # The largest of logits with Gumbel noise is a draw from their softmax.
    noise = torch.from_numpy(np.random.default_rng(seed).gumbel(size=tuple(d.shape)))
    return torch.stack([anchors, positives, (logits + noise.to(d.device)).argmax(1)])


def _positive_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors and positives of all pairs of two rows of one identity."""
    same = labels[:, None] == labels
    anchors, positives = same.fill_diagonal_(False).nonzero(as_tuple=True)
    return anchors, positives


def _pairs_with_negatives(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs whose anchor has a negative, and which rows `[A, B]` are one."""
    anchors, positives = _positive_pairs(labels)
    negative = labels[anchors][:, None] != labels
    kept = negative.any(1)
    return anchors[kept], positives[kept], negative[kept]
