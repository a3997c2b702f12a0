"""The verdicts that a link keeps: those beside each of its galleries, by the position of rows."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from pipeline.core.identities.linking import NO_MOMENT
from pipeline.core.identities.verdicts import Verdicts, contradictions
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.counting import read_verdicts
from pipeline.runs.linked import VerdictsUsed
from pipeline.runs.union import AnyGallery, parts_of
from pipeline.runs.verdicts import contradiction_texts

_SHOWN = 5


def agreed_verdicts(gallery: Gallery) -> Verdicts:
    """The verdicts that count in a gallery, by the ids of rows.

    Raise `InputError` naming those that contradict each other.
    """
    verdicts = read_verdicts(gallery)
    if found := contradictions(verdicts):
        told = "; ".join(contradiction_texts(gallery, found[:_SHOWN]))
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(
            f"{gallery.location}: verdicts contradict each other: {told}{more}; withdraw those that"
            " are wrong"
        )
    return verdicts


def verdicts_by_position(gallery: AnyGallery) -> Verdicts:
    """The verdicts that count, as positions of rows in a gallery, or in several as one.

    Raise `InputError` naming the pairs of verdicts that contradict each other.
    """
    same, different, start = [np.empty((0, 2), np.int64)], [np.empty((0, 2), np.int64)], 0
    for part in parts_of(gallery):
        verdicts = agreed_verdicts(part)
        found = verdicts.among(part.row_ids()) if len(verdicts) else verdicts
        same.append(found.same + start)
        different.append(found.different + start)
        start += part.count
    return Verdicts(np.concatenate(same), np.concatenate(different))


def verdicts_digest(verdicts: Verdicts) -> str | None:
    """A name for these verdicts by their content; None if there are none."""
    if not len(verdicts):
        return None
    told = [verdicts.same.tolist(), verdicts.different.tolist()]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def verdicts_used(verdicts: Verdicts, moments: NDArray[np.int64]) -> VerdictsUsed:
    """How many verdicts on rows of these `moments` `[N]` are kept."""
    first, second = moments[verdicts.same[:, 0]], moments[verdicts.same[:, 1]]
    return VerdictsUsed(
        same=len(verdicts.same),
        different=len(verdicts.different),
        overruled=int(((first == second) & (first != NO_MOMENT)).sum()),
    )
