"""Import features that another tool made into a gallery of their own."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.blocks import blocks
from pipeline.core.vectors import faults, unit_vectors
from pipeline.errors import InputError
from pipeline.gallery.files.row_files import MAX_UNIT_ROWS
from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import UnitRecord, write_unit
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.table import Gallery
from pipeline.input_files import check_file, why
from pipeline.schemas import REJECT_SCHEMA


class RawFeatures(Protocol):
    """Features `[N, D]` of any length, as another tool wrote them, read a block at a time."""

    @property
    def dimension(self) -> int:
        """D."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`, floating-point `[stop - start, D]`."""
        ...


@dataclass(frozen=True)
class MatrixFeatures:
    """The rows of one matrix `[N, D]`, in memory or mapped; `source` names it in an error.

    Raise InputError unless it is a floating-point matrix with at least one row and one column.
    """

    matrix: NDArray[Any]
    source: str

    def __post_init__(self) -> None:
        shape = self.matrix.shape
        if self.matrix.dtype.kind != "f" or len(shape) != 2 or not self.matrix.size:
            raise InputError(
                f"{self.source} holds {self.matrix.dtype} {list(shape)}: features are floats [N, D]"
            )

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.matrix)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`, copied."""
        return np.array(self.matrix[start:stop])


def read_npy(path: Path) -> MatrixFeatures:
    """The features in one `.npy` file, mapped; raise InputError if it holds none."""
    check_file(path)
    try:
        # np.load would take anything else for a zip, or for a pickle that it advises to trust.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header raises whatever its reader stumbles over
        raise InputError(f"{path} cannot be read as an array: {why(error)}") from error
    return MatrixFeatures(array, str(path))


def import_rows(
    gallery: Gallery,
    features: RawFeatures,
    labels: pa.Table,
    lock: Lock,
    progress: Callable[[int], None] = lambda _rows: None,
    *,
    are_unit: bool = False,
) -> Gallery:
    """The next version of an empty gallery: these features at unit length, and their labels.

    `labels` has `path`, the key, and any other columns except the row id; its rows are those of the
    features. A feature without a direction (NaN, infinite, length 0) is a reject. With `are_unit`,
    features have unit length and are stored unchanged. The remains of an interrupted import are
    deleted first. Memory holds one block of rows.
    """
    gallery.clear(gallery.find_units(), lock)
    units, run = [], _RunId()
    for start, raw, part in _parts(features, labels):
        run.add(raw, part)
        units.append(_write(gallery, start, raw, part, are_unit=are_unit))
        progress(len(raw))
    return gallery.commit(units, run_id=str(run), paths=labels["path"], lock=lock)


def is_import_of(gallery: Gallery, features: RawFeatures, labels: pa.Table) -> bool:
    """Whether `import_rows` made the gallery from exactly these features and labels, and it is
    unchanged.

    Both are read completely.
    """
    run = _RunId()
    for _, raw, part in _parts(features, labels):
        run.add(raw, part)
    return gallery.history()[-1].run_id == str(run)


class _RunId:
    """The run id of an import: a hash of its features and labels."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, raw: NDArray[Any], labels: pa.Table) -> None:
        self._hash.update(f"{raw.dtype} {raw.shape} {labels.to_pydict()}".encode())
        self._hash.update(np.ascontiguousarray(raw).data)

    def __str__(self) -> str:
        return f"import-{self._hash.hexdigest()}"


def _parts(features: RawFeatures, labels: pa.Table) -> Iterator[tuple[int, NDArray[Any], pa.Table]]:
    """Yield the start of each block of rows, its features and its labels."""
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} features do not go with {len(labels)} rows of labels")
    for start, stop in blocks(len(features), MAX_UNIT_ROWS):
        part = labels.slice(start, stop - start).combine_chunks()
        yield start, features.read(start, stop), part


def _write(
    gallery: Gallery, first: int, raw: NDArray[Any], labels: pa.Table, *, are_unit: bool
) -> UnitRecord:
    target = gallery.target
    wrong = faults(raw)
    good = np.array([row for row in range(len(raw)) if row not in wrong], np.int64)
    kept = labels.take(pa.array(good))
    columns = {field.name: pa.nulls(len(kept), field.type) for field in target.schema}
    columns |= {name: kept[name] for name in kept.column_names}
    columns["row_id"] = pa.array(first + good)
    features = raw[good] if are_unit else unit_vectors(raw[good])
    columns["feature"] = encode_features(features, target.dtype)
    rows = pa.table(columns).select(target.schema.names).cast(target.schema)
    rejected = labels.take(pa.array(list(wrong), pa.int64()))
    told = {field.name: pa.nulls(len(rejected), field.type) for field in REJECT_SCHEMA}
    told |= {"path": rejected["path"], "detail": pa.array(list(wrong.values()), pa.string())}
    told["reason"] = pa.array(["bad-feature"] * len(rejected), pa.string())
    rejects = pa.table(told, schema=REJECT_SCHEMA)
    return write_unit(target, f"import{first}", range(first, first + len(raw)), rows, rejects)
