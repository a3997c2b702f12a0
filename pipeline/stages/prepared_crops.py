"""Crops of a source at a network's input size, in one file that is mapped while a network trains.

Training reads every crop many times, in random order. So all are read, decoded and resized once, as
extraction does it. The file lies in the folder of the run and is deleted with it.
"""

import hashlib
import logging
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.planning.units import plan_units, units
from pipeline.errors import RunError
from pipeline.model.input.preprocessing import empty_batch, fill_batch
from pipeline.model.recipe import Recipe
from pipeline.output_files import name_write_errors
from pipeline.stages.crops import Bad, DecodedCrop, Decoding, decoded_crops
from pipeline.stages.execution import Step, no_step

_log = logging.getLogger(__name__)

_AT_ONCE = 64
_PREFIX = "crops-"
_LARGEST_LOSS = 0.01
"""The share of crops that may have become unreadable since their extraction."""


def prepare_crops(
    members: pa.Table, how: Decoding, recipe: Recipe, folder: Path, step: Step = no_step
) -> Path:
    """Write the crops of `members` as uint8 `[N, 3, H, W]`, and return the .npy file.

    `members` are rows of a listing, in the order of the result. If an earlier run wrote the same
    crops to `folder`, its file is used. A crop that can no longer be read is gray, and named in a
    warning. Raise RunError if more than 1 % cannot, or if the file cannot be written.
    """
    path = folder / f"{_PREFIX}{_hash_of(members, how, recipe)}.npy"
    if path.exists():
        step(len(members))
        return path
    drop_crops(folder)
    size = (recipe.height, recipe.width)
    beside = path.with_suffix(".half")
    with name_write_errors(path):
        pixels = np.lib.format.open_memmap(
            beside, mode="w+", dtype=np.uint8, shape=(len(members), 3, *size)
        )
        lost = _fill(pixels, members, how, recipe, step)
        pixels.flush()
        if len(lost) > _LARGEST_LOSS * len(members):
            raise RunError(
                f"{how.root}: {len(lost)} of {len(members)} crops cannot be read any more, though"
                f" their features were extracted; first: {lost[0]}"
            )
        beside.replace(path)
    return path


def images_hash(images: pa.Table, *others: Any) -> str:
    """A hash of images of a listing by path, size and time, which may be null, and of `others`.

    >>> row = {"path": ["a.jpg"], "size": [3], "mtime": pa.nulls(1, pa.timestamp("us"))}
    >>> images_hash(pa.table(row)) == images_hash(pa.table(row)) != images_hash(pa.table(row), "b")
    True
    """
    found = hashlib.blake2b(digest_size=16)
    columns = [images[name].cast(pa.string()).to_pylist() for name in ("path", "size", "mtime")]
    for each in (*columns, *others):
        found.update(repr(each).encode() + b"\0")
    return found.hexdigest()


def drop_crops(folder: Path) -> None:
    """Delete the files of `prepare_crops` in a folder, finished or not."""
    for path in folder.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


def _fill(
    pixels: NDArray[np.uint8], members: pa.Table, how: Decoding, recipe: Recipe, step: Step
) -> list[str]:
    """Write all crops to their places; the paths of those that cannot be read, with the reason."""
    lost = []
    batch = empty_batch(_AT_ONCE, pixels.shape[2:])
    place_of = {path: place for place, path in enumerate(members["path"].to_pylist())}
    # Boxes that competed for a slot did so at extraction: only winners are asked for.
    if "slot" in members.column_names:
        column = members.column_names.index("slot")
        none = pa.nulls(len(members), members["slot"].type)
        members = members.set_column(column, "slot", none)
    for unit in units(plan_units(members, "training")):
        paths = unit.members["path"].to_pylist()
        places = np.array([place_of[path] for path in paths])
        decoded = decoded_crops(unit.members, how)
        while some := list(islice(decoded, _AT_ONCE)):
            crops = [each for each in some if isinstance(each, DecodedCrop)]
            fill_batch(batch, [each.pixels for each in crops], recipe)
            pixels[places[[each.place for each in crops]]] = batch[: len(crops)]
            bad = [each for each in some if isinstance(each, Bad)]
            pixels[places[[each.place for each in bad]]] = 128
            lost += [f"{paths[each.place]} ({each.detail})" for each in bad]
            step(len(some))
    if lost:
        _log.warning("%d crops cannot be read any more; first: %s", len(lost), lost[0])
    return lost


def _hash_of(members: pa.Table, how: Decoding, recipe: Recipe) -> str:
    """A hash of everything that the prepared pixels depend on."""
    prepared = (recipe.height, recipe.width, recipe.letterbox, recipe.mean, recipe.pixel_range)
    return images_hash(members, how.root, how.stretch, recipe.channels, prepared)
