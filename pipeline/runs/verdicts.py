"""Give verdicts on pairs of a gallery's rows, take them back, and list those that count."""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.identities.verdicts import Contradiction, Verdicts, contradictions
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.counting import NO_ROW, count_verdicts
from pipeline.gallery.verdicts.entries import VERDICT_SCHEMA, append_entries
from pipeline.runs.verdict_files import read_verdict_file
from pipeline.runs.verdict_results import (
    GivenVerdict,
    ListedVerdict,
    VerdictList,
    VerdictsGiven,
    VerdictWord,
    check_text,
)

_SHOWN = 5
_Pair = tuple[int, int]


class ContradictedError(InputError):
    """Verdicts that contradict others; the message names the pairs."""


def give_verdict(
    gallery: Gallery,
    a: int | str,
    b: int | str,
    verdict: VerdictWord,
    *,
    who: str | None = None,
    comment: str | None = None,
) -> VerdictsGiven:
    """Say that two rows are the same person or different people, or withdraw what was said.

    A row is named by its id or its path. Everything else is as in `give_verdicts`.
    """
    return give_verdicts(gallery, [GivenVerdict(a, b, verdict, comment)], who=who)


def give_verdicts(
    gallery: Gallery, given: Sequence[GivenVerdict], *, who: str | None = None
) -> VerdictsGiven:
    """Add verdicts to the table beside a gallery, all of them or none; the latest of a pair counts.

    `who` is the author of verdicts that name none (default: the user of this machine). A verdict
    that is already there, by the same person with the same comment, is not added again. Several
    people may add verdicts at the same time. Raise `InputError` for a row that the gallery does not
    have, for a pair of one row with itself, for two verdicts on one pair, for a withdrawal on a
    pair without a verdict, and for verdicts that would contradict others.
    """
    check_text("who", who)
    person = _user() if who is None else who
    counted = count_verdicts(gallery)
    named = _by_pair(gallery, given)
    before = {(each["a"], each["b"]): each for each in counted.latest.to_pylist()}
    new = {
        pair: each for pair, each in named.items() if _is_new(pair, each, before.get(pair), person)
    }
    after = _after(counted.verdicts, new)
    _check_contradictions(gallery, counted.verdicts, after)
    if new:
        append_entries(gallery, _entries(gallery, new, person))
    return VerdictsGiven(
        gallery=gallery.location,
        version=gallery.version,
        recorded=len(new),
        unchanged=len(named) - len(new),
        same=len(after.same),
        different=len(after.different),
    )


def give_verdicts_of_file(gallery: Gallery, path: Path, *, who: str | None = None) -> VerdictsGiven:
    """Add the verdicts of a table, all of them or none (see `read_verdict_file`, `give_verdicts`).

    Raise the errors of both.
    """
    given, without_verdict = read_verdict_file(path)
    done = give_verdicts(gallery, given, who=who)
    return replace(done, without_verdict=without_verdict)


def list_verdicts(gallery: Gallery) -> VerdictList:
    """The verdicts that count in a version of a gallery, with their contradictions."""
    counted = count_verdicts(gallery)
    entries = counted.entries
    renamed = {"at": "given_at", "version": "seen_version"}
    names = [renamed.get(name, name) for name in entries.column_names]
    rows = entries.rename_columns(names).drop_columns(["hash_a", "hash_b"]).to_pylist()
    return VerdictList(
        gallery=gallery.location,
        version=gallery.version,
        verdicts=tuple(ListedVerdict(**row) for row in rows),
        withdrawn=len(counted.latest) - len(entries),
        verdicts_without_row=counted.rows_gone,
        contradictions=tuple(contradiction_texts(gallery, contradictions(counted.verdicts))),
    )


def contradiction_texts(gallery: Gallery, found: Sequence[Contradiction]) -> list[str]:
    """A sentence about each of these contradictions, with ids and paths of the pair."""
    ids = np.array([each.pair for each in found], np.int64).ravel()
    paths = iter(_rows_of(gallery, ids)["path"].to_pylist())
    return [
        f"rows {each.pair[0]} ({next(paths)}) and {each.pair[1]} ({next(paths)}) are different by"
        f" one verdict, but the same by others: {' = '.join(map(str, each.chain))}"
        for each in found
    ]


def _user() -> str:
    """The name of the user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InputError("this machine does not name its user: give `who`") from error


def _by_pair(gallery: Gallery, given: Sequence[GivenVerdict]) -> dict[_Pair, GivenVerdict]:
    """The verdicts by the ids of their rows, the smaller one first."""
    found: dict[_Pair, GivenVerdict] = {}
    ids = _row_ids(gallery, [name for each in given for name in (each.a, each.b)])
    for each, (a, b) in zip(given, ids.reshape(-1, 2).tolist(), strict=True):
        missing = [name for name, row in ((each.a, a), (each.b, b)) if row == NO_ROW]
        if missing:
            raise InputError(
                f"{each.prefix}{gallery.location} has no row {missing[0]} in version"
                f" {gallery.version}"
            )
        if a == b:
            raise InputError(f"{each.prefix}row {a} is given twice: a verdict is on two rows")
        pair = min(a, b), max(a, b)
        if found.setdefault(pair, each).verdict != each.verdict:
            raise InputError(
                f"{each.prefix}rows {pair[0]} and {pair[1]} are {found[pair].verdict} and"
                f" {each.verdict} in one list: give one verdict on a pair"
            )
    return found


def _row_ids(gallery: Gallery, names: Sequence[int | str]) -> NDArray[np.int64]:
    """The ids of rows that are named by id or path, or `NO_ROW`."""
    ids = np.array([each if isinstance(each, int) else NO_ROW for each in names], np.int64)
    ids[~np.isin(ids, gallery.row_ids())] = NO_ROW
    texts = [n for n, each in enumerate(names) if isinstance(each, str)]
    if texts:
        rows = gallery.rows(["row_id", "path"])
        places = pc.index_in(pa.array([names[n] for n in texts]), value_set=rows["path"])
        ids[texts] = np.asarray(pc.fill_null(rows["row_id"].take(places), NO_ROW))
    return ids


def _is_new(
    pair: _Pair, given: GivenVerdict, before: Mapping[str, Any] | None, person: str
) -> bool:
    """Whether a verdict differs from the latest one of its pair, in its word, author or comment."""
    if given.verdict == "withdrawn":
        if before is None:
            raise InputError(
                f"{given.prefix}rows {pair[0]} and {pair[1]} have no verdict to withdraw"
            )
        return bool(before["verdict"] != "withdrawn")
    told = {"verdict": given.verdict, "who": given.who or person, "comment": given.comment}
    return before is None or any(before[name] != value for name, value in told.items())


def _after(verdicts: Verdicts, new: Mapping[_Pair, GivenVerdict]) -> Verdicts:
    """The verdicts that will count with the new ones."""
    words = dict.fromkeys(map(tuple, verdicts.same.tolist()), "same")
    words |= dict.fromkeys(map(tuple, verdicts.different.tolist()), "different")
    words |= {pair: each.verdict for pair, each in new.items()}
    same, different = (
        [pair for pair, word in words.items() if word == wanted] for wanted in ("same", "different")
    )
    return Verdicts(same, different)


def _check_contradictions(gallery: Gallery, before: Verdicts, after: Verdicts) -> None:
    """Raise ContradictedError for contradictions that were not there before."""
    known = {each.pair for each in contradictions(before)}
    found = [each for each in contradictions(after) if each.pair not in known]
    if found:
        told = "; ".join(contradiction_texts(gallery, found[:_SHOWN]))
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ContradictedError(
            f"{gallery.location}: {told}{more}; nothing was added: withdraw the verdict that is"
            " wrong"
        )


def _entries(gallery: Gallery, new: Mapping[_Pair, GivenVerdict], person: str) -> pa.Table:
    """The new verdicts in `VERDICT_SCHEMA`."""
    now = datetime.now(UTC)
    ends = {
        end: _rows_of(gallery, np.array([pair[n] for pair in new], np.int64))
        for n, end in enumerate(("a", "b"))
    }
    columns: dict[str, Any] = {
        "verdict": [each.verdict for each in new.values()],
        "who": [each.who or person for each in new.values()],
        "at": [now] * len(new),
        "version": [gallery.version] * len(new),
        "comment": [each.comment for each in new.values()],
    }
    for end, rows in ends.items():
        columns[end] = rows["row_id"]
        columns[f"path_{end}"] = rows["path"]
        columns[f"hash_{end}"] = rows["content_hash"]
    return pa.table({name: columns[name] for name in VERDICT_SCHEMA.names}, VERDICT_SCHEMA)


def _rows_of(gallery: Gallery, ids: NDArray[np.int64]) -> pa.Table:
    """The rows with these ids `[n]`, in their order."""
    places = np.searchsorted(gallery.row_ids(), ids)
    return gallery.rows_at(places, ["row_id", "path", "content_hash"])
