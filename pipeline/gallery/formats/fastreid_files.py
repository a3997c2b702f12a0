"""fast-reid's format: a `.npy` file for each image, with its name and a feature `[1, D]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import blocks
from pipeline.errors import InputError, RunError
from pipeline.gallery.table import Gallery
from pipeline.input_files import check_file, why
from pipeline.output_files import name_write_errors

_AT_ONCE = 4096
_MEND = "nothing was imported: mend the file, and run the same command again"


@dataclass(frozen=True)
class FeatureFiles:
    """The features in the files `names` of a folder, one each: `[1, D]`, or `[D]`."""

    folder: Path
    names: tuple[str, ...]
    dimension: int

    def __len__(self) -> int:
        return len(self.names)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The features of the files `start` to `stop`; RunError names one that does not fit."""
        return np.stack([self._one(self.folder / name) for name in self.names[start:stop]])

    def _one(self, path: Path) -> NDArray[Any]:
        try:
            feature = _feature(path)
        except InputError as error:
            raise RunError(f"{error}; {_MEND}") from error
        if len(feature) != self.dimension:
            raise RunError(
                f"{path} has {len(feature)} dimensions, and {self.names[0]} {self.dimension}: one"
                f" folder holds the features of one network; {_MEND}"
            )
        return feature


def read_folder(folder: Path) -> FeatureFiles:
    """The `.npy` files of a folder, sorted by name; raise InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; fast-reid writes a folder of .npy files")
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".npy")
    if not names:
        inside = folder / "fast-reid"  # what export writes it into
        hint = f"; there is {inside}, give that" if inside.is_dir() else ""
        raise InputError(f"{folder} holds no .npy file{hint}")
    return FeatureFiles(folder, tuple(names), len(_feature(folder / names[0])))


def file_names(gallery: Gallery) -> list[str]:
    """The file of each row, in row-id order: the image's base name up to its first dot.

    Raise InputError if two rows would share one; fast-reid itself would overwrite the file
    silently.
    """
    seen: dict[str, str] = {}
    for path in gallery.rows(["path"])["path"].to_pylist():
        name = path.rpartition("/")[2].split(".")[0] + ".npy"
        if name in seen:
            raise InputError(
                f"{seen[name]} and {path} would both be {name}: fast-reid's format knows images by"
                " their base name; take `format` npy"
            )
        seen[name] = path
    return list(seen)


def write_files(gallery: Gallery, names: list[str], folder: Path) -> None:
    """Write each row's feature to its file in a folder that is there, float32 `[1, D]`."""
    features = gallery.features()
    for start, stop in blocks(len(names), _AT_ONCE):
        block = features.read(start, stop)
        for row, name in enumerate(names[start:stop]):
            with name_write_errors(folder / name):
                np.save(folder / name, block[row : row + 1])


def _feature(path: Path) -> NDArray[Any]:
    check_file(path)
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its reader stumbles over
        raise InputError(f"{path} cannot be read as an array: {why(error)}") from error
    if array.dtype.kind != "f" or array.size != max(array.shape, default=0):
        raise InputError(
            f"{path} holds {array.dtype} {list(array.shape)}: a feature is floats [1, D]"
        )
    return array.reshape(-1)
