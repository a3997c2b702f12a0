"""People: the rows of an identity, and rows that people said are the same person."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.core.identities.verdicts import Verdicts
from pipeline.service.held_gallery import HeldGallery

_SHOWN = 4


@dataclass(frozen=True, eq=False)
class People:
    """The people of a version, those with most rows first.

    `names` int64 `[P]` are their identities: the smallest of a person's rows, above 0. Where only
    verdicts join rows, and none has an identity, it is -2 less the smallest row id. `rows` are
    the positions of the rows, by person; those of person p are `rows[starts[p]:starts[p + 1]]`, by
    time.
    """

    names: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, person: int) -> NDArray[np.int64]:
        """The positions of a person's rows, by time; rows of unknown time come last."""
        return self.rows[self.starts[person] : self.starts[person + 1]]

    def find(self, identity: int) -> int | None:
        """The person of an identity that `names` has; None if there is none."""
        found = np.flatnonzero(self.names == identity)
        return int(found[0]) if len(found) else None


def people_of(held: HeldGallery, verdicts: Verdicts) -> People:
    """The people of a gallery, by its identities and the verdicts `same` on its rows."""
    identity = pc.fill_null(held.columns["identity"], 0).to_numpy().astype(np.int64)
    group = _groups(identity, np.searchsorted(held.ids, np.asarray(verdicts.same).reshape(-1, 2)))
    sizes = np.bincount(group, minlength=1) if len(group) else np.zeros(0, np.int64)
    known = identity > 0
    none = np.iinfo(np.int64).max
    name = np.full(len(sizes), none)
    np.minimum.at(name, group[known], identity[known])
    first = np.full(len(sizes), none)
    np.minimum.at(first, group, held.ids)
    joined = (name == none) & (sizes > 1)
    name[joined] = -2 - first[joined]
    is_person = name != none
    order = np.lexsort((name, -sizes, ~is_person))
    count = int(is_person.sum())
    place = np.empty(len(sizes), np.int64)
    place[order] = np.arange(len(sizes))
    time = pc.fill_null(held.columns["captured_at"].cast(pa.int64()), none).to_numpy()
    rows = np.lexsort((np.arange(len(group)), time, place[group]))
    starts = np.concatenate([[0], np.cumsum(sizes[order[:count]])]).astype(np.int64)
    return People(name[order[:count]], starts, rows[: starts[-1]])


def _groups(identity: NDArray[np.int64], same: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of each row `[N]`: rows of one identity above 0, and pairs of positions `same`."""
    rows = np.flatnonzero(identity > 0)
    _, first, number = np.unique(identity[rows], return_index=True, return_inverse=True)
    one = np.concatenate([rows, same[:, 0]])
    other = np.concatenate([rows[first][number], same[:, 1]])
    size = len(identity)
    links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
    return connected_components(links, directed=False)[1].astype(np.int64)


def about_person(held: HeldGallery, people: People, person: int) -> dict[str, Any]:
    """A person as an answer: how many rows, which cameras, from when to when, and a few rows."""
    rows = people.of(person)
    some = held.columns.take(pa.array(rows))
    times = some["captured_at"]
    shown = rows[np.unique(np.linspace(0, len(rows) - 1, _SHOWN).astype(int))]
    return {
        "identity": int(people.names[person]),
        "rows": len(rows),
        "cameras": sorted(pc.unique(some["camera"].drop_null()).to_pylist()),
        "first_time": _shown(pc.min(times).as_py()),
        "last_time": _shown(pc.max(times).as_py()),
        "row_ids": held.ids[shown].tolist(),
    }


def _shown(time: Any) -> str | None:
    return None if time is None else time.isoformat()


def person_of(held: HeldGallery, people: People, identity: int) -> int | None:
    """The person of a name or, where verdicts joined it to another, of an identity of rows."""
    found = people.find(identity)
    if found is not None or identity <= 0:
        return found
    rows = np.flatnonzero(pc.fill_null(pc.equal(held.columns["identity"], identity), False))
    if not len(rows):
        return None
    (place,) = np.flatnonzero(people.rows == rows[0])
    return int(np.searchsorted(people.starts, place, side="right")) - 1


def matching(held: HeldGallery, people: People, text: str) -> NDArray[np.int64]:
    """The people whose identity begins with a text, or with a row whose path or camera has it."""
    by_name = np.array([str(name).startswith(text) for name in people.names.tolist()], bool)
    found = pc.or_(
        pc.match_substring(held.columns["path"], text, ignore_case=True),
        pc.fill_null(pc.equal(held.columns["camera"], text), False),
    ).to_numpy()
    person = np.repeat(np.arange(len(people)), np.diff(people.starts))
    by_row = np.bincount(person[found[people.rows]], minlength=len(people)) > 0
    return np.flatnonzero(by_name | by_row)
