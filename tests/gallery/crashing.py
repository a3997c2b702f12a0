"""A small extraction that is cut off at a chosen operation on the disk, or request to a store.

`python -m tests.gallery.crashing LOCATION DAY OPERATION` ends the process at that operation,
without any clean-up, as a kill would.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
from deltalake import DeltaTable

from pipeline.gallery.log.lock import Lock
from pipeline.gallery.opening import exists, lock_gallery
from pipeline.gallery.table import Gallery
from tests.gallery.making import new_gallery, rejects_table, unit

UNIT = 4

# The source on each day: the modification time of each path.
DAYS = [
    {f"{number:02d}.jpg": 1 for number in range(11)},
    {f"{number:02d}.jpg": 2 if number in (3, 7) else 1 for number in range(15) if number != 5},
]
# Images that give no row: 02 on both days, 07 since it changed, and a whole unit of new ones.
BAD = [{"02.jpg"}, {"02.jpg", "07.jpg", "12.jpg", "13.jpg", "14.jpg", "11.jpg"}]

_REQUESTS = ("put", "delete", "copy")
_WATCHED = ("fsync", "link", "replace", "rename", "unlink", "mkdir", "rmdir")

Plan = list[tuple[str, range, list[str]]]


def bring_up_to_date(location: str, day: int) -> Gallery:
    """What an extraction does: take over what is finished of its plan, do the rest, commit once."""
    with lock_gallery(location, f"day {day}") as lock:
        gallery = Gallery.open(location) if exists(location) else _create(location, lock)
        plan, found = _plan(gallery, day), gallery.find_units()
        planned = {(name, ids.start) for name, ids, _ in plan}
        done = {
            record.unit_id: record
            for record in found.units
            if (record.unit_id, record.first_row_id) in planned
        }
        stray = tuple(record for record in found.units if record not in done.values())
        gallery.clear(replace(found, units=stray), lock)
        units = [
            done.get(name)
            or unit(gallery.target, ids, _rejected(ids, paths, day), unit_id=name, paths=paths)
            for name, ids, paths in plan
        ]
        rows = gallery.rows(["row_id", "path"]).to_pydict()
        vanished = [
            row_id
            for row_id, path in zip(rows["row_id"], rows["path"], strict=True)
            if path not in DAYS[day]
        ]
        run_id = hashlib.sha256(repr((day, plan)).encode()).hexdigest()
        listed = rejects_table(["odd name.jpg"], "layout")
        return gallery.commit(units, run_id=run_id, removes=vanished, rejects=listed, lock=lock)


def _create(location: str, lock: Lock) -> Gallery:
    return new_gallery(location, lock=lock)


def _plan(gallery: Gallery, day: int) -> Plan:
    """Units of the paths that are new or changed since the day before."""
    known = set(gallery.rows(["path"])["path"].to_pylist())
    known |= set(gallery.rejects()["path"].to_pylist())
    changed = {path for path, mtime in DAYS[day].items() if mtime == 2}
    applied = any(info.run_id and info.version > 1 for info in gallery.history())
    wanted = sorted((DAYS[day].keys() - known) | (changed if day and not applied else set()))
    plan = []
    for start in range(0, len(wanted), UNIT):
        paths = wanted[start : start + UNIT]
        first = gallery.next_row_id + start
        name = hashlib.sha256(repr((day, paths)).encode()).hexdigest()[:16]
        plan.append((name, range(first, first + len(paths)), paths))
    return plan


def _rejected(ids: range, paths: list[str], day: int) -> list[int]:
    return [row_id for row_id, path in zip(ids, paths, strict=True) if path in BAD[day]]


@contextmanager
def interrupted(
    operation: int, stop: Callable[[], Any], dead: bool = False, inside: Path | None = None
) -> Iterator[list[str]]:
    """Calls `stop` at the given operation on the disk; gives the names of those seen so far.

    One that is `dead` cannot do any later operation either, whatever its clean-up tries. Where
    `inside` is a folder, only operations below it count.
    """
    seen: list[str] = []

    def at(name: str) -> None:
        seen.append(name)
        if len(seen) - 1 == operation or (dead and len(seen) > operation >= 0):
            stop()

    def watched(owner: Any, name: str, after: bool = False) -> Callable[[], None]:
        real = getattr(owner, name)

        def replacement(*arguments: Any, **options: Any) -> Any:
            if owner is obstore and str(arguments[1]).endswith("/_lock"):
                return real(*arguments, **options)  # the lease ends with the process that is killed
            if inside is not None and owner is os and not _is_inside(inside, *arguments, **options):
                return real(*arguments, **options)
            at(name)
            result = real(*arguments, **options)
            if after:
                at(f"after {name}")
            return result

        setattr(owner, name, replacement)
        return lambda: setattr(owner, name, real)

    undo = [watched(os, name) for name in _WATCHED]
    undo += [watched(obstore, name) for name in _REQUESTS if inside is None]
    undo += [
        watched(DeltaTable, name, after=True)
        for name in ("create_write_transaction", "create_checkpoint")
    ]
    try:
        yield seen
    finally:
        for restore in undo:
            restore()


def _is_inside(folder: Path, place: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> bool:
    """Whether an operation's first argument, a path or a descriptor, lies below a folder."""
    if isinstance(place, int):
        place = Path(f"/proc/self/fd/{place}").readlink()
    elif dir_fd is not None:
        place = Path(f"/proc/self/fd/{dir_fd}").readlink() / place
    return Path(place).is_relative_to(folder)


if __name__ == "__main__":
    with interrupted(int(sys.argv[3]), lambda: os._exit(9)):
        bring_up_to_date(sys.argv[1], int(sys.argv[2]))
