"""Verify whether every file has the contents that were written to it, and whether the rows are
valid.

Verification does not stop at the first finding, but reports everything that is wrong. Only if the
log is damaged are rows not checked, because it is unknown which rows there are.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError, RunError
from pipeline.gallery import chain, chain_checks, checksum_checks
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, below, in_order, parquet, root_of
from pipeline.gallery.files.rejects import is_as_named, read_rejects, rejects_file
from pipeline.gallery.files.row_files import checksum, delta_statistics
from pipeline.gallery.files.schema import is_row_schema
from pipeline.gallery.files.storage import GalleryDamagedError, record_of
from pipeline.gallery.files.stored_rows import rows_of
from pipeline.gallery.files.unit_files import UNIT_KEY
from pipeline.gallery.irregular import irregular_files
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import LoggedFile, logged_files, oldest_version
from pipeline.gallery.log.lock import holder
from pipeline.gallery.log.removed import read_steadily, removed, report_removal
from pipeline.gallery.log.transactions import RowFile
from pipeline.gallery.scratch import is_scratch
from pipeline.gallery.table import Gallery

_ROWS_AT_ONCE = 4096
_SHOWN = 10
# How long to wait for a writer that may explain what looks wrong.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 3.0, 0.05


@dataclass(frozen=True)
class Finding:
    """A file of the gallery (or its log) and its fault."""

    file: str
    problem: str


@dataclass(frozen=True)
class Verified:
    """The results of a verification.

    `without_checksum` files were committed by another tool, and `other_commits` are entries of the
    log by other tools.
    """

    version: int
    versions_verified: int
    files_verified: int
    bytes_verified: int
    rows_verified: int
    without_checksum: int
    other_commits: tuple[str, ...]
    findings: tuple[Finding, ...]


def verify(gallery: Gallery, *, all_versions: bool = False) -> Verified:
    """Verify a version.

    This checks each file against its checksum, its size, its rows and their norms; row ids and
    paths, each used once; rejects; counts against the log; and that there are no links or mounts.
    It also checks all files beside the rows: the log, rejects, and every file that has a record of
    its checksum. With `all_versions`, it also checks the files that only older versions need, by
    size and checksum. Raise `GalleryDamagedError` if the log cannot be read and no finding explains
    it, and `RunError` if the version is removed meanwhile.
    """
    root = root_of(gallery.location)
    first = min(oldest_version(root), gallery.version) if all_versions else gallery.version
    with report_removal(root, first):
        done = _verify(gallery, root, first)
        if done.findings and (removal := removed(root, first)):
            raise removal
    return done


def _verify(gallery: Gallery, root: GalleryPlace, first: int) -> Verified:
    """Verify a version, and the files that versions from `first` on need in addition."""
    if of_log := _of_log(root):
        return _with_a_damaged_log(root, of_log)
    logged, beside = _logged_and_beside(root)
    live = {file.path for file in gallery.snapshot.files}
    others, rejects, versions = set[str](), {gallery.snapshot.rejects}, 1
    for version in range(first, gallery.version):
        snapshot = log.read_log(root, version)
        others |= {file.path for file in snapshot.files} - live
        rejects.add(snapshot.rejects)
        versions += 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bytewise = pool.map(
            partial(_bytes_of, root), [logged[path] for path in sorted(live | others)]
        )
        given = log.first_unassigned_row_id(root, gallery.version)
        rowwise = pool.map(partial(_rows_of, gallery, logged, given), gallery.snapshot.files)
        findings = [*(each for each in bytewise if each), *(each for f in rowwise for each in f)]
    damaged = {each.file for each in findings}
    findings += _of_rejects(root, rejects)
    findings += [Finding(each.file, each.problem) for each in irregular_files(root)]
    findings += beside
    findings += _of_keys(gallery, [f for f in gallery.snapshot.files if f.path not in damaged])
    return Verified(
        version=gallery.version,
        versions_verified=versions,
        files_verified=len(live | others) + len(rejects - {0}),
        bytes_verified=sum(logged[path].bytes for path in live | others),
        rows_verified=gallery.count,
        without_checksum=sum(logged[path].sha256 is None for path in live | others),
        other_commits=tuple(chain.foreign_entries(root)),
        findings=tuple(dict.fromkeys(findings)),
    )


def _logged_and_beside(root: GalleryPlace) -> tuple[dict[str, LoggedFile], list[Finding]]:
    """The files that the log names, and the faults of all others.

    If a writer is at work between the two, one may not yet have a file that the other has, or no
    longer. Then both are read again, for some seconds, until nobody writes. If somebody still does,
    only faults that were found twice are reported.
    """
    logged, found, is_at_rest = _once(root)
    earlier, until = found, time.monotonic() + _PATIENCE_SECONDS
    while found and not is_at_rest and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
        earlier = found
        logged, found, is_at_rest = _once(root)
    return logged, found if is_at_rest else [fault for fault in found if fault in earlier]


def _once(root: GalleryPlace) -> tuple[dict[str, LoggedFile], list[Finding], bool]:
    """The files that the log names, the faults of all others, and whether nobody wrote meanwhile.

    A writer that holds the lock, or a version that came or went, says that somebody did.
    """

    def writing() -> tuple[bool, int, int]:
        return _is_written(root), oldest_version(root), chain.latest(root)

    before = writing()
    logged = read_steadily(lambda: logged_files(root))
    found = read_steadily(lambda: _beside(root, logged.__contains__))
    return logged, found, not before[0] and writing() == before


def _is_written(root: GalleryPlace) -> bool:
    """Whether a writer is at work.

    Without a lock that can be read, the answer is no: nobody can hold a link, a folder or a pipe,
    which `irregular_files` reports.
    """
    try:
        return holder(str(root)) is not None
    except (InputError, RunError, OSError):
        return False


def verify_at(location: str, version: int | None = None, *, all_versions: bool = False) -> Verified:
    """`verify` of the gallery at a location, even if its log is too damaged to open it.

    Raise what `Gallery.open` raises, unless `verify` can name the damaged file.
    """
    try:
        gallery = Gallery.open(location, version)
    except GalleryDamagedError:
        root = root_of(location)
        found = _with_a_damaged_log(root, _of_log(root))
        if not found.findings:
            raise
        return found
    return verify(gallery, all_versions=all_versions)


def _of_log(root: GalleryPlace) -> list[Finding]:
    """The faults of the log, after waiting some seconds for a current writer to finish.

    A purge deletes entries one by one; the remaining ones are not damage.
    """
    found, until = chain_checks.changed_entries(root), time.monotonic() + _PATIENCE_SECONDS
    while found and _is_written(root) and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
        found = chain_checks.changed_entries(root)
    # Once more: the writer may have ended just before the check.
    return [Finding(*each) for each in chain_checks.changed_entries(root)] if found else []


def _with_a_damaged_log(root: GalleryPlace, of_log: Sequence[Finding]) -> Verified:
    """The faults of the log, and of the files whose checksums can still be read."""
    damaged = {Path(each.file).name for each in of_log}
    try:
        logged = logged_files(root, without=damaged)
    except GalleryDamagedError:
        logged = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bytewise = list(pool.map(partial(_bytes_of, root), logged.values()))
    findings = [*of_log, *(each for each in bytewise if each)]
    # Such a log does not say which other files of rows there should be.
    findings += _beside(root, lambda name: name in logged or _may_be_rows(root, name))
    return Verified(
        version=chain.latest(root),
        versions_verified=1,
        files_verified=len(logged),
        bytes_verified=sum(file.bytes for file in logged.values()),
        rows_verified=0,
        without_checksum=sum(file.sha256 is None for file in logged.values()),
        other_commits=tuple(chain.foreign_entries(root)),
        findings=tuple(dict.fromkeys(findings)),
    )


def _may_be_rows(root: GalleryPlace, name: str) -> bool:
    return "/" not in name and name.endswith(".parquet") and not record_of(root / name).exists()


def _beside(root: GalleryPlace, is_logged: Callable[[str], bool]) -> list[Finding]:
    """The faults of the files that the log does not name; `is_logged` says whether it names one."""
    rejects = f"{storage.REJECTS_FOLDER}/"
    found: list[Finding] = []
    if (root / storage.PURGED_FOLDER).exists() and not _is_written(root):
        found.append(Finding(storage.PURGED_FOLDER, "a purge was cut off: run it again"))
    found += [
        Finding(*each)
        for each in checksum_checks.changed_files(
            root, lambda n: is_logged(n) or n.startswith(rejects)
        )
    ]
    folder = root / storage.REJECTS_FOLDER
    for path in in_order(filter(storage.is_own_file, folder.rglob("*"))):
        if not storage.is_temporary(path) and (path.parent != folder or not is_as_named(path)):
            name = below(path, root)
            found.append(Finding(name, "the file is not what was written; restore it"))
    for folder in in_order((root / storage.GRAPH_FOLDER).glob("*")):
        if not folder.is_dir() or (others := _not_of_a_graph(folder)):
            name = below(folder if not folder.is_dir() else others[0], root)
            found.append(Finding(name, "this is not of a neighbor graph"))
        elif (folder / storage.CHECKSUMS_FOLDER).exists():  # not intermediate features
            found += [
                Finding(below(folder / name, root), problem)
                for name, problem in checksum_checks.changed_files(folder, lambda _: False)
            ]
    return found


def _not_of_a_graph(folder: GalleryPlace) -> list[GalleryPlace]:
    """Files in a folder that belong neither to a graph nor to intermediate features."""
    try:
        paths = in_order(path for path in folder.iterdir() if not storage.is_temporary(path))
    except FileNotFoundError:  # a run has deleted it
        return []
    is_one = (folder / storage.CHECKSUMS_FOLDER).exists() or (
        isinstance(folder, Path) and is_scratch(folder)
    )
    return [] if is_one else [path for path in paths if path.exists()]


def _bytes_of(root: GalleryPlace, file: LoggedFile) -> Finding | None:
    """The finding if a file is missing, or has another size or checksum."""
    path = root / file.path
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return Finding(file.path, f"{size} bytes where the log says {file.bytes}")
        if file.sha256 is not None and checksum(path) != file.sha256:
            return Finding(file.path, "its bytes are not those that were written (SHA-256)")
    except FileNotFoundError:
        return Finding(file.path, "the file is gone")
    except OSError as error:
        return Finding(file.path, f"the file cannot be read ({error.strerror})")
    return None


def _rows_of(
    gallery: Gallery, logged: dict[str, LoggedFile], given: int, file: RowFile
) -> Sequence[Finding]:
    """The faults of the rows of a file; none if it is gone, which is a finding already.

    `given` is the first row id that our commits have not assigned.
    """
    path = root_of(gallery.location) / file.path
    if not path.exists():
        return []
    problems: list[str] = []
    try:
        problems += _problems_of_footer(gallery, logged[file.path], path)
        problems += _problems_of_ids(given, file, path)
        _read_features(gallery, file, path)
    except (OSError, pa.ArrowException) as error:
        problems.append(f"the file cannot be read ({error})")
    except GalleryDamagedError as error:
        problems.append(str(error).removeprefix(f"{path}: "))
    return [Finding(file.path, problem) for problem in problems]


def _problems_of_footer(gallery: Gallery, logged: LoggedFile, path: GalleryPlace) -> Iterator[str]:
    metadata = pq.read_metadata(parquet(path))
    unit = json.loads((metadata.metadata or {}).get(UNIT_KEY, b"{}"))
    if unit.get("fingerprint", gallery.fingerprint) != gallery.fingerprint:
        yield f"features of another recipe ({unit['fingerprint']})"
    if logged.sha256 is not None:
        if not is_row_schema(metadata.schema.to_arrow_schema(), gallery.target.schema):
            yield "the columns are not the gallery's"
        elif json.loads(delta_statistics(metadata)) != json.loads(logged.statistics):
            yield "its statistics in the log are different"


def _problems_of_ids(given: int, file: RowFile, path: GalleryPlace) -> Iterator[str]:
    source = parquet(path)
    ids = pq.read_table(source, columns=["row_id"], page_checksum_verification=True)["row_id"]
    numbers = ids.to_numpy()
    if len(numbers) != file.rows:
        yield f"{len(numbers)} rows where the log says {file.rows}"
    elif numbers.min() != file.min_row_id or numbers.max() != file.max_row_id:
        yield "its row ids are not those in the log"
    if len(numbers) and numbers.max() >= given:
        yield f"row id {numbers.max()} was never assigned (the next is {given})"


def _read_features(gallery: Gallery, file: RowFile, path: GalleryPlace) -> None:
    """Raise `GalleryDamagedError` for a feature of another length than 1, or a wrong checksum."""
    rows = rows_of(path, gallery.dimension, gallery.dtype)
    block = np.empty((min(file.rows, _ROWS_AT_ONCE), gallery.dimension), np.float32)
    for start in range(0, file.rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, file.rows)
        rows.read(start, stop, block[: stop - start])


def _of_rejects(root: GalleryPlace, numbers: set[int]) -> list[Finding]:
    findings = []
    for number in sorted(numbers):
        try:
            read_rejects(root, number)
        except GalleryDamagedError as error:
            path = rejects_file(root, number)
            told = str(error).removeprefix(f"{path}: ")
            findings.append(Finding(below(path, root), told))
    return findings


def _of_keys(gallery: Gallery, files: Sequence[RowFile]) -> list[Finding]:
    """Row ids and paths that occur twice, in the files that can be read."""
    root = root_of(gallery.location)
    keys = pa.schema([("row_id", pa.int64()), ("path", pa.string())])  # other tools keep views
    tables = [
        pq.read_table(parquet(root / file.path), columns=keys.names)
        .cast(keys)
        .append_column("file", pa.array([file.path] * file.rows, pa.string()).dictionary_encode())
        for file in files
    ]
    try:
        rejected = gallery.rejects()["path"]
    except GalleryDamagedError:
        rejected = pa.chunked_array([], pa.string())
    if not tables:
        return []
    rows = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    findings = []
    for name, word in (("row_id", "row id"), ("path", "path")):
        for value in _twice(rows[name]):
            where = rows.filter(pc.equal(rows[name], value))["file"].to_pylist()
            findings.append(Finding(where[-1], f"the {word} {value} comes {len(where)} times"))
    both = rows.filter(pc.is_in(rows["path"], value_set=rejected))
    findings += [
        Finding(row["file"], f"the path {row['path']} is a reject too")
        for row in both.select(["path", "file"]).to_pylist()
    ]
    return findings


def _twice(column: pa.ChunkedArray) -> list[object]:
    """The first few values that occur more than once."""
    if pc.count_distinct(column).as_py() == len(column):
        return []
    counts = pc.value_counts(column)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    return list(twice.field("values").slice(0, _SHOWN).to_pylist())
