"""The form of a query in an evaluation: one row, or all images of one identity under one camera."""

from dataclasses import dataclass
from typing import Literal

from pipeline.core.blocks import FeatureRows
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.multi_query import QueryGroups

MultiQuery = Literal["mean", "best"]


@dataclass(frozen=True)
class LabeledRows:
    """Features `[N, D]` with the labels `[N]` of their rows.

    With `groups`, the rows are images of queries, and the labels are those of the queries `[Q]`.
    The similarity of a query to a row is then that of its best image.
    """

    features: FeatureRows
    labels: Labels
    groups: QueryGroups | None = None


def as_queries(images: LabeledRows, how: MultiQuery | None) -> LabeledRows:
    """Combine the images of one identity under one camera into one query; without `how`, each image
    is a query.
    """
    if how is None:
        return images
    groups = QueryGroups.of(images.labels)
    labels = images.labels.take(groups.first)
    if how == "mean":
        return LabeledRows(groups.mean(images.features), labels)
    return LabeledRows(images.features, labels, groups)
