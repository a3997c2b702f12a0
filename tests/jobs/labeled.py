"""Galleries of features that a test chooses, without a network."""

import numpy as np
import pyarrow as pa

from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from tests.core.strategies import unit_rows
from tests.gallery.making import rejects_table


def labeled_gallery(
    location, features, identity, camera, weights="0" * 64, precision="float32", **columns
):
    """A gallery whose rows have these features and labels; other `columns` are lists of values."""
    recipe = Recipe(weights=weights)
    gallery = Gallery.create(
        str(location),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=features.shape[1],
        source=str(location.parent / "source"),
        layout="market1501",
        precision=precision,
    )
    return add_rows(gallery, features, identity, camera, **columns)


def add_rows(gallery, features, identity, camera, **columns):
    """The next version, with these rows too."""
    first = gallery.next_row_id
    ids = range(first, first + len(features))
    values = {field.name: pa.nulls(len(ids), field.type) for field in gallery.target.schema}
    paths = [f"crops/{number:06d}.jpg" for number in ids]
    told = {"path": paths, "identity": identity, "camera": camera, **columns}
    values |= {
        name: pa.array(list(each), gallery.target.schema.field(name).type)
        for name, each in told.items()
    }
    values["row_id"] = pa.array(ids, pa.int64())
    values["feature"] = encode_features(features)
    rows = pa.table(values, schema=gallery.target.schema)
    unit = write_unit(gallery.target, f"u{first}", ids, rows, rejects_table([]))
    return gallery.commit([unit], run_id=f"add {first}")


def people(count, rows, *, seed=0, dimension=24, spread=0.12, cameras=3):
    """Features in a cluster for each identity, the identities (some 0 and -1), and the cameras."""
    rng = np.random.default_rng(seed)
    identity = np.concatenate([np.arange(1, count + 1), rng.integers(-1, count + 1, rows - count)])
    centers = unit_rows(count, dimension, seed=1)
    strangers = unit_rows(rows, dimension, seed=seed + 2)
    raw = np.where(identity[:, None] > 0, centers[identity - 1], strangers)
    raw = raw + rng.standard_normal(raw.shape) * spread
    features = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    camera = [f"c{number}" for number in rng.integers(0, cameras, rows)]
    return features.astype(np.float32), identity.tolist(), camera
