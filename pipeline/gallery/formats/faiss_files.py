"""A faiss flat index: features one after the other, read and written by faiss itself."""

import importlib
from pathlib import Path
from types import ModuleType

from pipeline.core.blocks import blocks
from pipeline.errors import InputError
from pipeline.gallery.formats.features import MatrixFeatures
from pipeline.gallery.table import Gallery
from pipeline.input_files import check_file, why

_AT_ONCE = 65_536


def load_faiss() -> ModuleType:
    """The faiss module; raise InputError if it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise InputError(
            "a faiss index needs faiss, which is not installed: pip install faiss-cpu, or take"
            " `format` npy"
        ) from error


def read_index(path: Path) -> MatrixFeatures:
    """The features of a flat index, in the order in which they were added, held in memory.

    Raise InputError if the file is not an index, or if it is of another kind, which does not hold
    whole features.
    """
    faiss = load_faiss()
    check_file(path)
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise InputError(f"{path} is not a faiss index: {why(error)}") from error
    if not isinstance(index, faiss.IndexFlat):
        raise InputError(
            f"{path} is a {type(index).__name__}: only a flat index (IndexFlatIP, IndexFlatL2)"
            " holds the features as they were"
        )
    if index.ntotal == 0:
        raise InputError(f"{path} holds no feature")
    return MatrixFeatures(index.reconstruct_n(0, index.ntotal), str(path))


def write_index(gallery: Gallery, path: Path) -> None:
    """Write the features as an IndexFlatIP, in row-id order; they are held in memory.

    Raise OSError if the file cannot be written: faiss itself would not report a full disk.
    """
    faiss = load_faiss()
    index = faiss.IndexFlatIP(gallery.dimension)
    features = gallery.features()
    for start, stop in blocks(gallery.count, _AT_ONCE):
        index.add(features.read(start, stop))
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
