"""Files that are written: one that cannot be, on a full disk above all, is told by its name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import RunError
from pipeline.input_files import why


@contextmanager
def told_by_name(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tells a failure to write as `RunError` with the name of the file, which systems leave out."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: the file cannot be written ({why(error)}): make room, and run the same"
            " command again"
        ) from error
