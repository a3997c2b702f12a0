"""Galleries of expanded features: each version is made whole from a version of a parent gallery.

Rows keep their ids and all columns but the feature. The recipe is the parent's; the fingerprint
covers the recipe and the expansion, so that expanded features are never mistaken for plain ones.
"""

import hashlib
import json
import re
from collections.abc import Mapping
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

_FILE_BYTES = 128 << 20
_RUN = re.compile(r"(expand-\d+-[0-9a-f]+)-after-\d+")


@dataclass(frozen=True)
class Derivation:
    """What a gallery was expanded from, and how: `mode`, `k`, `alpha` and `times`."""

    parent: str
    parameters: Parameters

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
    return Derivation(about.pop("parent"), about)


def derived_fingerprint(fingerprint: str, parameters: Parameters) -> str:
    """The fingerprint of features that were derived from those of the recipe with this one."""
    told = json.dumps([fingerprint, dict(parameters)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def is_made_from(gallery: Gallery, parent: Gallery) -> bool:
    """Whether the last change of a derived gallery made it from this very version of its parent.

    False if the last change was another one (such as a restored version), or if another gallery was
    made in the parent's folder and has a version of the same number.
    """
    match = _RUN.fullmatch(gallery.history()[-1].run_id or "")
    return match is not None and match[1] == _run_of(parent)


def _run_of(parent: Gallery) -> str:
    """The parent's version and a hash of its files."""
    return f"expand-{parent.version}-{contents_hash(parent)}"


def check_parameters(gallery: Gallery, parent: Gallery, parameters: Parameters) -> None:
    """Raises `InputError` unless the gallery was derived from this parent in this way."""
    found, wanted = derivation(gallery), Derivation(parent.location, parameters)
    if found is None:
        raise InputError(
            f"{gallery.location} holds plain features, not derived ones; give a new gallery"
        )
    if found != wanted:
        raise InputError(f"{gallery.location} was {found}, not {wanted}; give a new gallery")
    if gallery.dimension != parent.dimension or gallery.recipe_json != parent.recipe_json:
        raise InputError(
            f"{gallery.location} was expanded from another gallery at {parent.location}; give a"
            " new gallery"
        )


def create_derived(location: str, parent: Gallery, parameters: Parameters, lock: Lock) -> Gallery:
    """An empty gallery for features derived from `parent`."""
    about = {"parent": parent.location, **parameters}
    properties = parent.properties
    return Gallery.create(
        location,
        recipe_json=parent.recipe_json,
        fingerprint=derived_fingerprint(parent.fingerprint, parameters),
        dimension=parent.dimension,
        dtype=parent.dtype,
        source=properties["source"],
        layout=properties["layout"],
        precision=properties["precision"],
        derived=about,
        lock=lock,
    )


def commit_derived(
    gallery: Gallery,
    parent: Gallery,
    features: FeatureRows,
    lock: Lock,
    rows: pa.Table | None = None,
) -> Gallery:
    """The next version of a derived gallery: the parent's rows with these `features` `[N, D]`.

    Other `rows` `[N]`, by row id, may take the place of the parent's; columns that they lack are
    null. Raises what `Gallery.apply` raises.
    """
    run = f"{_run_of(parent)}-after-{gallery.version}"
    rows, before = parent.rows() if rows is None else rows, gallery.row_ids()
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
        next_row_id=max(gallery.next_row_id, parent.next_row_id),
        rejects=gallery.snapshot.rejects,
        summary={
            "rows_added": len(np.setdiff1d(after, before)),
            "rows_removed": len(np.setdiff1d(before, after)),
            "rejects": 0,
            "parent_version": parent.version,
        },
    )
    with listed_in_galleries(EXPANDED, gallery.location, [parent]):
        return gallery.apply(change, lock)


def _write(gallery: Gallery, run: str, rows: pa.Table, features: np.ndarray) -> LoggedFile:
    """Writes some rows with their features to a file, named after the run of `expand`."""
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
