"""Galleries with copies of others' rows: several merged into one, and one split into parts."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError, RunError
from pipeline.gallery import opening
from pipeline.gallery.contents import contents_hash
from pipeline.gallery.copies import (
    MERGED,
    PART,
    below,
    compare,
    copied_how,
    copies_of,
    origins,
    place_of,
)
from pipeline.gallery.derived import derivation
from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.row_files import MOST_UNIT_ROWS
from pipeline.gallery.files.schema import feature_bytes
from pipeline.gallery.files.unit_files import UnitRecord, write_unit
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.outputs import listed_in_galleries, outputs_of
from pipeline.gallery.summary import rejects_by_reason
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.counting import count_verdicts
from pipeline.runs.outcomes import CopyMade, MergedGalleries, SplitGallery
from pipeline.runs.reporting import reported
from pipeline.runs.union import GalleryUnion
from pipeline.schemas import REJECT_SCHEMA
from pipeline.stages.execution import StartProgress, Step, silent

SplitBy = Literal["camera", "identity", "month", "origin"]

_UNIT_BYTES = 64 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """Rows of an origin that are to be copied: those at `positions` int64 `[n]`, their paths and
    tracklets perhaps `with_source`.
    """

    origin: Gallery
    positions: NDArray[np.int64]
    with_source: bool = False


def merge(
    galleries: Sequence[Gallery], out: str, *, progress: StartProgress = silent
) -> MergedGalleries:
    """Write the rows and rejects of several galleries to the gallery `out`, or bring it up to date.

    New rows follow the others in the order of the galleries, with ids of their own; rows that are
    gone from a gallery are removed. Raise InputError if the recipes do not agree, if a gallery is
    derived from another, if two hold rows of one path, or if `out` holds rows of a gallery that is
    not given.
    """
    union = GalleryUnion(tuple(galleries))
    for each in galleries:
        if (how := derivation(each)) is not None:
            raise InputError(f"{each.location} is {how}: merge the galleries that it follows")
        if place_of(each) == str(root_of(out).resolve()):
            raise InputError(f"`out` {out} is one of the galleries that are merged")
    paths = union.rows(["path"])["path"]
    _check_paths(union, paths)
    with_source = not union.has_one_source
    parts = [_Part(each, np.arange(each.count), with_source) for each in galleries]
    names = ", ".join(each.location for each in galleries)
    with opening.lock_gallery(out, f"merge into {out}") as lock:
        if not opening.exists(out):
            _create(union, out, f"merged from {names}", lock)
        present = _opened(out, "merged", union)
        given = {place_of(each) for each in galleries}
        if others := [each for each in origins(present) if each not in given]:
            raise InputError(
                f"{out} holds rows of {', '.join(others)}: give that gallery too, or a new `out`"
            )
        rejects = _rejects(union, paths)
        after = _update(present, parts, rejects, MERGED, lock, progress)
    _tell_of_verdicts(galleries)
    return MergedGalleries(
        **_changes(present, after),
        rejects=rejects_by_reason(after.rejects()),
        merged=tuple(each.location for each in galleries),
    )


def split(
    gallery: Gallery, folder: str, by: SplitBy, *, progress: StartProgress = silent
) -> SplitGallery:
    """Write the rows of each camera (identity, month, or origin) to a gallery of its own in
    `folder`, or bring these up to date.

    A part is named after what its rows have in common, such as `camera-3`. A part whose rows are
    all gone is emptied. Rejects stay where they are: they belong to no part. Raise InputError if
    the gallery is derived from another.
    """
    if (how := derivation(gallery)) is not None:
        raise InputError(f"{gallery.location} is {how}: split the gallery that it follows")
    names = _names(gallery, by)
    base = folder.rstrip("/")
    wanted = {name: np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())}
    if gallery.count == 0:
        raise InputError(f"{gallery.location} has no row in version {gallery.version}")
    for name in _earlier(gallery, base, by):
        wanted.setdefault(name, np.empty(0, np.int64))
    made = []
    for name in sorted(wanted):
        place = f"{base}/{name}"
        with opening.lock_gallery(place, f"split {gallery.location}") as lock:
            if not opening.exists(place):
                _create(gallery, place, f"split by {by} from {gallery.location}", lock)
            present = _opened(place, f"split by {by}", gallery)
            part = _Part(gallery, wanted[name])
            after = _update(present, [part], None, PART, lock, progress)
        made.append(CopyMade(**_changes(present, after)))
    _tell_of_verdicts([gallery])
    return SplitGallery(gallery.location, gallery.version, by, tuple(made))


def _tell_of_verdicts(galleries: Sequence[Gallery]) -> None:
    """Log which galleries have verdicts: these are not copied."""
    for each in galleries:
        if count := len(count_verdicts(each).entries):
            _log.info("%s: its %d verdicts are not copied", each.location, count)


def stale_rejects(copy: Gallery, origin: Gallery) -> list[str]:
    """The paths of the rejects of a merged gallery that none of its galleries has any more, after
    some are gone from `origin`.

    Those of a gallery that cannot be opened are among them, with a warning.
    """
    found = [origin]
    for place in origins(copy):
        if place != place_of(origin):
            try:
                found.append(Gallery.open(place))
            except (InputError, RunError) as error:
                _log.warning("the rejects of %s leave %s: %s", place, copy.location, error)
    kept: set[str] = set()
    for each in found:
        paths = each.rejects()["path"]
        source = each.properties["source"]
        is_same = copy.properties["source"] == source
        kept.update((paths if is_same else below(source, paths)).to_pylist())
    return [path for path in copy.rejects()["path"].to_pylist() if path not in kept]


def _create(parent: Gallery | GalleryUnion, out: str, how: str, lock: Lock) -> None:
    known = parent.properties
    Gallery.create(
        out,
        recipe_json=parent.recipe_json,
        fingerprint=parent.fingerprint,
        dimension=parent.dimension,
        dtype=parent.dtype,
        source=known["source"],
        layout=known["layout"],
        precision=known["precision"],
        derived={"copies": how},
        lock=lock,
    )


def _opened(out: str, how: str, parent: Gallery | GalleryUnion) -> Gallery:
    """The gallery of copies; raise InputError if it is another, or of another recipe or source."""
    present = Gallery.open(out)
    made = copied_how(present)
    if made is None or not made.startswith(how):
        raise InputError(f"{out} is {made or 'a gallery of its own'}, not {how}: give a new one")
    wanted = (parent.fingerprint, parent.dtype, parent.properties["source"])
    if (present.fingerprint, present.dtype, present.properties["source"]) != wanted:
        raise InputError(
            f"{out} was {made}, with another recipe, storage or source than {parent.location}: give"
            " a new gallery"
        )
    return present


def _update(
    present: Gallery,
    parts: Sequence[_Part],
    rejects: pa.Table | None,
    kind: str,
    lock: Lock,
    progress: StartProgress,
) -> Gallery:
    """The next version: exactly the wanted rows of each part, in one commit.

    Units that a killed run finished are used again. The gallery is first listed in its origins.
    """
    removes, waiting = [np.empty(0, np.int64)], []
    for part in parts:
        how = {"with_source": part.with_source}
        gone, new = compare(present, part.origin, part.positions, **how)
        removes.append(gone)
        waiting.append(new)
    held = present.rejects()["path"].to_pylist()
    wanted = set() if rejects is None else set(rejects["path"].to_pylist())
    with (
        listed_in_galleries(kind, present.location, [part.origin for part in parts]),
        reported(lock, progress) as report,
    ):
        step = report.start("copying", sum(map(len, waiting)))
        units = list(_units(present, parts, waiting, step, lock))
        digest = hashlib.sha256(np.concatenate(removes).tobytes())
        for unit in units:
            digest.update(unit.unit_id.encode())
        digest.update("\n".join(sorted(wanted)).encode())
        return present.commit(
            units,
            run_id=f"copy-{present.version}-{digest.hexdigest()[:16]}",
            removes=np.concatenate(removes),
            rejects=rejects,
            forget=[path for path in held if path not in wanted],
            lock=lock,
        )


def _units(
    present: Gallery,
    parts: Sequence[_Part],
    waiting: Sequence[NDArray[np.int64]],
    step: Step,
    lock: Lock,
) -> Iterator[UnitRecord]:
    """Yield the records of units of rows that wait to be copied; units of a killed run are used
    again.
    """
    size = max(1, _UNIT_BYTES // feature_bytes(present.dimension, present.dtype))
    size = min(size, MOST_UNIT_ROWS)
    planned = []
    first = present.next_row_id
    for part, positions in zip(parts, waiting, strict=True):
        ids, contents = part.origin.row_ids(), contents_hash(part.origin)
        for start in range(0, len(positions), size):
            some = positions[start : start + size]
            told = f"{present.fingerprint} {contents} {first} {part.with_source} "
            name = hashlib.sha256(told.encode() + ids[some].tobytes()).hexdigest()[:32]
            planned.append((name, part, some, first))
            first += len(some)
    left = present.find_units()
    known = {(unit.unit_id, unit.first_row_id): unit for unit in left.units}
    finished = {name: known.pop((name, first), None) for name, _, _, first in planned}
    useless = tuple(unit for unit in left.units if finished.get(unit.unit_id) is not unit)
    present.clear(type(left)(useless, left.damaged, left.orphans), lock)
    for name, part, some, first in planned:
        unit = finished[name]
        if unit is None:
            rows = copies_of(part.origin, some, first, present, with_source=part.with_source)
            given = range(first, first + len(some))
            unit = write_unit(present.target, name, given, rows, REJECT_SCHEMA.empty_table())
        step(len(some))
        yield unit


def _check_paths(union: GalleryUnion, paths: pa.ChunkedArray) -> None:
    """Raise InputError if two rows have the same path, because the path is a row's key."""
    if pc.count_distinct(paths).as_py() == len(paths):
        return
    counts = pc.value_counts(paths)
    again = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    where = np.flatnonzero(np.asarray(pc.equal(paths, again[0])))
    owner, _ = union.locate(where)
    raise InputError(
        f"{len(again):,} paths are in two galleries, such as {again[0].as_py()} in"
        f" {' and '.join(union.parts[number].location for number in owner[:2])}: a path is a row's"
        " key; erase it from one of them, or search them without a merge"
    )


def _rejects(union: GalleryUnion, paths: pa.ChunkedArray) -> pa.Table:
    """The rejects of all galleries, each path once, without paths that are rows."""
    rejects = union.rejects()
    _, first = np.unique(np.asarray(rejects["path"].to_pylist(), object), return_index=True)
    rejects = rejects.take(pa.array(np.sort(first)))
    return rejects.filter(pc.invert(pc.is_in(rejects["path"], value_set=paths.combine_chunks())))


def _names(gallery: Gallery, by: SplitBy) -> NDArray[np.object_]:
    """The name of the part of each row."""
    column = {"month": "captured_at"}.get(by, by)
    values = gallery.rows([column])[column]
    if by == "month":
        values = pc.strftime(values, "%Y-%m")
    elif by == "origin":
        values = pa.chunked_array([_short_names(values.to_pylist())], pa.string())
    texts = ["unknown" if each is None else str(each) for each in values.to_pylist()]
    return np.array([f"{by}-{quote(text, safe=' ')}" for text in texts], object)


def _short_names(places: Sequence[str | None]) -> pa.Array:
    """The last part of each location; numbered where two have the same."""
    short: dict[str, str] = {}
    seen = Counter[str]()
    for place in sorted({each for each in places if each is not None}):
        name = place.rstrip("/").rpartition("/")[2]
        seen[name] += 1
        short[place] = name if seen[name] == 1 else f"{name}~{seen[name]}"
    return pa.array([None if each is None else short[each] for each in places], pa.string())


def _earlier(gallery: Gallery, base: str, by: SplitBy) -> list[str]:
    """The names of the parts that an earlier split wrote to this folder."""
    here = root_of(base).resolve()
    return [
        each.place.name
        for each in outputs_of(gallery)
        if each.kind == PART and each.place.parent == here and each.place.name.startswith(f"{by}-")
    ]


def _changes(before: Gallery, after: Gallery) -> dict[str, Any]:
    """What a run changed, for `CopyMade`."""
    ids, earlier = after.row_ids(), before.row_ids()
    return {
        "gallery": after.location,
        "version": after.version,
        "rows": len(ids),
        "rows_added": len(np.setdiff1d(ids, earlier)),
        "rows_removed": len(np.setdiff1d(earlier, ids)),
    }
