"""Find the rows of a gallery that one camera took at one time."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_DAY = 24 * 60 * 60 * 1_000_000


def moments(rows: pa.Table) -> NDArray[np.int64]:
    """The moment of each row int64 `[N]`: equal for rows of one camera and one time, else -1.

    `rows` has `camera`, `captured_at` and `frame`. The time is `captured_at` and `frame` together,
    as far as they are known; a row without a camera, or without either, has no moment. If every
    known `captured_at` is a midnight, they are dates, and give a moment only with a frame.
    """
    camera, frame = _numbered(rows["camera"]), _numbered(rows["frame"])
    taken = rows["captured_at"].cast(pa.int64())
    days_only = bool(pc.all(pc.equal(pc.subtract(taken, _midnight(taken)), 0)).as_py())
    time = _numbered(taken)
    known = (camera >= 0) & ((frame >= 0) | ((time >= 0) & (not days_only)))
    key = (camera * (time.max(initial=-1) + 2) + time + 1) * (frame.max(initial=-1) + 2) + frame + 1
    moment = np.full(len(rows), -1, np.int64)
    _, moment[known] = np.unique(key[known], return_inverse=True)
    return moment


def camera_numbers(cameras: pa.ChunkedArray) -> NDArray[np.int64]:
    """The number of each row's camera int64 `[N]`, from 0; -1 for a row without a camera."""
    return _numbered(cameras)


def _midnight(taken: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.multiply(pc.divide(taken, _DAY), _DAY)


def _numbered(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The values as numbers from 0, equal for equal values; -1 for null."""
    known = column.drop_null().unique()
    return pc.fill_null(pc.index_in(column, known), -1).to_numpy().astype(np.int64)
