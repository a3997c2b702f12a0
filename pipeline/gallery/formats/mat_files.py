"""layumi's format: queries and gallery in one `pytorch_result.mat`, which its evaluation reads.

MATLAB's format 5 cannot have arrays of 4 GiB or more.
"""

import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.io
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.gallery.formats.features import MatrixFeatures
from pipeline.gallery.table import Gallery
from pipeline.input_files import check_file

MatPart = Literal["query", "gallery"]
_READER = """
import sys
import numpy as np
import scipy.io

path, out, *names = sys.argv[1:]


def text(value):
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return str(int(value)) if isinstance(value, int | float) else str(value)


try:
    found = scipy.io.loadmat(path, variable_names=names)
    missing = [name for name in names if name not in found]
    if missing:
        held = ", ".join(name for name, _, _ in scipy.io.whosmat(path))
        print(f"has no {', '.join(missing)}; it holds {held}", file=sys.stderr)
        sys.exit(4)
    for number, name in enumerate(names):
        values = found[name]
        if values.dtype.kind == "O":
            values = np.array([text(each) for each in values.ravel()])
        np.save(f"{out}/{number}.npy", values, allow_pickle=False)
except NotImplementedError:
    sys.exit(3)
except Exception as error:
    print(" ".join(f"{type(error).__name__}: {error}".split())[:500], file=sys.stderr)
    sys.exit(1)
"""
"""Copies arrays of a file to `.npy` files, text of any kind as plain text."""
_OF_MATLAB_7, _MISSING = 3, 4
LARGEST_MAT = 2**32
"""MATLAB's format 5 cannot hold an array of this many bytes or more."""


@dataclass(frozen=True)
class MatSide:
    """One side of the file: features, identities int64 `[N]` and the names of the cameras."""

    features: MatrixFeatures
    identity: NDArray[np.int64]
    camera: list[str]


def read_mat(path: Path, part: MatPart) -> MatSide:
    """The queries or the gallery of a file with `PART_f`, `PART_label` and `PART_cam`.

    Raise InputError for a file that is not a format-5 MAT file, lacks an array, or has unequal
    lengths.
    """
    names = [f"{part}_{what}" for what in ("f", "label", "cam")]
    found = read_arrays(path, names)
    features = MatrixFeatures(found[names[0]], f"{path}: {names[0]}")
    identity, camera = (np.ravel(found[name]) for name in names[1:])
    for name, values in zip(names[1:], (identity, camera), strict=True):
        if len(values) != len(features):
            raise InputError(
                f"{path}: {len(values)} numbers in {name} do not go with {len(features)} features"
            )
    numbers = _whole(identity, f"{path}: {names[1]}")
    is_text = camera.dtype.kind not in "iuf"
    cameras = camera if is_text else _whole(camera, f"{path}: {names[2]}")
    return MatSide(features, numbers, [_text(each) for each in cameras])


def read_arrays(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Some arrays of a file by name; raise InputError if it is not a format-5 MAT file, or lacks
    one.
    """
    check_file(path)
    with tempfile.TemporaryDirectory(prefix="regallery-mat-") as folder:
        _copy_arrays(path, names, folder)
        return {
            name: np.load(Path(folder) / f"{number}.npy", allow_pickle=False)
            for number, name in enumerate(names)
        }


def _copy_arrays(path: Path, names: list[str], folder: str) -> None:
    """Copy arrays to files in a folder, in a process of its own; raise InputError if it fails.

    A damaged file can crash scipy's reader, or make it write where it must not: whether it does
    depends on what lies in memory, so a second reading may crash where the first did not.
    """
    command = [sys.executable, "-c", _READER, str(path), folder, *names]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return
    reason = done.stderr.strip().rpartition("\n")[2]
    if done.returncode == _MISSING:
        raise InputError(f"{path} {reason}")
    if done.returncode == _OF_MATLAB_7:
        raise InputError(
            f"{path} is a MATLAB 7.3 file, which is HDF5: save it in format 5, or its features as"
            " .npy with a .csv of labels (`format` npy)"
        )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        reason = f"it is damaged (the reader ended with {name})"
    raise InputError(f"{path} cannot be read as a .mat file: {reason}")


def check_fits(gallery: Gallery) -> None:
    """Raise InputError if a gallery's features are too large for the format."""
    size = gallery.count * gallery.dimension * 4
    if size >= LARGEST_MAT:
        raise InputError(
            f"{gallery.location} has {size / 2**30:.1f} GiB of features, and a .mat file holds"
            " arrays below 4 GiB: take `format` npy, which has no limit"
        )


def write_mat(query: Gallery, gallery: Gallery, path: Path) -> None:
    """Write both to a file as layumi's evaluation reads it; all features are held in memory.

    Unknown identities are 0, distractors. Cameras are numbered by their names if all are whole
    numbers, or else from 1 in the order of their names; each unknown camera gets a negative number
    of its own, so that it equals no other.
    """
    names = ["identity", "camera"]
    rows = [query.rows(names), gallery.rows(names)]
    numbers = _camera_numbers([each["camera"] for each in rows])
    held: dict[str, Any] = {}
    for part, table, each, cameras in zip(
        ("query", "gallery"), (query, gallery), rows, numbers, strict=True
    ):
        held |= {
            f"{part}_f": table.features().read(0, table.count),
            f"{part}_label": pc.fill_null(each["identity"], 0).to_numpy(),
            f"{part}_cam": cameras,
        }
    with path.open("wb") as file:
        scipy.io.savemat(file, held)


def _camera_numbers(columns: list[pa.ChunkedArray]) -> list[NDArray[np.int64]]:
    told = [each.to_pylist() for each in columns]
    known = sorted({name for side in told for name in side if name is not None})
    if all(name.isascii() and name.isdigit() for name in known):
        number = {name: int(name) for name in known}
    else:
        number = {name: place for place, name in enumerate(known, start=1)}
    total, sides = 0, []
    for side in told:
        values = [
            number[name] if name is not None else -(total + row + 1)
            for row, name in enumerate(side)
        ]
        sides.append(np.array(values, np.int64))
        total += len(side)
    return sides


def _whole(values: NDArray[Any], source: str) -> NDArray[np.int64]:
    """The values as int64 `[N]`; raise InputError naming the source if one is not a whole
    number.
    """
    if values.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):  # NaN, infinity, or more than 64 bits
            numbers = values.astype(np.int64)
        if (numbers == values).all():
            return numbers
    raise InputError(f"{source} holds other than whole numbers")


def _text(camera: Any) -> str:
    """A camera's name: a whole number without a point, or text without blanks at its ends."""
    return str(int(camera)) if isinstance(camera, int | float | np.number) else str(camera).strip()
