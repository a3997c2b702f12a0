"""The pairs that a calibration uses: some queries with every row of a gallery."""

from dataclasses import dataclass

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, Labels, matching_pairs
from pipeline.core.thresholds.calibration import against_itself, sample_identities
from pipeline.core.thresholds.false_matches import negatives_of
from pipeline.errors import InputError
from pipeline.gallery.labels import labels_of
from pipeline.gallery.table import Gallery
from pipeline.runs.sides import LabeledSide, camera_names, open_sides


@dataclass(frozen=True)
class Pairs:
    """The chosen queries and the gallery, features and labels; `query` is None for the gallery
    itself.

    `cameras` are the names of the cameras that labels number.
    """

    gallery: Gallery
    query: Gallery | None
    queries: FeatureRows
    query_labels: Labels
    rows: FeatureRows
    labels: Labels
    cameras: dict[int, str]

    def counts(self) -> tuple[int, int]:
        """How many positive and negative pairs there are."""
        owner, _ = matching_pairs(self.query_labels, self.labels)
        own = self.query_labels.identity[self.query_labels.identity > DISTRACTOR]
        return len(owner), int(negatives_of(own, self.labels).sum())


def open_pairs(gallery: Gallery, query: Gallery | None, query_rows: int, seed: int) -> Pairs:
    """Compare both galleries, and choose whole identities of the queries, `query_rows` at most.

    Raise InputError if they cannot be compared, or if no query has an identity.
    """
    if query is None:
        asked = held = _alone(gallery)
    else:
        asked, held = open_sides(query, gallery)
    chosen = sample_identities(asked.labels.identity, query_rows, seed)
    if not len(chosen):
        raise InputError(
            f"{asked.gallery.location} has no identities, which a calibration needs: extract it"
            " with a layout that reads them"
        )
    return Pairs(
        gallery=gallery,
        query=query,
        queries=ChosenRows(asked.features, chosen),
        query_labels=Labels(asked.labels.identity[chosen], asked.labels.camera[chosen]),
        rows=held.features,
        labels=held.labels,
        cameras=camera_names(asked, held),
    )


def _alone(gallery: Gallery) -> LabeledSide:
    """A gallery that is compared with itself."""
    rows = gallery.rows(["identity", "camera"])
    (labels,) = labels_of([rows])
    return LabeledSide(gallery, rows, gallery.features(), against_itself(labels))
