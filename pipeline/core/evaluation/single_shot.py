"""The CUHK03 protocol: CMC in galleries with one random image per identity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows, Tiling, as_rows
from pipeline.core.evaluation.labels import DISTRACTOR, Labels
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.evaluation.restricted import ahead_among, choose_matches


@dataclass(frozen=True)
class SingleShot:
    """The number of random draws of one image per gallery identity, and the seed."""

    repeats: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, not {self.repeats}")
        if self.seed < 0:
            raise ValueError(f"a seed is at least 0, not {self.seed}")

    def order(self, repeat: int, rows: int) -> NDArray[np.int64]:
        """A random order of `rows` gallery rows: the place `[rows]` of each."""
        return np.random.default_rng([self.seed, repeat]).permutation(rows)


def list_length(labels: Labels) -> int:
    """The length of a list with one row per identity; every distractor counts as an identity.

    >>> list_length(Labels(np.array([3, 3, 4, 0, 0, -1]), np.zeros(6, np.int64)))
    4
    """
    identity = labels.identity
    return len(np.unique(identity[identity > DISTRACTOR])) + int((identity == DISTRACTOR).sum())


def first_ranks(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    settings: SingleShot,
    repeat: int,
    *,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """The rank `[Q]` of each query's single match in the draw `repeat`; 0 for an invalid query.

    Each draw puts all gallery rows in a random order. A query's list holds, for each identity, the
    first row in this order that the query keeps (Li et al., DeepReID, CVPR 2014; torchreid's
    `eval_cuhk03`). So each row is equally likely, and only the row of the query's own identity
    depends on the query. The list keeps all distractors, because two of them may be different
    people. `found` is the result of `ranking.matches`.
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    order = settings.order(repeat, len(gallery))
    ranks = np.zeros(len(found), np.int64)
    sizes = np.diff(found.offsets)
    owner = np.repeat(np.arange(len(found)), sizes)
    drawn = np.zeros(len(owner), bool)
    drawn[np.lexsort((order[found.rows], owner))[found.offsets[:-1][sizes > 0]]] = True
    rows = _representatives(gallery_labels.identity, order)
    ahead = ahead_among(
        queries,
        query_labels,
        ChosenRows(gallery, rows),
        Labels(gallery_labels.identity[rows], gallery_labels.camera[rows]),
        rows,
        choose_matches(found, drawn),
        tiling=tiling,
    )
    ranks[sizes > 0] = ahead + 1
    return ranks


def _representatives(identity: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending rows: the first row of each identity in `order`, and all distractors."""
    known = np.flatnonzero(identity > DISTRACTOR)
    sequence = known[np.argsort(order[known])]
    _, first = np.unique(identity[sequence], return_index=True)
    return np.sort(np.concatenate([sequence[first], np.flatnonzero(identity == DISTRACTOR)]))
