"""The people of a source on whom a network is trained: by its labels, and by verdicts."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.listing.source import Listing
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.identities.merging import merge_identities
from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.tracklets import is_held_out
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.runs.path_verdicts import verdicts_by_path
from pipeline.runs.trained import LeftOut, SupervisedSettings


@dataclass(frozen=True)
class LabeledPeople:
    """The images with a person, and what became of the others.

    `listing` has only those images, `left_out` counts the others. Verdicts made
    `identities_merged` identities a part of another one, and gave a person to `crops_identified`
    images that had none.
    """

    listing: Listing
    left_out: LeftOut
    identities_merged: int
    crops_identified: int


def labeled_people(listing: Listing, verdicts: Gallery | None = None) -> LabeledPeople:
    """The images of a listing that have an identity, by labels or by verdicts.

    Verdicts "same" of a gallery of the same source join identities, which become the smallest of
    them, and give a person to images without one (`merge_identities`). Raise InputError if a
    verdict says that two images of one person are different, and if no image has an identity.
    """
    before = listing.images["identity"]
    if verdicts is not None:
        listing = _joined(listing, verdicts)
    identity = listing.images["identity"]
    known = pc.fill_null(pc.greater(identity, DISTRACTOR), False)

    def count(number: int) -> int:
        return pc.sum(pc.equal(identity, number)).as_py() or 0

    images = listing.images.filter(known).combine_chunks()
    if not len(images):
        raise InputError(
            f"{listing.root}: no image has an identity, and training needs them: give the `layout`"
            " of the names, or a manifest with a column identity"
        )
    left_out = LeftOut(count(JUNK), count(DISTRACTOR), identity.null_count, len(listing.rejects))
    labeled = before.filter(pc.fill_null(pc.greater(before, DISTRACTOR), False))
    return LabeledPeople(
        replace(listing, images=images),
        left_out,
        identities_merged=len(labeled.unique()) - len(images["identity"].unique()),
        crops_identified=len(images) - len(labeled),
    )


def check_people(listing: Listing, settings: SupervisedSettings) -> None:
    """Raise InputError if too few people for a batch are left without those held out."""
    images = listing.images
    count = len(images["identity"].unique())
    trained = count - len(images.filter(held_out_people(images, settings))["identity"].unique())
    if trained < settings.people:
        raise InputError(
            f"{listing.root}: {trained} of {count} people are left to train on, and a batch"
            f" takes {settings.people} (`people`): give fewer `people`, or less `held_out`"
        )


def held_out_people(images: pa.Table, settings: SupervisedSettings) -> pa.ChunkedArray:
    """Whether each of the images `[N]` with an identity shows a person who is held out."""
    names = images["identity"].unique().to_pylist()
    chosen = [name for name in names if is_held_out(str(name), settings.held_out)]
    return pc.is_in(images["identity"].cast(pa.int64()), value_set=pa.array(chosen, pa.int64()))


def _joined(listing: Listing, gallery: Gallery) -> Listing:
    """The listing with the identities that verdicts of a gallery make."""
    images = listing.images
    same, different = verdicts_by_path(gallery, listing.root).among(images["path"])
    given = images["identity"]
    identity = merge_identities(
        pc.fill_null(given, DISTRACTOR).to_numpy(), Verdicts(same, different)
    )
    first, second = different.T
    wrong = (identity[first] == identity[second]) & (identity[first] > DISTRACTOR)
    if wrong.any():
        a, b = different[np.flatnonzero(wrong)[0]]
        raise InputError(
            f"{gallery.location}: a verdict says that {images['path'][a]} and {images['path'][b]}"
            f" show different people, but both are of identity {identity[a]} by labels or other"
            " verdicts: withdraw the verdict, or correct the label"
        )
    column = pc.if_else(pa.array(identity > DISTRACTOR), pa.array(identity), given)
    place = images.column_names.index("identity")
    return replace(listing, images=images.set_column(place, "identity", column))
