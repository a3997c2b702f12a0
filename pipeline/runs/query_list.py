"""Select the query rows of a gallery from a file, as data sets publish it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.layouts.labels import LayoutError
from pipeline.archive.layouts.named import layout
from pipeline.errors import InputError
from pipeline.gallery.formats.mat_files import read_arrays
from pipeline.gallery.table import Gallery
from pipeline.input_files import read_text

_SHOWN = 3


def query_rows(gallery: Gallery, file: Path) -> NDArray[np.int64]:
    """The positions `[Q]` of the rows that a file lists by path, or of tracklets by name.

    The file is text with a name in each line, or MARS' `query_IDX.mat`, which is read with
    `tracks_test_info.mat` and `test_name.txt` beside it. Raise InputError for a file that cannot be
    read so, and for a name that no row has.
    """
    names = _mars_queries(file) if file.suffix == ".mat" else _lines(file)
    if not names:
        raise InputError(f"`queries` {file} lists no name")
    wanted = dict.fromkeys(names, False)
    found = []
    for place, path in enumerate(gallery.rows(["path"])["path"].to_pylist()):
        if path in wanted:
            wanted[path] = True
            found.append(place)
    if missing := [name for name, is_there in wanted.items() if not is_there]:
        raise InputError(
            f"`queries` {file}: {len(missing):,} of {len(wanted):,} names are no rows of"
            f" {gallery.location}, such as {', '.join(missing[:_SHOWN])}"
        )
    return np.array(found, np.int64)


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def _mars_queries(file: Path) -> list[str]:
    """The names of the tracklets that are queries.

    A row of `track_test_info` has the first and the last image of a tracklet among the lines of
    `test_name.txt`, its identity and its camera; all count from 1 (Zheng et al., MARS, ECCV 2016).
    """
    chosen = np.ravel(read_arrays(file, ["query_IDX"])["query_IDX"]).astype(np.int64)
    place = file.with_name("tracks_test_info.mat")
    tracks = read_arrays(place, ["track_test_info"])["track_test_info"]
    images = _lines(file.with_name("test_name.txt"))
    if tracks.ndim != 2 or tracks.shape[1] != 4:
        raise InputError(f"{place}: track_test_info is of shape {tracks.shape}, not [N, 4]")
    for what, numbers, most in (
        (f"{file}: a query", chosen, len(tracks)),
        (f"{place}: an image", tracks[:, :2], len(images)),
    ):
        if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= most:
            raise InputError(f"{what} has a number outside of 1 to {most}")
    return [
        _tracklet(place, number, tracks[number - 1].tolist(), images) for number in chosen.tolist()
    ]


def _tracklet(place: Path, number: int, track: Sequence[int], images: Sequence[str]) -> str:
    """The name of a tracklet of MARS; raise InputError if its first and last image do not agree."""
    first, last, identity, camera = (int(each) for each in track)
    try:
        ends = [layout("mars").parse(images[each - 1]) for each in (first, last)]
    except LayoutError as error:
        raise InputError(f"{place.with_name('test_name.txt')}: {error}") from error
    told = {(each.identity, each.camera, each.tracklet) for each in ends}
    name = ends[0].tracklet
    if name is None or told != {(identity, str(camera), name)}:
        raise InputError(
            f"{place}, row {number}: identity {identity}, camera {camera} and the images"
            f" {images[first - 1]} to {images[last - 1]} are not of one tracklet"
        )
    return name
