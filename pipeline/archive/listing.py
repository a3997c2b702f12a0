"""List a source: every image with its labels, and every input that gives no row."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive import layouts, manifest_files, tars
from pipeline.archive.files import Fault, File, Folder
from pipeline.archive.labels import LayoutError
from pipeline.archive.layouts import Layout
from pipeline.archive.locations import bare, local_path, locate
from pipeline.archive.manifest import MANIFEST_SCHEMA, REJECT_SCHEMA
from pipeline.archive.scanning import look_up, walk
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
    a folder or tar that could not be listed counts as one reject, a folder's path ending with a
    slash. `skipped` counts the files that are no images by suffix, hidden files and folders
    together. `root` is what the paths are relative to: an absolute local path or the URL that was
    given. `told` names the labels that a manifest told.
    """

    root: str
    images: pa.Table
    rejects: pa.Table
    skipped: dict[str, int]
    told: tuple[str, ...] = ()


def check_source(source: str, layout: str = "none") -> None:
    """Raise InputError where there is no such source or layout; looks at no image."""
    filesystem, path = locate(source)
    if not filesystem.exists(path):
        raise InputError(f"there is no folder or manifest {source}")
    local = local_path(source)
    layouts.layout(layout, source.rstrip("/") if local is None else str(local))


def list_source(source: str, layout: str = "none") -> Listing:
    """List the images of a folder, a tar, or a manifest (.csv, .parquet), on any fsspec system.

    A folder is read with all its subfolders and tars, in parallel. The labels come from the paths
    below it, as the layout says (`layouts.layout`), a tar being taken for a folder of its name. A
    manifest has a column `path`, relative to the manifest's folder, absolute or a URL, and any of
    identity, camera, captured_at and frame; the layout fills the columns that it does not have;
    size and time are looked up. Paths of a tar and of a manifest are relative to its folder.

    Raises InputError where there is no such source, no image at all, a wrong manifest, or not one
    name that fits the layout.
    """
    filesystem, path = locate(source)
    local = local_path(source)
    root = bare(source) if local is None else str(local)
    try:
        if filesystem.isdir(path):
            return _list_folders(root, layout, walk(root))
        if filesystem.isfile(path):
            folder, _, name = root.rpartition("/")
            if name.lower().endswith(tars.SUFFIX):
                inside = name[: -len(tars.SUFFIX)] + "/"
                return _list_folders(folder, layout, [tars.scan(filesystem, path, name)], inside)
            return _list_manifest(folder, name, layout)
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    raise InputError(f"there is no folder or manifest {source}")


def _list_folders(root: str, layout: str, folders: Iterable[Folder], inside: str = "") -> Listing:
    """List folders and tars; layouts see the paths below `inside`, which all of them begin with."""
    chosen = layouts.layout(layout, root)
    rows, skipped = _Rows(chosen, inside), Counter[str]()
    for folder in folders:
        skipped.update(folder.skipped)
        for fault in folder.faults:
            rows.reject(fault)
        for file in folder.files:
            rows.sort_in(file)
    if not rows.count:
        told = ", ".join(f"{count} {what}" for what, count in skipped.most_common(5))
        raise InputError(f"no image in {root}" + (f"; skipped there: {told}" if told else ""))
    return rows.listing(root, skipped)


def _list_manifest(root: str, name: str, layout: str) -> Listing:
    location = f"{root}/{name}"
    if name.lower().endswith(tars.COMPRESSED_SUFFIXES):
        raise InputError(f"{location}: {tars.WHY_NOT_COMPRESSED}, or unpack it")
    if not name.endswith(manifest_files.SUFFIXES):
        raise InputError(
            f"{location} is a file; a source is a folder of images, a tar, or a manifest "
            "(.csv, .parquet)"
        )
    table = manifest_files.read(*locate(location))
    rows = _Rows(layouts.layout(layout, root))
    for start in range(0, len(table), _LOOK_UP):
        told = {row.pop("path"): row for row in table.slice(start, _LOOK_UP).to_pylist()}
        for found in look_up(root, told):
            if isinstance(found, Fault):
                rows.reject(found)
            else:
                rows.sort_in(found, told[found.path])
    return rows.listing(root, Counter(), tuple(table.drop_columns(["path"]).column_names))


class _Rows:
    """The rows and rejects gathered so far."""

    def __init__(self, layout: Layout, inside: str = "") -> None:
        self.count = 0
        self._layout = layout
        self._inside = inside
        self._images: list[tuple[Any, ...]] = []
        self._rejects: list[tuple[Any, ...]] = []
        self._chunks: list[pa.RecordBatch] = []

    def sort_in(self, file: File, told: dict[str, Any] | None = None) -> None:
        """Make a row or a reject of a file; what a manifest told of it stands before its name."""
        if file.size == 0:
            self.reject(Fault(file, "empty", "the file has no bytes"))
            return
        try:
            labels = self._layout.parse(self._seen(file.path))
        except LayoutError as error:
            self.reject(Fault(file, "no-layout", str(error)))
            return
        self.count += 1
        self._images.append((*file, *(labels._replace(**told) if told else labels)))
        if len(self._images) == _CHUNK:
            self._chunks.append(_batch(self._images, MANIFEST_SCHEMA))
            self._images = []

    def reject(self, fault: Fault) -> None:
        self.count += 1
        path, size, mtime, _ = fault.file
        self._rejects.append((path, size, mtime, fault.reason, fault.detail))

    def listing(self, root: str, skipped: Counter[str], told: tuple[str, ...] = ()) -> Listing:
        """All of it, sorted by path; InputError where there are no images, or two kinds of them."""
        images = pa.Table.from_batches(
            [*self._chunks, _batch(self._images, MANIFEST_SCHEMA)], MANIFEST_SCHEMA
        ).sort_by("path")
        rejects = pa.Table.from_batches(
            [_batch(self._rejects, REJECT_SCHEMA)], REJECT_SCHEMA
        ).sort_by("path")
        if not len(images):
            _refuse_missing(root, rejects)
            _refuse_layout(root, self._layout, rejects)
        self._layout.check_apart(self._seen(path.as_py()) for path in images["path"])
        _logger.info("%s: %d images, %d rejects", root, len(images), len(rejects))
        return Listing(root, images, rejects, dict(sorted(skipped.items())), told)

    def _seen(self, path: str) -> str:
        """The path that the layout reads."""
        if "#" in path:
            path = tars.as_folder(path)
        return path.removeprefix(self._inside)


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
