"""Identities of labeled rows that verdicts of people join into one."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.core.evaluation.labels import DISTRACTOR
from pipeline.core.identities.verdicts import Verdicts


def merge_identities(identity: NDArray[np.int64], verdicts: Verdicts) -> NDArray[np.int64]:
    """The identities int64 `[N]` of rows, where verdicts "same" join people.

    `verdicts` are on rows by position. People who are joined get the smallest of their identities,
    and so do rows without a person (identity 0 or less) that verdicts connect with them, also
    through other such rows. All other rows keep their identity.

    >>> merge_identities(np.array([7, 7, 3, 0, 0]), Verdicts([[1, 2], [2, 3]]))
    array([3, 3, 3, 3, 0])
    """
    n = len(identity)
    names, person = np.unique(identity, return_inverse=True)
    alone = identity <= DISTRACTOR
    node = np.where(alone, len(names) + np.arange(n), person)
    first, second = node[verdicts.same].T
    edges = coo_array(
        (np.ones(len(first)), (first, second)), shape=(len(names) + n, len(names) + n)
    )
    part = connected_components(edges, directed=False)[1][node]
    none = np.iinfo(np.int64).max
    smallest = np.full(len(names) + n, none)
    np.minimum.at(smallest, part[~alone], identity[~alone])
    found = smallest[part]
    return np.where(found == none, identity, found)
