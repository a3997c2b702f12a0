"""Galleries of expanded features: each version is made whole from a version of a parent gallery.

Rows keep their ids and all columns but the feature. The recipe is the parent's; the fingerprint
covers the recipe and the expansion, so that expanded features are never mistaken for plain ones.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.core.blocks import FeatureRows, blocks
from pipeline.errors import InputError
from pipeline.gallery.contents import contents_hash
from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.schema import encode_features, feature_bytes
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.log.rewrite import keep_rows
from pipeline.gallery.log.transactions import Change
from pipeline.gallery.outputs import EXPANDED, listed_in_galleries
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json

Parameters = Mapping[str, str | int | float]
Parents = Gallery | Sequence[Gallery]
"""The gallery that another is derived from, or several, which have one recipe."""

_FILE_BYTES = 128 << 20
_BETWEEN = "\n"  # of the locations of several parents
_RUN = re.compile(r"(expand-[\d.]+-[0-9a-f]+)-after-\d+")


@dataclass(frozen=True)
class Derivation:
    """What a gallery was derived from, and how: `mode`, `k`, `alpha` and `times` of an expansion.

    `parents` are locations, in order: one, or for tracklets several.
    """

    parents: tuple[str, ...]
    parameters: Parameters

    @property
    def parent(self) -> str:
        """The parents, for people."""
        return " and ".join(self.parents)

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        how = "made" if self.of_tracklets else "expanded"
        return f"{how} ({told}) from {self.parent}"

    @property
    def of_tracklets(self) -> bool:
        """Whether its rows are tracklets; otherwise they are the parent's, expanded."""
        return "tracklets" in self.parameters


def derivation(gallery: Gallery) -> Derivation | None:
    """How a gallery was derived; None for one of plain features."""
    about = parse_json(gallery.properties.get("derived", "{}"))
    if "parent" not in about:
        return None
    return Derivation(tuple(about.pop("parent").split(_BETWEEN)), about)


def derived_fingerprint(fingerprint: str, parameters: Parameters) -> str:
    """The fingerprint of features that were derived from those of the recipe with this one."""
    told = json.dumps([fingerprint, dict(parameters)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def is_made_from(gallery: Gallery, parent: Parents) -> bool:
    """Whether the last change of a derived gallery made it from this very version of its parent.

    False if the last change was another one (such as a restored version), or if another gallery was
    made in the parent's folder and has a version of the same number.
    """
    match = _RUN.fullmatch(gallery.history()[-1].run_id or "")
    return match is not None and match[1] == _run_of(parent)


def _run_of(parent: Parents) -> str:
    """The parents' versions and a hash of their files."""
    every = _all(parent)
    hashes = [contents_hash(each) for each in every]
    told = hashes[0]
    if len(every) > 1:
        told = hashlib.blake2b("".join(hashes).encode(), digest_size=8).hexdigest()
    return f"expand-{'.'.join(str(each.version) for each in every)}-{told}"


def _all(parent: Parents) -> list[Gallery]:
    return [parent] if isinstance(parent, Gallery) else list(parent)


def _places(parent: Parents) -> tuple[str, ...]:
    return tuple(each.location for each in _all(parent))


def check_parameters(gallery: Gallery, parent: Parents, parameters: Parameters) -> None:
    """Raise `InputError` unless the gallery was derived from this parent in this way."""
    found, wanted = derivation(gallery), Derivation(_places(parent), parameters)
    first = _all(parent)[0]
    if found is None:
        raise InputError(
            f"{gallery.location} holds plain features, not derived ones; give a new gallery"
        )
    if found != wanted:
        raise InputError(f"{gallery.location} was {found}, not {wanted}; give a new gallery")
    if gallery.dimension != first.dimension or gallery.recipe_json != first.recipe_json:
        raise InputError(
            f"{gallery.location} was derived from another gallery at {first.location}; give a"
            " new gallery"
        )


def create_derived(location: str, parent: Parents, parameters: Parameters, lock: Lock) -> Gallery:
    """An empty gallery for features derived from `parent`; several have the properties of the
    first, but a source and a layout only in common.
    """
    about = {"parent": _BETWEEN.join(_places(parent)), **parameters}
    first, *others = _all(parent)
    properties = dict(first.properties)
    for name, other in (("source", ""), ("layout", "several")):
        if any(each.properties[name] != properties[name] for each in others):
            properties[name] = other
    halves = all(each.dtype == "float16" for each in (first, *others))
    return Gallery.create(
        location,
        recipe_json=first.recipe_json,
        fingerprint=derived_fingerprint(first.fingerprint, parameters),
        dimension=first.dimension,
        dtype="float16" if halves else "float32",
        source=properties["source"],
        layout=properties["layout"],
        precision=properties["precision"],
        derived=about,
        lock=lock,
    )


def commit_derived(
    gallery: Gallery,
    parent: Parents,
    features: FeatureRows,
    lock: Lock,
    rows: pa.Table | None = None,
) -> Gallery:
    """The next version of a derived gallery: the parent's rows with these `features` `[N, D]`.

    Other `rows` `[N]`, by row id, may take the place of the parent's; columns that they lack are
    null. Of several parents, rows must be given. Raise what `Gallery.apply` raises.
    """
    run, every = f"{_run_of(parent)}-after-{gallery.version}", _all(parent)
    rows, before = every[0].rows() if rows is None else rows, gallery.row_ids()
    size = max(1, _FILE_BYTES // feature_bytes(gallery.dimension, gallery.dtype))
    written = [
        _write(gallery, run, rows.slice(start, stop - start), features.read(start, stop))
        for start, stop in blocks(rows.num_rows, size)
    ]
    after = rows["row_id"].to_numpy()
    change = Change(
        run_id=run,
        added=written,
        removed=gallery.snapshot.files,
        next_row_id=max(
            gallery.next_row_id,
            every[0].next_row_id if len(every) == 1 else int(after.max(initial=-1)) + 1,
        ),
        rejects=gallery.snapshot.rejects,
        summary={
            "rows_added": len(np.setdiff1d(after, before)),
            "rows_removed": len(np.setdiff1d(before, after)),
            "rejects": 0,
            "parent_version": every[0].version,
        },
    )
    with listed_in_galleries(EXPANDED, gallery.location, every):
        return gallery.apply(change, lock)


def _write(gallery: Gallery, run: str, rows: pa.Table, features: np.ndarray) -> LoggedFile:
    """Write some rows with their features to a file, named after the run of `expand`."""
    first = rows["row_id"][0].as_py()
    told = hashlib.sha256(f"{run} {first}".encode()).hexdigest()[:32]
    column = encode_features(features, gallery.dtype)
    schema = gallery.target.schema
    whole = rows.append_column(schema.field("feature"), column)
    for field in schema:
        if field.name not in whole.column_names:
            whole = whole.append_column(field, pa.nulls(len(whole), field.type))
    whole = whole.select(schema.names)
    root = root_of(gallery.location)
    return keep_rows(root, f"{first:012d}-{told}.parquet", whole.cast(schema))
