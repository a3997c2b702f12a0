"""Identities and cameras of rows in the form for the metrics."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA, Labels


def labels_of(tables: Sequence[pa.Table]) -> list[Labels]:
    """The labels of tables with the columns `identity` and `camera`.

    A camera name has the same number in all of them; a row of unknown identity is a distractor.

    >>> rows = pa.table({"identity": [7, None], "camera": ["c2", "c1"]})
    >>> labels = labels_of([rows])[0]
    >>> labels.identity, labels.camera
    (array([7, 0]), array([1, 0]))
    """
    cameras = pa.chunked_array(
        [chunk for each in tables for chunk in each["camera"].chunks], pa.string()
    )
    names = cameras.drop_null().unique().sort().to_pylist()
    return [
        Labels(
            pc.fill_null(each["identity"], DISTRACTOR).to_numpy(),
            camera_numbers(each["camera"], names),
        )
        for each in tables
    ]


def camera_numbers(cameras: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.int64]:
    """The index int64 `[N]` of each row's camera in `names`; `NO_CAMERA` if it has none.

    >>> camera_numbers(pa.chunked_array([["c2", None, "c1", "c9"]]), ["c1", "c2"])
    array([ 1, -1,  0, -1])
    """
    places = pc.index_in(cameras, pa.array(names, cameras.type))
    return pc.fill_null(places, NO_CAMERA).to_numpy().astype(np.int64)
