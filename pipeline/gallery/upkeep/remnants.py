"""The proof that rows are gone: a search of every file in a gallery's folder for their contents.

Every file is searched at every offset for the bytes of features and paths. Every decoded column of
every Parquet file is searched for paths and row ids. The log's statistics are compared with those
of the present rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, below, local_copy, parquet
from pipeline.gallery.files.row_files import delta_statistics
from pipeline.gallery.log.entries import logged_files
from pipeline.gallery.upkeep.byte_search import Needles, needles, occurrences
from pipeline.input_files import parse_json

_VERDICT_IDS = ("a", "b")
_PATHS = ("path", "path_a", "path_b")
"""Columns of paths: of rows, and of verdicts."""


@dataclass(frozen=True)
class Gone:
    """The things to search for: the row ids int64 `[n]`, their paths, and their stored features."""

    row_ids: np.ndarray
    paths: tuple[str, ...]
    features: tuple[bytes, ...]


@dataclass(frozen=True)
class Trace:
    """A file of the folder that still holds a part of a removed row."""

    file: str
    what: str


def find_remnants(
    root: GalleryPlace, files: Sequence[GalleryPlace], live: Sequence[str], gone: Gone
) -> list[Trace]:
    """Find the parts of removed rows that `files` still have.

    `live` are the row files of the version that is kept. If one of their rows has the same feature
    to the byte (the same image under two paths), or a path that contains the path, that is not a
    trace. A file that cannot be read counts as a trace.
    """
    rows = {root / name for name in live}
    paths = needles([path.encode() for path in gone.paths])
    features = needles(gone.features)
    traces = []
    for path in files:
        try:
            with local_copy(path) as copy:
                found = [
                    *_in_columns(path, copy, gone),
                    *_path_bytes(path, copy, paths, gone),
                    *_feature_bytes(copy, features, gone, path in rows),
                ]
        except (OSError, ValueError) as error:  # those of Arrow and of JSON are values
            found = [f"what cannot be searched ({error})"]
        traces += [Trace(below(path, root), what) for what in found]
    return traces


def search_statistics(root: GalleryPlace, live: Sequence[str]) -> list[Trace]:
    """Files whose statistics in the log differ from their rows, or that do not exist."""
    logged = logged_files(root)
    traces = [
        Trace(storage.LOG_FOLDER, f"the statistics of {path}, which is gone")
        for path in sorted(logged.keys() - set(live))
    ]
    for path in live:
        if logged[path].sha256 is None:  # another tool writes statistics in its own form
            continue
        found = delta_statistics(pq.read_metadata(parquet(root / path)))
        if parse_json(found) != parse_json(logged[path].statistics):
            what = f"statistics of {path} that are not those of its rows"
            traces.append(Trace(storage.LOG_FOLDER, what))
    return traces


def stored_features(table: pa.Table) -> Iterator[bytes]:
    """The stored bytes of each feature of a table."""
    for chunk in table["feature"].chunks:
        yield from chunk.to_pylist()


def as_plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts or bytes in the type that Arrow computes with, whatever type another tool
    has stored; other columns unchanged.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    return column.cast(kind)


def _in_columns(path: GalleryPlace, copy: Path, gone: Gone) -> list[str]:
    """Traces in the decoded columns of a Parquet file, or in the texts of the log.

    `copy` holds the bytes of the file on this machine.
    """
    if path.parent.name == storage.LOG_FOLDER:
        texts = set(_texts(_log_content(copy, is_parquet=path.suffix == ".parquet")))
        return ["a path"] if texts.intersection(gone.paths) else []
    if path.suffix != ".parquet":
        return []
    found = []
    names = [name for name in pq.read_schema(copy).names if name != "feature"]
    row_ids = _VERDICT_IDS if path.parent.name == storage.VERDICTS_FOLDER else ("row_id",)
    table = pq.read_table(copy, columns=names)
    paths = pa.array(gone.paths, pa.string())
    for name in names:
        column = as_plain(table[name])
        if name in row_ids and np.isin(column.to_numpy(), gone.row_ids).any():
            found.append("a row id")
        if pa.types.is_string(column.type) and pc.any(pc.is_in(column, paths)).as_py():
            found.append(f"a path, in the column {name}")
    return found


def _log_content(path: Path, *, is_parquet: bool) -> Any:
    if is_parquet:
        return pq.read_table(path).to_pylist()
    return [parse_json(line) for line in path.read_bytes().splitlines()]


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in an action of the log, including those in JSON texts."""
    if isinstance(value, str):
        yield value
        if value.startswith("{"):
            try:
                yield from _texts(parse_json(value))
            except ValueError:  # no JSON: the template of a layout, such as {camera}/{frame}.jpg
                return
    elif isinstance(value, dict):
        yield from _texts(list(value.items()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _path_bytes(path: GalleryPlace, copy: Path, wanted: list[Needles], gone: Gone) -> list[str]:
    found = {gone.paths[number] for number, _ in occurrences(copy, wanted)}
    if found and path.suffix == ".parquet":
        names = [name for name in pq.read_schema(copy).names if name in _PATHS]
        for column in map(as_plain, pq.read_table(copy, columns=names).columns):
            found = {each for each in found if not pc.any(pc.match_substring(column, each)).as_py()}
    return [f"the bytes of {len(found)} paths"] if found else []


def _feature_bytes(path: Path, wanted: list[Needles], gone: Gone, has_rows: bool) -> list[str]:
    found = Counter(gone.features[number] for number in _places(path, wanted))
    if found and has_rows:
        held = pq.read_table(path, columns=["feature"])
        found -= Counter(value for value in stored_features(held) if value in found)
    return [f"the bytes of {len(found)} features"] if found else []


def _places(path: Path, wanted: list[Needles]) -> Iterator[int]:
    """Yield one occurrence for each place, even if several removed rows had the same feature."""
    seen = set()
    for number, offset in occurrences(path, wanted):
        if offset not in seen:
            seen.add(offset)
            yield number
