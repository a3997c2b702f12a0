"""List a source: every image with its labels, and every input that does not become a row."""

import logging
import math
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.layouts import named as layouts
from pipeline.archive.layouts.labels import LayoutError
from pipeline.archive.layouts.named import Layout
from pipeline.archive.layouts.rules import AS_THEY_ARE, LABELS, LabelSettings
from pipeline.archive.listing import findings, manifest_files, tars
from pipeline.archive.listing.allowed import allowed_places
from pipeline.archive.listing.files import Fault, File, Folder, Place
from pipeline.archive.listing.scanning import look_up, walk
from pipeline.archive.locations import bare, local_path, locate, reach_file
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError, RunError
from pipeline.large_tables import ByPath
from pipeline.schemas import REJECT_SCHEMA

# Rows of Python objects are converted to Arrow columns, which take a tenth of the memory, after
# this number of rows.
_CHUNK = 65_536
# Rows of a manifest looked up at a time: many, so that a remote folder is listed only a few times.
_LOOK_UP = 1_000_000
_HINT_EXAMPLES = 200
# Labels of a layout that are compared with a gallery, so that a gallery never mixes two layouts.
_COMPARED = ("identity", "camera", "captured_at")
# This many images of a folder are listed in this process before other processes are used. With the
# network's libraries loaded, Python's garbage collector makes every path cost three times as much.
_ALONE = 10_000
# Number of images that a process lists before it returns, and the most places that it gets.
_ANSWER, _PLACES = 50_000, 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The contents of a source: images in = rows of `images` + rows of `rejects`.

    `images` has MANIFEST_SCHEMA and `rejects` REJECT_SCHEMA, both sorted by path (by code point). A
    folder or tar that could not be listed counts as one reject; the path of a folder ends with a
    slash. Many images are mapped from a temporary file (see `large_tables`). `skipped` counts the
    files that are not images, by suffix; hidden files and folders are counted together. Paths are
    relative to `root`: an absolute local path or the given URL. `label_names` are the labels that a
    manifest or the layout may have, and `found` describes them for people (None if there are none).
    """

    root: str
    images: pa.Table
    rejects: pa.Table
    skipped: dict[str, int]
    label_names: tuple[str, ...] = ()
    found: findings.FoundLabels | None = None


def check_source(source: str, layout: str = "none", settings: LabelSettings = AS_THEY_ARE) -> None:
    """Raise InputError if the source or the layout does not exist; images are not read."""
    filesystem, path = locate(source)
    if not filesystem.exists(path):
        raise InputError(f"there is no folder or manifest {source}")
    local = local_path(source)
    layouts.layout(layout, source.rstrip("/") if local is None else str(local), settings)


def list_source(
    source: str, layout: str = "none", settings: LabelSettings = AS_THEY_ARE
) -> Listing:
    """List the images of a folder, a tar, or a manifest (.csv, .parquet), on any fsspec system.

    A folder is read with all its subfolders and tars, in parallel. The labels come from the paths
    below it, as the layout says (`layouts.layout`); a tar counts as a folder of its name. A
    manifest has a column `path`, relative to the manifest's folder, absolute or a URL, and any of
    identity, camera, captured_at, frame and tracklet. The layout fills the missing columns; size
    and time are looked up. Paths of a tar and of a manifest are relative to its folder. The
    `settings` say how labels are read. The log warns of odd labels.

    A large local folder is listed on several processes; a script that calls this therefore needs
    the usual `if __name__ == "__main__"`.

    Raise InputError if the source does not exist or holds no image, if a manifest is wrong, or if
    no name matches the layout.
    """
    filesystem, path = locate(source)
    local = local_path(source)
    root = bare(source) if local is None else str(local)
    try:
        if filesystem.isdir(path):
            filesystem.invalidate_cache()
            return _list_folder(root, layout, settings, in_processes=local is not None)
        if filesystem.isfile(path):
            folder, _, name = root.rpartition("/")
            if name.lower().endswith(tars.SUFFIX):
                return _list_tar(folder, name, layout, settings)
            return _list_manifest(folder, name, layout, settings)
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    raise InputError(f"there is no folder or manifest {source}")


def _list_folder(root: str, layout: str, settings: LabelSettings, *, in_processes: bool) -> Listing:
    """List a folder: a small one in this process, the rest of a large one in one process per
    CPU.
    """
    _refuse_manifest_settings(root, settings)
    chosen = layouts.layout(layout, root, settings)
    waiting = [Place("")]
    first = _list_places(root, chosen, waiting, _ALONE if in_processes else math.inf)
    others: Iterable[SourcePart] = ()
    if first.waiting:
        others = _list_on_processes(root, layout, settings, first.waiting)
    return listing_of(root, chosen, chain([first], others), settings)


def _list_tar(root: str, name: str, layout: str, settings: LabelSettings) -> Listing:
    _refuse_manifest_settings(f"{root}/{name}", settings)
    chosen = layouts.layout(layout, root, settings)
    inside = name[: -len(tars.SUFFIX)] + "/"
    rows = _Rows(chosen, inside)
    rows.add(tars.scan(*reach_file(root, name), name))
    return listing_of(root, chosen, [rows.part()], settings, inside=inside)


def _refuse_manifest_settings(source: str, settings: LabelSettings) -> None:
    for name in ("columns", "only", "allow_root"):
        if getattr(settings, name):
            raise InputError(f"`{name}` is for manifests, and {source} is none")


def _list_manifest(root: str, name: str, layout: str, settings: LabelSettings) -> Listing:
    location = f"{root}/{name}"
    if name.lower().endswith(tars.COMPRESSED_SUFFIXES):
        raise InputError(f"{location}: {tars.WHY_NOT_COMPRESSED}, or unpack it")
    if not name.endswith(manifest_files.MANIFEST_SUFFIXES):
        raise InputError(
            f"{location} is a file; a source is a folder of images, a tar, or a manifest "
            "(.csv, .parquet)"
        )
    allowed = allowed_places(location, root, settings.allow_root)
    table = manifest_files.read_manifest(*locate(location), settings)
    chosen = layouts.layout(layout, root, settings)
    rows = _Rows(chosen)
    for start in range(0, len(table), _LOOK_UP):
        labels = {row.pop("path"): row for row in table.slice(start, _LOOK_UP).to_pylist()}
        for found in look_up(root, labels, allowed):
            if isinstance(found, Fault):
                rows.reject(found)
            else:
                rows.sort_in(found, labels[found.path])
    label_names = tuple(table.drop_columns(["path"]).column_names)
    return listing_of(root, chosen, [rows.part()], settings, label_names)


class SourcePart(NamedTuple):
    """A part of a listing, unordered; `waiting` are the places that were found but not listed."""

    images: pa.Table
    rejects: pa.Table
    skipped: Counter[str]
    waiting: list[Place]


def _list_places(root: str, layout: Layout, waiting: list[Place], most: float) -> SourcePart:
    rows = _Rows(layout)
    for folder in walk(root, waiting, most):
        rows.add(folder)
    return rows.part(waiting)


def _list_on_processes(
    root: str, layout: str, settings: LabelSettings, waiting: list[Place]
) -> Iterator[SourcePart]:
    """List places of a local source, several at a time on each CPU; yield parts as they end."""
    # Do not fork this process, which may have threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    most = 2 * (os.cpu_count() or 1)
    running: set[Future[SourcePart]] = set()
    with ProcessPoolExecutor(mp_context=context, initializer=_ignore_interrupts) as pool:
        while waiting or running:
            while waiting and len(running) < most:
                some = max(1, min(_PLACES, len(waiting) // most))
                places = [waiting.pop() for _ in range(some)]
                running.add(pool.submit(_list_elsewhere, root, layout, settings, places, _ANSWER))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                try:
                    part = each.result()
                except BrokenProcessPool as error:
                    raise RunError(
                        f"{root}: a process that lists it was killed, for want of memory perhaps;"
                        " nothing was written, run the command again"
                    ) from error
                waiting += part.waiting
                yield part


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal; the first of them ends the
    others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _list_elsewhere(
    root: str, layout: str, settings: LabelSettings, places: list[Place], most: float
) -> SourcePart:
    return _list_places(root, _kept_layout(layout, root, settings), places, most)


@lru_cache(maxsize=1)
def _kept_layout(layout: str, root: str, settings: LabelSettings) -> Layout:
    """The layout, made once in a process of `_list_on_processes`, which serves one listing."""
    return layouts.layout(layout, root, settings)


class _Rows:
    """The rows and rejects collected so far; `inside` is the common beginning of all paths."""

    def __init__(self, layout: Layout, inside: str = "") -> None:
        self._layout = layout
        self._inside = inside
        self._images: list[tuple[Any, ...]] = []
        self._rejects: list[tuple[Any, ...]] = []
        self._skipped = Counter[str]()
        self._chunks: list[pa.RecordBatch] = []

    def add(self, folder: Folder) -> None:
        """Add the contents of a folder or tar."""
        self._skipped.update(folder.skipped)
        for fault in folder.faults:
            self.reject(fault)
        for file in folder.files:
            self.sort_in(file)

    def sort_in(self, file: File, given: dict[str, Any] | None = None) -> None:
        """Make a file a row or a reject; labels of a manifest override those of its name."""
        if file.size == 0:
            self.reject(Fault(file, "empty", "the file has no bytes"))
            return
        try:
            labels = self._layout.parse(seen_path(file.path).removeprefix(self._inside))
        except LayoutError as error:
            self.reject(Fault(file, "no-layout", str(error)))
            return
        self._images.append((*file, *(labels._replace(**given) if given else labels)))
        if len(self._images) == _CHUNK:
            self._chunks.append(_batch(self._images, MANIFEST_SCHEMA))
            self._images = []

    def reject(self, fault: Fault) -> None:
        """Add a fault as a reject."""
        path, size, mtime, _ = fault.file
        self._rejects.append((path, size, mtime, fault.reason, fault.detail))

    def part(self, waiting: Sequence[Place] = ()) -> SourcePart:
        """Everything collected so far."""
        images = [*self._chunks, _batch(self._images, MANIFEST_SCHEMA)]
        return SourcePart(
            pa.Table.from_batches(images, MANIFEST_SCHEMA),
            pa.Table.from_batches([_batch(self._rejects, REJECT_SCHEMA)], REJECT_SCHEMA),
            self._skipped,
            list(waiting),
        )


def seen_path(path: str) -> str:
    """The path that a layout reads: a tar counts as a folder."""
    return tars.as_folder(path) if "#" in path else path


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def listing_of(
    root: str,
    chosen: Layout,
    parts: Iterable[SourcePart],
    settings: LabelSettings,
    label_names: tuple[str, ...] = (),
    inside: str = "",
) -> Listing:
    """Combine the parts to one listing; raise InputError for no image, or for mixed kinds of
    identities.
    """
    found_images, refused = ByPath(MANIFEST_SCHEMA), [REJECT_SCHEMA.empty_table()]
    skipped = Counter[str]()
    for part in parts:
        found_images.add(part.images)
        refused.append(part.rejects)
        skipped += part.skipped
    images, rejects = found_images.table(), pa.concat_tables(refused).sort_by("path")
    if not len(images) and not len(rejects):
        counts = ", ".join(f"{count} {what}" for what, count in skipped.most_common(5))
        raise InputError(f"no image in {root}" + (f"; skipped there: {counts}" if counts else ""))
    if not len(images):
        _refuse_missing(root, rejects)
        _refuse_layout(root, chosen, rejects)
    chosen.check_apart(seen_path(path.as_py()) for path in images["path"])
    _log.info("%s: images %d, rejects %d", root, len(images), len(rejects))
    found = findings.found_labels(images)
    if found is not None:
        of_manifest = "identity" in label_names
        findings.warn(root, images, found, chosen, settings, of_manifest=of_manifest, inside=inside)
    if chosen.name != "none":
        compared = (*_COMPARED, "tracklet") if chosen.tracklets else _COMPARED
        label_names = tuple(name for name in LABELS if name in {*label_names, *compared})
    return Listing(root, images, rejects, dict(sorted(skipped.items())), label_names, found)


def _refuse_missing(root: str, rejects: pa.Table) -> None:
    if pc.all(pc.equal(rejects["reason"], "missing")).as_py():
        raise InputError(
            f"not one of {len(rejects)} files exists below {root}, to which the paths of a "
            f"manifest are relative; the first is {rejects['path'][0]}"
        )


def _refuse_layout(root: str, chosen: Layout, rejects: pa.Table) -> None:
    unfit = rejects.filter(pc.equal(rejects["reason"], "no-layout"))
    if not len(unfit):
        return
    every = -(-len(unfit) // _HINT_EXAMPLES)
    names = layouts.fitting(seen_path(each.as_py()) for each in unfit["path"][::every])
    hint = "no named layout fits them: write a template such as {camera}/{identity}_{frame}.jpg"
    if names:
        hint = f"`layout` {' or '.join(names)} would fit"
    raise InputError(
        f"not one of {len(unfit)} images in {root} fits layout {chosen.name}, which expects "
        f"{chosen.expects}; the first is {unfit['path'][0]}; {hint}"
    )
