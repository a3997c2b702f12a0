"""All rows of a gallery as points of a map, in one binary answer that a page can use as it is.

Eight bytes of magic, the length of the header as uint32, the header in JSON, padding to a multiple
of 8, and then the columns one after another, little-endian: 12 bytes a row.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.service.held_gallery import HeldGallery

MAGIC = b"RGPTS001"
UNKNOWN_IDENTITY = -(2**31)
UNKNOWN = 65_535
"""The camera or the time of a row that has none."""

_LARGEST = UNKNOWN - 1
_LARGEST_IDENTITY = 2**31 - 1


def packed_points(held: HeldGallery, places: NDArray[np.float32]) -> bytes:
    """The rows of a version by position, at the `places` `[N, 2]` of a map."""
    x, x_range = _scaled(places[:, 0].astype(np.float64))
    y, y_range = _scaled(places[:, 1].astype(np.float64))
    camera, cameras = _cameras(held.columns["camera"])
    time, times = _times(held.columns["captured_at"])
    columns: dict[str, NDArray[Any]] = {
        "x": x,
        "y": y,
        "identity": _identities(held.columns["identity"]),
        "camera": camera,
        "time": time,
    }
    offset, told = 0, []
    for name, values in columns.items():
        told.append({"name": name, "dtype": values.dtype.str[1:], "offset": offset})
        offset += values.nbytes
    header = {
        **held.about,
        "rows": len(held),
        "columns": told,
        "cameras": cameras,
        "x": x_range,
        "y": y_range,
        "time": times,
    }
    return _head(header) + b"".join(values.tobytes() for values in columns.values())


def _head(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode("ascii")
    head = MAGIC + np.array(len(text), "<u4").tobytes() + text
    return head + bytes(-len(head) % 8)


def _scaled(values: NDArray[np.float64]) -> tuple[NDArray[np.uint16], list[float]]:
    """Values as parts of their range, 0 to 65,535, and the range."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    scale = UNKNOWN / (high - low) if high > low else 0.0
    return np.rint((values - low) * scale).astype("<u2"), [low, high]


def _identities(column: pa.ChunkedArray) -> NDArray[np.int32]:
    known = pc.fill_null(column, UNKNOWN_IDENTITY).to_numpy()
    fits = np.abs(known) <= _LARGEST_IDENTITY
    return np.where(fits, known, UNKNOWN_IDENTITY).astype("<i4")


def _cameras(column: pa.ChunkedArray) -> tuple[NDArray[np.uint16], list[str]]:
    """The number of each row's camera among the names, which are in order; 65,535 without one."""
    names = sorted(pc.unique(column.drop_null()).to_pylist())[:UNKNOWN]
    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    return pc.fill_null(found, UNKNOWN).to_numpy().astype("<u2"), names


def _times(column: pa.ChunkedArray) -> tuple[NDArray[np.uint16], list[str] | None]:
    """Times as parts of their range, 0 to 65,534, 65,535 without one; and the range."""
    least, greatest = pc.min(column).as_py(), pc.max(column).as_py()
    if least is None:
        return np.full(len(column), UNKNOWN, "<u2"), None
    micros = column.cast(pa.int64())
    low, high = pc.min(micros).as_py(), pc.max(micros).as_py()
    known = pc.is_valid(micros).to_numpy()
    part = (pc.fill_null(micros, low).to_numpy() - low) * (_LARGEST / max(1, high - low))
    scaled = np.where(known, np.rint(part), UNKNOWN).astype("<u2")
    return scaled, [least.isoformat(), greatest.isoformat()]
