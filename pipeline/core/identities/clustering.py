"""Compare groups of rows with identities: B-cubed and normalized mutual information."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """The agreement of groups with identities over `rows_labeled` rows; NaN without such rows.

    `precision`, `recall` and `f_score` are B-cubed, and `nmi` is from 0 to 1. `groups` and
    `identities` are the numbers of groups and identities that have rows.
    """

    rows_labeled: int
    groups: int
    identities: int
    precision: float
    recall: float
    f_score: float
    nmi: float


def agreement(group: NDArray[np.int64], identity: NDArray[np.int64]) -> Agreement:
    """Compare a grouping of N rows, int64 `[N]`, with their identities, int64 `[N]`.

    B-cubed (Bagga and Baldwin, 1998; Amigo et al., Information Retrieval 12, 2009): a row's
    precision is the share of its group that has its identity, and its recall is the share of its
    identity that lies in its group; both include the row itself. Both are averaged over rows, and F
    is the harmonic mean of the averages. NMI is the mutual information over the arithmetic mean of
    the two entropies (Strehl and Ghosh, JMLR 3, 2002, with the mean of Vinh et al., JMLR 11, 2010),
    and 1 if both partitions have a single part. Raise ValueError if the lengths differ.

    >>> found = agreement(np.array([0, 0, 0, 3]), np.array([7, 7, 8, 8]))
    >>> round(found.precision, 4), round(found.recall, 4), round(found.nmi, 4)
    (0.6667, 0.75, 0.3437)
    """
    if group.shape != identity.shape or group.ndim != 1:
        raise ValueError(f"groups {group.shape} do not go with identities {identity.shape}")
    rows = len(group)
    if rows == 0:
        nan = float("nan")
        return Agreement(0, 0, 0, nan, nan, nan, nan)
    _, group, group_sizes = np.unique(group, return_inverse=True, return_counts=True)
    _, identity, identity_sizes = np.unique(identity, return_inverse=True, return_counts=True)
    # Rows by (group, identity): only cells that have a row, so memory does not grow with the
    # product.
    cells, common = np.unique(group * len(identity_sizes) + identity, return_counts=True)
    in_group = group_sizes[cells // len(identity_sizes)]
    in_identity = identity_sizes[cells % len(identity_sizes)]
    precision = float((common**2 / in_group).sum() / rows)
    recall = float((common**2 / in_identity).sum() / rows)
    shared = float((common / rows * np.log(common * rows / (in_group * in_identity))).sum())
    mean_entropy = (_entropy(group_sizes) + _entropy(identity_sizes)) / 2
    return Agreement(
        rows_labeled=rows,
        groups=len(group_sizes),
        identities=len(identity_sizes),
        precision=precision,
        recall=recall,
        f_score=2 * precision * recall / (precision + recall),
        nmi=min(1.0, max(0.0, shared / mean_entropy)) if mean_entropy > 0 else 1.0,
    )


def _entropy(sizes: NDArray[np.int64]) -> float:
    """The entropy, in nats, of a partition into parts of these sizes."""
    share = sizes / sizes.sum()
    return float(-(share * np.log(share)).sum())
