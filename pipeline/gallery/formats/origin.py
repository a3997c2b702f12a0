"""The description of a gallery in an export, with which an import can restore the recipe.

It is stored in `gallery.json` beside the exported files, with the SHA-256 of the features, which
belong to the recipe only if they have not changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.errors import InputError
from pipeline.gallery.copies import is_copy
from pipeline.gallery.files.schema import ADDED_COLUMNS, SCALAR_COLUMNS, SCALAR_FIELDS
from pipeline.gallery.outputs import digest
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json, read_text, why

ORIGIN_FILE = "gallery.json"
ORIGIN_FORMAT = 1


@dataclass(frozen=True)
class FeatureOrigin:
    """A gallery, as described by the export of one of its versions."""

    gallery: str
    version: int
    dimension: int
    recipe: str
    fingerprint: str
    storage: str
    source: str
    layout: str
    precision: str
    derived: dict[str, Any]


def about_gallery(gallery: Gallery) -> dict[str, Any]:
    """The fields of `FeatureOrigin` of a version."""
    properties = gallery.properties
    return {
        "gallery": gallery.location,
        "version": gallery.version,
        "dimension": gallery.dimension,
        "recipe": gallery.recipe_json,
        "fingerprint": gallery.fingerprint,
        "storage": gallery.dtype,
        "source": properties.get("source", ""),
        "layout": properties.get("layout", ""),
        "precision": properties.get("precision", "float32"),
        "derived": {} if is_copy(gallery) else parse_json(properties.get("derived", "{}")),
    }


def is_exported(source: Path) -> bool:
    """Whether an export describes these features."""
    about = _read(source)
    return about is not None and source.name in about.get("features", {})


def origin_of(source: Path, part: str = "gallery") -> FeatureOrigin:
    """The gallery whose features an export wrote to `source`, a file or fast-reid's folder.

    `part` is the side of a `.mat` file. Raise `InputError` if no export describes these features,
    if they have changed since, or if the gallery cannot be made again from them.
    """
    about, place = _read(source), source.parent / ORIGIN_FILE
    if about is None or source.name not in about.get("features", {}):
        raise InputError(
            f"nothing beside {source} says what made its features: say it with `made_by`"
        )
    if about.get("complete") is not True:
        raise InputError(f"{place}: the export was cut off; export again")
    try:
        if digest(source) != about["features"][source.name]:
            raise InputError(
                f"{source} is not as it was exported (SHA-256), so {place} does not say what made"
                " its features: export again, or say with `made_by` what they are"
            )
        told = about if part == "gallery" else about["query"]
        origin = FeatureOrigin(**{name: told[name] for name in FeatureOrigin.__dataclass_fields__})
    except OSError as error:
        raise InputError(f"{source} cannot be read ({why(error)})") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{place}: this is not what an export writes ({error})") from error
    if "camera_normalize" in origin.derived:
        raise InputError(
            f"{source} holds features of {origin.gallery}, which were normalized by camera with"
            " statistics that no export has: say with `made_by` what they are"
        )
    return origin


def exported_rows(path: Path) -> pa.Table:
    """All columns of a `rows.csv`, without the row id, as they were exported.

    Raise `InputError` for other columns, for values of another kind, and for a path that is missing
    or comes twice.
    """
    try:
        kinds = {name: pa.string() for name in SCALAR_COLUMNS}
        options = pyarrow.csv.ConvertOptions(
            column_types=kinds,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
        texts = pyarrow.csv.read_csv(path, convert_options=options, parse_options=parsing)
        for name in ADDED_COLUMNS:  # an earlier version of this tool wrote the others
            if name not in texts.column_names:
                texts = texts.append_column(name, pa.nulls(len(texts), pa.string()))
        if tuple(texts.column_names) != SCALAR_COLUMNS:
            raise ValueError(f"its columns are {', '.join(texts.column_names)}")
        rows = pa.table(dict(_columns(texts)))
    except (OSError, ValueError) as error:  # those of Arrow are values
        raise InputError(
            f"{path} cannot be read as the rows of an export ({why(error)}): say with `made_by`"
            " what made the features to read it as any other table"
        ) from error
    if rows["path"].null_count or pc.count_distinct(rows["path"]).as_py() != len(rows):
        raise InputError(f"{path}: a path is missing, or comes twice")
    return rows


def _columns(texts: pa.Table) -> Iterator[tuple[str, Any]]:
    for field in SCALAR_FIELDS[1:]:
        column = texts[field.name]
        if pa.types.is_fixed_size_binary(field.type):
            values = [value and bytes.fromhex(value) for value in column.to_pylist()]
            yield field.name, pa.array(values, field.type)
        else:
            yield field.name, pc.cast(column, field.type)


def _read(source: Path) -> Mapping[str, Any] | None:
    place = source.parent / ORIGIN_FILE
    if not place.is_file():
        return None
    try:
        about = parse_json(read_text(place))
    except (OSError, ValueError, InputError):
        return None
    is_ours = isinstance(about, dict) and about.get("regallery_export") == ORIGIN_FORMAT
    return about if is_ours and isinstance(about.get("features"), dict) else None
