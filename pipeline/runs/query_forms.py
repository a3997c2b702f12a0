"""What a query of an evaluation is: one row, or all images of one identity under one camera."""

from dataclasses import dataclass
from typing import Literal

from pipeline.core.blocks import FeatureRows
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.multi_query import QueryGroups

MultiQuery = Literal["mean", "best"]


@dataclass(frozen=True)
class LabeledRows:
    """Features `[N, D]` with the labels `[N]` of their rows.

    With `groups`, the labels are those of the queries `[Q]` that the rows are the images of, and a
    query's similarity to a row is that of its best image.
    """

    features: FeatureRows
    labels: Labels
    groups: QueryGroups | None = None


def as_queries(images: LabeledRows, how: MultiQuery | None) -> LabeledRows:
    """The images of one identity under one camera as one query; each as its own without `how`."""
    if how is None:
        return images
    groups = QueryGroups.of(images.labels)
    labels = images.labels.take(groups.first)
    if how == "mean":
        return LabeledRows(groups.mean(images.features), labels)
    return LabeledRows(images.features, labels, groups)
