"""Compaction: replace many small files by a few of one size, each for one camera or a run of
cameras.

A query for a camera then skips the other files by their statistics. Inside a file, rows stay in
row-id order, so that a version can be read in row-id order by reading all files in parallel
(`stored_rows`). A file that has one camera and about the right size is not rewritten, so that a
camera's older files are written once. Files of another tool are always rewritten, with checksums.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.gallery.features import GalleryFeatures
from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.schema import SCALAR_COLUMNS, feature_bytes
from pipeline.gallery.log.entries import LoggedFile, logged_files
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.log.rewrite import keep_rows
from pipeline.gallery.log.transactions import Change
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery

TARGET_BYTES = 192 << 20
LEAST_BYTES = 1 << 20
# A file with one camera is left alone if its size is between these shares of the wanted size.
_SMALLEST, _LARGEST = 0.5, 1.5


def compact(
    gallery: Gallery, target_bytes: int = TARGET_BYTES, lock: Lock | None = None
) -> Gallery:
    """The next version: the same rows in files of about `target_bytes` of features, by camera.

    The same version if nothing would change. Memory holds all columns except the features, and two
    files. Raise what `Gallery.commit` raises.
    """
    if target_bytes < LEAST_BYTES:
        raise InputError(f"files of {target_bytes} bytes are too small: {LEAST_BYTES} at least")
    if lock is None:
        with lock_gallery(gallery.location, "compact") as lock:
            return compact(gallery, target_bytes, lock)
    target_rows = max(1, target_bytes // feature_bytes(gallery.dimension, gallery.dtype))
    rows, features = gallery.rows(SCALAR_COLUMNS), gallery.features()
    files = features.runs.locate(np.arange(gallery.count))[0]
    logged = logged_files(root_of(gallery.location))
    others = [logged[file.path].sha256 is None for file in gallery.snapshot.files]
    groups = plan_files(_codes(rows["camera"]), files, target_rows, np.flatnonzero(others).tolist())
    if not groups:
        return gallery
    moved = np.unique(np.concatenate([files[group] for group in groups]))
    added = [_write(gallery, rows, features, group) for group in groups]
    change = Change(
        run_id=f"compact-{gallery.version}-{target_bytes}",
        added=added,
        removed=[gallery.snapshot.files[number] for number in moved],
        next_row_id=gallery.next_row_id,
        rejects=gallery.snapshot.rejects,
        summary={
            "files_added": len(added),
            "files_removed": len(moved),
            "rejects": gallery.rejects().num_rows,
        },
    )
    return gallery.apply(change, lock)


def plan_files(
    cameras: np.ndarray, files: np.ndarray, target_rows: int, others: Sequence[int] = ()
) -> list[np.ndarray]:
    """The files to write: for each the positions int64 `[n]`, ascending, of its rows.

    `cameras` and `files` int64 `[N]` are the number of each row's camera, in the order of the
    cameras' names, and of the file that holds it. A file that would not change is left out, unless
    it is one of the `others`: files of another tool, which have no checksum.

    >>> plan_files(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2)
    [array([0, 2]), array([1, 3])]
    >>> plan_files(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2)
    []
    """
    if not len(files):
        return []
    stays = _stays(cameras, files, target_rows)
    stays[np.asarray(others, dtype=np.int64)] = False
    pool = np.flatnonzero(~stays[files])
    sizes = np.bincount(files)
    groups = []
    for group in _cuts(pool[np.argsort(cameras[pool], kind="stable")], cameras, target_rows):
        sources = np.unique(files[group])
        is_changed = len(sources) > 1 or sizes[sources[0]] != len(group)
        if is_changed or sources[0] in others:
            groups.append(np.sort(group))
    return groups


def _stays(cameras: np.ndarray, files: np.ndarray, target_rows: int) -> np.ndarray:
    """Which files bool `[F]` hold one camera and are of about the wanted size."""
    count = int(files.max()) + 1
    rows = np.bincount(files, minlength=count)
    low, high = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(low, files, cameras)
    np.maximum.at(high, files, cameras)
    return (low == high) & (rows >= _SMALLEST * target_rows) & (rows <= _LARGEST * target_rows)


def _cuts(order: np.ndarray, cameras: np.ndarray, target_rows: int) -> Iterator[np.ndarray]:
    """The rows `order`, which are in camera order, in parts: of one camera if it has enough rows,
    else of as many whole cameras as fit.
    """
    bounds = np.flatnonzero(np.diff(cameras[order], prepend=-1, append=-1))
    small: list[np.ndarray] = []
    for low, high in pairwise(bounds):
        rows = order[low:high]
        if len(rows) >= _SMALLEST * target_rows:
            yield from np.array_split(rows, max(1, round(len(rows) / target_rows)))
            continue
        if small and sum(map(len, small)) + len(rows) > target_rows:
            yield np.concatenate(small)
            small = []
        small.append(rows)
    if small:
        yield np.concatenate(small)


def _codes(cameras: pa.ChunkedArray) -> np.ndarray:
    """The number of each row's camera, in the order of names; rows without a camera come last."""
    names = pc.unique(cameras.drop_null()).sort()
    codes = pc.index_in(cameras, value_set=names).fill_null(len(names))
    return codes.to_numpy().astype(np.int64)


def _write(
    gallery: Gallery, rows: pa.Table, features: GalleryFeatures, group: np.ndarray
) -> LoggedFile:
    """Write one file; its name depends on the rows and the version, which decide its content."""
    schema = gallery.target.schema
    buffers = [None, pa.py_buffer(features.stored(group))]
    kind = schema.field("feature").type
    column = pa.FixedSizeBinaryArray.from_buffers(kind, len(group), buffers)
    table = rows.take(pa.array(group)).append_column("feature", column).cast(schema)
    ids = table["row_id"].to_numpy()
    digest = hashlib.sha256(f"compact {gallery.version} ".encode() + ids.tobytes()).hexdigest()[:32]
    name = f"{ids[0]:012d}-{digest}.parquet"
    root = root_of(gallery.location)
    return keep_rows(root, name, table.replace_schema_metadata(None))
