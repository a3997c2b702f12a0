"""Purge: delete everything but the latest version of a gallery, then search all files for remnants.

Files that only older versions need are first moved to a folder that no reader lists. The purge
reads the rows to search for from there; the files are deleted last. So after a kill at any instant,
the next purge can finish the work.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import RunError
from pipeline.gallery import checksums, scratch
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    GalleryPlace,
    ask_many,
    in_order,
    known_size,
    parquet,
    rename,
    root_of,
)
from pipeline.gallery.files.rejects import rejects_file, rejects_files
from pipeline.gallery.irregular import check_regular
from pipeline.gallery.log.entries import forget_before, logged_files, oldest_version
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.outputs import Output, forget_gone, outputs_of, stale_outputs
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.leftovers import (
    delete_unfinished,
    derived_before,
    row_files,
    unfinished_files,
)
from pipeline.gallery.upkeep.remnants import (
    Gone,
    Trace,
    as_plain,
    find_remnants,
    search_statistics,
    stored_features,
)
from pipeline.gallery.upkeep.retained import check_can_ask, retained
from pipeline.gallery.verdicts.forgetting import forget_gone_rows, forget_in_comments

_GRAPH = re.compile(r"round-\d+-|regallery-")
_ROWS_A_SEARCH = 1 << 16
_SHOWN_TRACES = 5


@dataclass(frozen=True)
class Purged:
    """The results of a purge: removed files, and searched ones.

    `versions_removed` counts the versions that are no longer readable; `files_removed` and
    `bytes_removed` those of older versions and of abandoned runs; `verdicts_removed` the entries on
    rows that are gone. `rows_gone` and `rejects_gone`,
    which no version has, were searched for in `searched_files` of `searched_bytes`. `unreadable`
    files were deleted without being read. `scratch_folders` of killed runs were deleted; those
    `out_of_reach`, for example on another machine, still hold features. `outputs` were made
    elsewhere from versions that had rows which are gone, and may hold them. `not_checked` names the
    things that an object store could not be asked about.
    """

    versions_removed: int
    files_removed: int
    bytes_removed: int
    verdicts_removed: int
    rows_gone: int
    rejects_gone: int
    searched_files: int
    searched_bytes: int
    unreadable: tuple[str, ...]
    scratch_folders: int
    out_of_reach: tuple[str, ...]
    outputs: tuple[Output, ...]
    not_checked: tuple[str, ...] = ()


def is_under_way(location: str) -> bool:
    """Whether a purge was interrupted: the files that it set aside are still there."""
    return (root_of(location) / storage.PURGED_FOLDER).exists()


def purge(gallery: Gallery, lock: Lock) -> Purged:
    """Remove all other versions than this one, the latest, from the disk, and search for remnants.

    Raise `RunError` naming each file that still has something of removed rows and rejects. Before
    anything is removed, raise `RunError` if this is not the latest version, or if a run with
    scratch files is working on an older one, and `InputError` for links and mounts
    (`check_regular`).
    """
    lock.check()
    gallery.check_latest()
    root = root_of(gallery.location)
    check_regular(gallery.location)
    check_can_ask(root)
    scratch.check_unused(root, gallery.version)
    known = {each.file for each in outputs_of(gallery)}
    stale = stale_outputs(gallery)
    live = [file.path for file in gallery.snapshot.files]
    versions = gallery.version - oldest_version(root)
    _set_aside(gallery, root)
    forget_before(root, gallery.version)
    _forget_derived(root, gallery.version)
    verdicts = forget_gone_rows(gallery)
    forget_gone(gallery)
    late = (each for each in outputs_of(gallery) if each.file not in known)
    stale += [each for each in late if each.version < gallery.version]
    scratch_folders, out_of_reach = scratch.drop_before(root, gallery.version)
    aside = in_order((root / storage.PURGED_FOLDER).iterdir())
    files = _other_files(root)
    traces = search_statistics(root, live)
    rows = rejects = 0
    unreadable: list[str] = []
    for tables in _gone_tables(gallery, aside, unreadable):
        gone = _as_gone(gallery, tables)
        rows += len(gone.row_ids)
        rejects += sum(table.num_rows for table in tables) - len(gone.row_ids)
        forget_in_comments(root, gone.paths)
        traces += find_remnants(root, files, live, gone)
    if traces:
        raise RunError(_remnants_message(root, traces))
    done = Purged(
        versions_removed=versions,
        files_removed=len(aside),
        bytes_removed=_size(aside),
        verdicts_removed=verdicts,
        rows_gone=rows,
        rejects_gone=rejects,
        searched_files=len(files),
        searched_bytes=_size(files),
        unreadable=tuple(unreadable),
        scratch_folders=scratch_folders,
        out_of_reach=out_of_reach,
        outputs=tuple(stale),
    )
    storage.delete_files(aside)
    (root / storage.PURGED_FOLDER).rmdir()
    storage.sync_folder(root)
    kept = retained(root)
    if kept.versions or kept.uploads:
        raise RunError(
            f"{root}: the rows are gone from the gallery, but its bucket keeps"
            f" {kept.versions:,} old versions of objects and {kept.uploads:,} uploads that were cut"
            " off, which may hold them: delete those (a lifecycle rule of the bucket does), and run"
            " the command again"
        )
    return replace(done, not_checked=kept.not_checked)


def _set_aside(gallery: Gallery, root: GalleryPlace) -> None:
    """Move files that the latest version does not need; delete unfinished files of runs, and files
    that name rows and can be made again.
    """
    folder = root / storage.PURGED_FOLDER
    storage.begin_folder(folder)
    needed = {root / file.path for file in gallery.snapshot.files}
    needed.add(rejects_file(root, gallery.snapshot.rejects))
    stored = (*row_files(root, logged_files(root)), *rejects_files(root))
    unneeded = [path for path in stored if path not in needed]
    checksums.forget(unneeded)
    list(ask_many(lambda path: rename(path, folder / path.name), unneeded, root))
    delete_unfinished(unfinished_files(root))
    storage.delete_files([root / storage.SEEN_FILE])
    checksums.sweep_writers(root)
    _drop_graphs(root / storage.GRAPH_FOLDER)
    inside = (storage.REJECTS_FOLDER, storage.UNITS_FOLDER)
    for changed in (folder, *(root / name for name in inside), root):
        if changed.exists():
            storage.sync_folder(changed)


def _drop_graphs(folder: GalleryPlace) -> None:
    """Delete the neighbor graphs and intermediate features; files of other tools there are
    searched.
    """
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and _GRAPH.match(path.name):
            storage.delete_folder(path)
    with suppress(OSError):
        folder.rmdir()


def _forget_derived(root: GalleryPlace, version: int) -> None:
    """Delete camera statistics and maps made from older versions after these have left the log,
    because readers write them.
    """
    storage.delete_files(derived_before(root, version))
    for folder in (root / storage.CAMERAS_FOLDER, root / storage.MAPS_FOLDER):
        if folder.exists():
            storage.sync_folder(folder)


def _other_files(root: GalleryPlace) -> list[GalleryPlace]:
    """All files of the folder but those set aside."""
    aside = root / storage.PURGED_FOLDER
    return in_order(path for path in root.rglob("*") if path.is_file() and path.parent != aside)


def _gone_tables(
    gallery: Gallery, aside: Sequence[GalleryPlace], unreadable: list[str]
) -> Iterator[list[pa.Table]]:
    """The rows and rejects that are set aside and not kept, each once, in batches."""
    known = np.zeros(gallery.next_row_id, bool)
    known[gallery.row_ids()] = True
    reject_paths = set(gallery.rejects()["path"].to_pylist())
    tables: list[pa.Table] = []
    for path in aside:
        try:
            source = parquet(path)
            names = pq.read_schema(source).names
            wanted = [name for name in ("row_id", "path", "feature") if name in names]
            table = pq.read_table(source, columns=wanted).replace_schema_metadata(None)
            plain = [as_plain(column) for column in table.columns]  # other tools keep views
            table = pa.table(plain, names=table.column_names)
        except (OSError, pa.ArrowInvalid):
            unreadable.append(path.name)
            continue
        if "row_id" in names:
            # A row is in several files if rows of its file were removed at several times.
            ids = table["row_id"].to_numpy()
            beyond = max(0, int(ids.max(initial=-1)) + 1 - len(known))  # of work never committed
            known = np.concatenate([known, np.zeros(beyond, bool)]) if beyond else known
            table = table.filter(pa.array(~known[ids]))
            known[ids] = True
        else:
            paths = table["path"].to_pylist()
            table = table.filter(pa.array([each not in reject_paths for each in paths], pa.bool_()))
            reject_paths.update(paths)
        tables.append(table)
        if sum(each.num_rows for each in tables) >= _ROWS_A_SEARCH:
            yield tables
            tables = []
    yield tables


def _as_gone(gallery: Gallery, tables: Sequence[pa.Table]) -> Gone:
    """The things to search for, without paths that a newer row or reject has."""
    rows = [table for table in tables if "row_id" in table.column_names]
    stay = [*gallery.rows(["path"])["path"].chunks, *gallery.rejects()["path"].chunks]
    paths = pa.chunked_array(
        [chunk for each in tables for chunk in each["path"].chunks], pa.string()
    )
    paths = paths.filter(
        pc.invert(pc.is_in(paths, value_set=pa.chunked_array(stay, pa.string())))
    ).unique()
    return Gone(
        row_ids=np.concatenate(
            [np.empty(0, np.int64), *(table["row_id"].to_numpy() for table in rows)]
        ),
        paths=tuple(paths.to_pylist()),
        features=tuple(value for table in rows for value in stored_features(table)),
    )


def _size(paths: Sequence[GalleryPlace]) -> int:
    return sum(known_size(path) for path in paths)


def _remnants_message(root: GalleryPlace, traces: Sequence[Trace]) -> str:
    shown = "; ".join(f"{each.file} holds {each.what}" for each in traces[:_SHOWN_TRACES])
    more = f" and {len(traces) - _SHOWN_TRACES} more" if len(traces) > _SHOWN_TRACES else ""
    return (
        f"{root}: the rows are gone from every version, but not from the disk: {shown}{more}; "
        "delete those files if they are not the gallery's own, and run the command again"
    )
