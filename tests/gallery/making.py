"""Small galleries and units for the tests of galleries."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.gallery.files.row_files import write_row_file
from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget, write_unit
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.log.transactions import RowFile
from pipeline.gallery.table import Gallery
from pipeline.schemas import REJECT_SCHEMA

FINGERPRINT = "f" * 64
DIMENSION = 8


def new_gallery(
    location: Path | str,
    dimension: int = DIMENSION,
    dtype: str = "float32",
    lock: Lock | None = None,
) -> Gallery:
    return Gallery.create(
        str(location),
        recipe_json='{"height": 256}',
        fingerprint=FINGERPRINT,
        dimension=dimension,
        dtype=dtype,
        source="/archive",
        layout="market1501",
        lock=lock,
    )


def unit_vectors(row_ids: Iterable[int], dimension: int = DIMENSION) -> np.ndarray:
    """The feature float32 `[n, D]` that stands for each row id: unit length, and its alone."""
    raw = [np.random.default_rng(row_id).standard_normal(dimension) for row_id in row_ids]
    block = np.asarray(raw, dtype=np.float64).reshape(-1, dimension)
    return (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float32)


def unit_rows(target: UnitTarget, row_ids: Sequence[int], paths: Sequence[str]) -> pa.Table:
    """Rows whose camera and identity follow from the row id; all else is unknown."""
    columns = {field.name: pa.nulls(len(row_ids), field.type) for field in target.schema}
    columns["row_id"] = pa.array(row_ids, pa.int64())
    columns["path"] = pa.array(paths, pa.string())
    columns["camera"] = pa.array([f"c{row_id % 3}" for row_id in row_ids], pa.string())
    columns["identity"] = pa.array([row_id % 5 - 1 for row_id in row_ids], pa.int64())
    features = unit_vectors(row_ids, target.dimension)
    columns["feature"] = encode_features(features, target.dtype)
    return pa.table(columns, schema=target.schema)


def rejects_table(paths: Sequence[str], reason: str = "truncated") -> pa.Table:
    count = len(paths)
    return pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "size": pa.array(range(count), pa.int64()),
            "mtime": pa.nulls(count, pa.timestamp("us", "UTC")),
            "reason": pa.array([reason] * count, pa.string()),
            "detail": pa.array(["the end is missing"] * count, pa.string()),
        },
        schema=REJECT_SCHEMA,
    )


def path_of(member: int) -> str:
    return f"c{member % 3}/{member:06d}.jpg"


def unit(
    target: UnitTarget,
    row_ids: range,
    rejected: Iterable[int] = (),
    *,
    unit_id: str | None = None,
    paths: Sequence[str] | None = None,
) -> UnitRecord:
    """Writes the unit of these row ids; those in `rejected` are rejects, and paths follow the
    ids.
    """
    paths = [path_of(row_id) for row_id in row_ids] if paths is None else paths
    rejected = set(rejected)
    good = [row_id for row_id in row_ids if row_id not in rejected]
    by_id = dict(zip(row_ids, paths, strict=True))
    rows = unit_rows(target, good, [by_id[row_id] for row_id in good])
    bad = rejects_table([by_id[row_id] for row_id in row_ids if row_id in rejected])
    return write_unit(target, unit_id or f"u{row_ids.start}x{row_ids.stop}", row_ids, rows, bad)


def reject_paths(gallery: Gallery) -> list[str]:
    return gallery.rejects()["path"].to_pylist()


def make_files(target: UnitTarget, folder: Path, groups: Iterable[Sequence[int]]) -> list[RowFile]:
    """Files of the given row ids, by the smallest, as the log lists them."""
    files = []
    for number, ids in enumerate(groups):
        path = folder / f"{min(ids):012d}-{number}.parquet"
        write_row_file(path, unit_rows(target, sorted(ids), [path_of(i) for i in sorted(ids)]))
        files.append(RowFile(path.name, path.stat().st_size, len(ids), min(ids), max(ids)))
    return sorted(files, key=lambda file: file.min_row_id)


def contents(gallery: Gallery) -> dict[str, tuple[int, bytes]]:
    """Row id and feature bytes by path: what a version holds, all told."""
    rows = gallery.rows(["row_id", "path"]).to_pydict()
    features = gallery.features().read(0, gallery.count)
    return {
        path: (row_id, feature.tobytes())
        for path, row_id, feature in zip(rows["path"], rows["row_id"], features, strict=True)
    }


def expected(members: Iterable[int], dimension: int = DIMENSION) -> dict[str, tuple[int, bytes]]:
    """What `contents` says of float32 rows that `unit` wrote for these row ids."""
    members = list(members)
    features = unit_vectors(members, dimension)
    return {
        path_of(member): (member, feature.tobytes())
        for member, feature in zip(members, features, strict=True)
    }
