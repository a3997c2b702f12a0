"""Features `[N, D]` in one `.npy` file: scratch that is written in chunks and read in blocks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, blocks, empty_rows
from pipeline.errors import InputError, RunError

_COPIED_AT_ONCE = 8192
_HALF_SUFFIX = ".half"


@dataclass(frozen=True)
class NpyRows:
    """The rows `start` to `stop` of a float32 `.npy` file `[N, D]`, mapped, never loaded whole.

    Small and picklable: a worker that sees the file opens it for itself. Raise InputError if the
    file has no float32 matrix.
    """

    path: str
    start: int = 0
    stop: int | None = None

    def _mapped(self) -> NDArray[np.float32]:
        # Copy on write: torch refuses read-only memory, and nothing here writes.
        array = np.load(self.path, mmap_mode="c", allow_pickle=False)
        if array.ndim != 2 or array.dtype != np.float32:
            raise InputError(f"{self.path} holds {array.dtype} {array.shape}, not float32 [N, D]")
        return array[self.start : self.stop]

    @property
    def dimension(self) -> int:
        """D."""
        return self._mapped().shape[1]

    def __len__(self) -> int:
        return len(self._mapped())

    def part(self, start: int, stop: int) -> "NpyRows":
        """The rows `start` to `stop` of these rows."""
        return NpyRows(self.path, self.start + start, self.start + stop)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, copied out of the file `[stop - start, D]`."""
        mapped = self._mapped()[start:stop]
        out = empty_rows(*mapped.shape)
        out[:] = mapped
        return out

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `positions`, copied `[P, D]`."""
        return np.array(self._mapped()[positions])


@contextmanager
def create_npy(path: Path, rows: int, dimension: int) -> Iterator[NDArray[np.float32]]:
    """Make a float32 `.npy` file `[rows, dimension]` and yield its mapping, to be filled.

    It gets its name once it is filled, so a worker of a killed run that still lives for some
    seconds, and reads the same rows, never reads half of them. Its bytes are reserved at once, so
    that a full disk is a RunError here; later, in mapped memory, it would kill the process.
    """
    shape = (rows, dimension)
    size = 4 * rows * dimension
    half = path.with_name(f"{path.name}{_HALF_SUFFIX}")
    try:
        mapped = np.lib.format.open_memmap(half, "w+", dtype=np.float32, shape=shape)
        size = half.stat().st_size
        with half.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise RunError(
            f"{path}: {size:,} bytes cannot be written ({error.strerror}); make room or choose"
            " another folder with `scratch`, and run the same command again"
        ) from error
    yield mapped
    mapped.flush()
    half.replace(path)


def copy_rows(rows: FeatureRows, path: Path, at_once: int = _COPIED_AT_ONCE) -> NpyRows:
    """Copy the rows to a new `.npy` file, in which rows can be read fast in any order."""
    with create_npy(path, len(rows), rows.dimension) as mapped:
        for start, stop in blocks(len(rows), at_once):
            mapped[start:stop] = rows.read(start, stop)
    return NpyRows(str(path))
