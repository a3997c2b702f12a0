"""List a source: every image with its labels, and every input that gives no row."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive import layouts, manifest_files
from pipeline.archive.labels import Labels, LayoutError
from pipeline.archive.layouts import Layout
from pipeline.archive.manifest import MANIFEST_SCHEMA, REJECT_SCHEMA
from pipeline.archive.reading import bare, local_path, locate
from pipeline.archive.scanning import Fault, File, look_up, walk
from pipeline.errors import InputError

# Rows of Python objects are turned into Arrow columns (a tenth of the memory) this often.
_CHUNK = 65_536
# Rows of a manifest looked up at a time: many, so that one remote folder is listed few times.
_LOOK_UP = 1_000_000
_HINT_EXAMPLES = 200

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What stands in a source: images in = rows of `images` + rows of `rejects`.

    `images` has MANIFEST_SCHEMA and `rejects` REJECT_SCHEMA, both sorted by path (by code point);
    a folder that could not be listed counts as one reject, its path ending with a slash. `skipped`
    counts the files that are no images by suffix, hidden files and folders together. `root` is what
    the paths are relative to: an absolute local path or the URL that was given.
    """

    root: str
    images: pa.Table
    rejects: pa.Table
    skipped: dict[str, int]


def check_source(source: str, layout: str = "none") -> None:
    """Raise InputError where there is no such source or layout; looks at no image."""
    filesystem, path = locate(source)
    if not filesystem.exists(path):
        raise InputError(f"there is no folder or manifest {source}")
    local = local_path(source)
    layouts.layout(layout, source.rstrip("/") if local is None else str(local))


def list_source(source: str, layout: str = "none") -> Listing:
    """List the images of a folder, or of a manifest (.csv, .parquet), on any fsspec file system.

    A folder is read with all its subfolders, in parallel. The labels come from the paths below it,
    as the layout says (`layouts.layout`). A manifest has a column `path`, relative to the
    manifest's folder, absolute or a URL, and any of identity, camera, captured_at and frame; the
    layout fills the columns that it does not have; size and time are looked up.

    Raises InputError where there is no such source, no image at all, a wrong manifest, or not one
    name that fits the layout.
    """
    filesystem, path = locate(source)
    local = local_path(source)
    root = bare(source) if local is None else str(local)
    try:
        if filesystem.isdir(path):
            return _list_folder(root, layout)
        if filesystem.isfile(path):
            return _list_manifest(root, layout)
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    raise InputError(f"there is no folder or manifest {source}")


def _list_folder(root: str, layout: str) -> Listing:
    chosen = layouts.layout(layout, root)
    rows, skipped = _Rows(), Counter[str]()
    for folder in walk(root):
        skipped.update(folder.skipped)
        for fault in folder.faults:
            rows.reject(fault)
        for file in folder.files:
            _sort_in(rows, file, chosen)
    if not rows.count:
        told = ", ".join(f"{count} {what}" for what, count in skipped.most_common(5))
        raise InputError(f"no image in {root}" + (f"; skipped there: {told}" if told else ""))
    return _finish(root, chosen, rows, skipped)


def _list_manifest(location: str, layout: str) -> Listing:
    root, _, name = location.rpartition("/")
    if not name.endswith(manifest_files.SUFFIXES):
        kind = "a tar: unpack it" if name.endswith(".tar") else "a file"
        raise InputError(
            f"{location} is {kind}; a source is a folder of images or a manifest (.csv, .parquet)"
        )
    table = manifest_files.read(*locate(location))
    chosen = layouts.layout(layout, root)
    rows = _Rows()
    for start in range(0, len(table), _LOOK_UP):
        told = {row.pop("path"): row for row in table.slice(start, _LOOK_UP).to_pylist()}
        for found in look_up(root, told):
            if isinstance(found, Fault):
                rows.reject(found)
            else:
                _sort_in(rows, found, chosen, told[found.path])
    return _finish(root, chosen, rows, Counter())


class _Rows:
    """The rows and rejects gathered so far."""

    def __init__(self) -> None:
        self.count = 0
        self._images: list[tuple[Any, ...]] = []
        self._rejects: list[tuple[Any, ...]] = []
        self._chunks: list[pa.RecordBatch] = []

    def add(self, file: File, labels: Labels) -> None:
        self.count += 1
        self._images.append((*file, *labels))
        if len(self._images) == _CHUNK:
            self._chunks.append(_batch(self._images, MANIFEST_SCHEMA))
            self._images = []

    def reject(self, fault: Fault) -> None:
        self.count += 1
        self._rejects.append((*fault.file, fault.reason, fault.detail))

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Both tables, sorted by path."""
        images = [*self._chunks, _batch(self._images, MANIFEST_SCHEMA)]
        rejects = [_batch(self._rejects, REJECT_SCHEMA)]
        return (
            pa.Table.from_batches(images, MANIFEST_SCHEMA).sort_by("path"),
            pa.Table.from_batches(rejects, REJECT_SCHEMA).sort_by("path"),
        )


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sort_in(rows: _Rows, file: File, chosen: Layout, told: dict[str, Any] | None = None) -> None:
    """Make a row or a reject of a file; what a manifest told of it stands before its name."""
    if file.size == 0:
        rows.reject(Fault(file, "empty", "the file has no bytes"))
        return
    try:
        labels = chosen.parse(file.path)
    except LayoutError as error:
        rows.reject(Fault(file, "no-layout", str(error)))
        return
    rows.add(file, labels._replace(**told) if told else labels)


def _finish(root: str, chosen: Layout, rows: _Rows, skipped: Counter[str]) -> Listing:
    images, rejects = rows.tables()
    if not len(images):
        _refuse_missing(root, rejects)
        _refuse_layout(root, chosen, rejects)
    chosen.check_apart(images["path"].to_pylist())
    _logger.info("%s: %d images, %d rejects", root, len(images), len(rejects))
    return Listing(root, images, rejects, dict(sorted(skipped.items())))


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
    names = layouts.fitting(unfit["path"][:_HINT_EXAMPLES].to_pylist())
    hint = "no named layout fits them: write a template such as {camera}/{identity}_{frame}.jpg"
    if names:
        hint = f"--layout {' or '.join(names)} would fit"
    raise InputError(
        f"not one of {len(unfit)} images in {root} fits layout {chosen.name}, which expects "
        f"{chosen.expects}; the first is {unfit['path'][0]}; {hint}"
    )
