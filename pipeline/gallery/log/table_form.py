"""The form of a gallery's Delta table: its properties, and reasons why it cannot be read here."""

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipeline.errors import InputError
from pipeline.gallery.files.places import GalleryPlace
from pipeline.gallery.log.entries import oldest_version

FORMAT = 2
"""The format of the galleries that this version reads and writes."""

PREFIX = "regallery."
"""The beginning of the names of our table properties."""

_EARLIER_FORMATS = ("1",)
_READER_VERSION = 1


def properties_of(root: GalleryPlace, table: DeltaTable) -> dict[str, str]:
    """The properties of a gallery's table, without `PREFIX`.

    Raise `InputError` for a table that is not a gallery, or that cannot be read here.
    """
    configuration = table.metadata().configuration
    if f"{PREFIX}format" not in configuration:
        raise InputError(f"{root}: this Delta table is not a gallery of regallery")
    found = configuration[f"{PREFIX}format"]
    if found in _EARLIER_FORMATS:
        raise InputError(
            f"{root}: the gallery has format {found}, which has no checksums of its log; this"
            f" version of regallery reads format {FORMAT}: extract it again"
        )
    if found != str(FORMAT):
        raise InputError(
            f"{root}: the gallery has format {found} (Delta reader "
            f"{table.protocol().min_reader_version}); "
            f"this version of regallery reads format {FORMAT} (Delta reader {_READER_VERSION}): "
            "upgrade it"
        )
    if foreign := _foreign_form(table):
        raise InputError(f"{root}: version {table.version()} {foreign}{_way_back(root, table)}")
    return {
        name.removeprefix(PREFIX): value
        for name, value in configuration.items()
        if name.startswith(PREFIX)
    }


def _foreign_form(table: DeltaTable) -> str | None:
    """The change by another tool that prevents reading a version here; None for other versions."""
    protocol, partitions = table.protocol(), table.metadata().partition_columns
    if protocol.min_reader_version > _READER_VERSION:
        features = ", ".join(sorted(protocol.reader_features or ()))
        detail = f"needs Delta reader {protocol.min_reader_version}"
        return detail + (f" ({features})" if features else "") + ", which another tool turned on"
    if partitions:
        detail = ", ".join(partitions)
        return f"is partitioned by {detail}: another tool took that column out of the files"
    names = {field.name for field in table.schema().fields}
    if missing := [name for name in ("row_id", "path", "feature") if name not in names]:
        return f"has no column {missing[0]}: another tool dropped it"
    actions = pa.table(table.get_add_actions(flatten=True))
    lowest = pc.min(actions["min.row_id"]).as_py() if "min.row_id" in actions.column_names else None
    if lowest is not None and lowest < 0:
        return "has negative row ids, which another tool gave: row ids count from 0"
    return None


def _way_back(root: GalleryPlace, table: DeltaTable) -> str:
    """Advice to return to the last earlier version that can be read here; `restore` cannot open
    this one.
    """
    for version in range(table.version() - 1, oldest_version(root) - 1, -1):
        if _foreign_form(DeltaTable(str(root), version=version)) is None:
            statement = f"DeltaTable({str(root)!r}).restore({version}"
            statement += ", protocol_downgrade_allowed=True)"
            return (
                f"; go back to version {version} in Python: from deltalake import DeltaTable;"
                f" {statement}"
            )
    return "; no version before it is left: copy its rows with that tool into a new gallery"
