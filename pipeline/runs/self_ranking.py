"""The rows of known people, each ranked against all other rows of one gallery."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.evaluation.labels import DISTRACTOR, Labels, has_match
from pipeline.core.evaluation.metrics import Summary, summarize
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.thresholds.calibration import against_itself, sample_identities
from pipeline.gallery.labels import labels_of

_MOST_QUERIES = 2000


@dataclass(frozen=True)
class KnownPeople:
    """The `labels` of N rows, and the positions of the `queries` int64 `[Q]` among them.

    Queries are rows whose person is seen by another camera, too.
    """

    labels: Labels
    queries: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pa.Table, seed: int = 0) -> "KnownPeople":
        """The known people of rows with the columns `identity` and `camera`.

        All rows of some people, chosen at random by `seed`, are queries: at most 2,000, or those of
        one person.
        """
        labels = against_itself(labels_of([rows])[0])
        possible = np.where(has_match(labels, labels), labels.identity, DISTRACTOR)
        return cls(labels, sample_identities(possible, _MOST_QUERIES, seed))

    @property
    def count(self) -> int:
        """The number of queries."""
        return len(self.queries)

    @property
    def people(self) -> int:
        """The number of people among the queries."""
        return len(np.unique(self.labels.identity[self.queries]))

    def rank(self, features: FeatureRows, tiling: Tiling = Tiling()) -> Summary:
        """Rank each query against the features `[N, D]` of the rows.

        Rows of the query's own person under its own camera do not count, as in `evaluate`.
        """
        asked = self.labels.take(self.queries)
        counts = rank_counts(
            features.take(self.queries), asked, features, self.labels, tiling=tiling
        )
        return summarize(counts, len(features))
