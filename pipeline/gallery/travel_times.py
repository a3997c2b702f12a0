"""Travel times of a gallery's cameras: a table from a user, or learned from a version.

A user's table is `.csv` or `.parquet`, with a row for each pair of cameras and the columns `from`,
`to`, `least` and `most` (seconds). An empty `most` sets no limit, a `least` of `inf` says that
nobody gets there. A row also holds for the way back, if the table has no row for that. Learned
times are a JSON file for each version, beside the gallery's table, and also hold for later
versions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, isinf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.core.travel.times import TravelTimes
from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from pipeline.input_files import check_file, parse_json, why

TABLE_SUFFIXES = (".csv", ".parquet")
_COLUMNS = {"from": pa.string(), "to": pa.string(), "least": pa.float64(), "most": pa.float64()}
_FORMAT = 1
_SUFFIX = "-travel.json"


@dataclass(frozen=True)
class TravelTable:
    """The least and the most seconds between cameras, by name; `origin` says where they come from.

    ValueError for a pair that occurs twice, or whose least is more than its most.
    """

    ways: Mapping[tuple[str, str], tuple[float, float]]
    origin: str

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[str, str, float, float]],
        origin: str,
        *,
        both_ways: bool = True,
    ) -> "TravelTable":
        """Make a table of rows: from, to, least and most. With `both_ways` a row also holds for
        the way back, if the way back has no row.
        """
        ways: dict[tuple[str, str], tuple[float, float]] = {}
        for start, end, least, most in rows:
            if (start, end) in ways:
                raise ValueError(f"the way from camera {start} to {end} has two rows")
            if not least <= most or least == -inf:
                raise ValueError(
                    f"from camera {start} to {end}: a way cannot take at least {least:g} and at"
                    f" most {most:g} seconds"
                )
            ways[start, end] = least, most
        if not both_ways:
            return cls(ways, origin)
        back = {(end, start): ends for (start, end), ends in ways.items()}
        return cls(back | ways, origin)

    @property
    def cameras(self) -> list[str]:
        """The cameras that it names, by name."""
        return sorted({name for way in self.ways for name in way})

    def times(self, names: Sequence[str]) -> TravelTimes:
        """The times `[C, C]` between the cameras with these names; unknown where it has none.

        >>> table = TravelTable.of([("door", "yard", 30, 90)], "given")
        >>> table.times(["yard", "hall", "door"]).least
        array([[-inf, -inf,  30.],
               [-inf, -inf, -inf],
               [ 30., -inf, -inf]])
        """
        times, place = TravelTimes.unknown(len(names)), {name: n for n, name in enumerate(names)}
        for (start, end), (least, most) in self.ways.items():
            if start in place and end in place:
                times.least[place[start], place[end]] = least
                times.most[place[start], place[end]] = most
        return times


def read_travel_table(path: Path) -> TravelTable:
    """Read the table of a user; InputError says what is wrong with it."""
    if path.suffix not in TABLE_SUFFIXES:
        raise InputError(f"{path}: travel times are a file in {' or '.join(TABLE_SUFFIXES)}")
    check_file(path)
    try:
        table = _read(path)
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from error
    if missing := [name for name in ("from", "to", "least") if name not in table.column_names]:
        raise InputError(
            f"{path} has no column {' or '.join(missing)}: travel times have the columns from, to,"
            " least and most"
        )
    try:
        columns = {
            name: table[name].cast(kind).to_pylist()
            for name, kind in _COLUMNS.items()
            if name in table.column_names
        }
        for name in ("from", "to", "least"):
            if None in columns[name] or "" in columns[name]:
                row = next(n for n, value in enumerate(columns[name], 1) if value in (None, ""))
                raise InputError(f"{path}: row {row} has no value in the column {name}")
        most = [inf if value is None else value for value in columns.get("most", [])]
        most = most or [inf] * len(table)
        rows = zip(columns["from"], columns["to"], columns["least"], most, strict=True)
        return TravelTable.of(rows, str(path))
    except InputError:
        raise
    except (ValueError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: {why(error)}") from error


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    kinds = pa_csv.ConvertOptions(column_types=_COLUMNS, strings_can_be_null=True)
    return pa_csv.read_csv(path, convert_options=kinds)


def write_travel_times(
    gallery: Gallery,
    table: TravelTable,
    pairs: Mapping[tuple[str, str], int],
    about: dict[str, Any],
) -> GalleryPlace:
    """Store the times learned from a version, in place of older ones.

    `pairs` holds the number of pairs of sightings behind each way, and `about` how the times were
    learned.
    """
    ways = [
        {
            "from": start,
            "to": end,
            "least": None if isinf(least) else least,
            "most": None if isinf(most) else most,
            "reachable": not isinf(least),
            "pairs": pairs.get((start, end), 0),
        }
        for (start, end), (least, most) in sorted(table.ways.items())
    ]
    told = {
        "regallery_travel_times": _FORMAT,
        "version": gallery.version,
        "fingerprint": gallery.fingerprint,
        "learned_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "ways": ways,
    }
    text = json.dumps(told, indent=2, allow_nan=False) + "\n"
    folder = root_of(gallery.location) / storage.CALIBRATIONS_FOLDER
    storage.make_folder(folder)
    path = folder / f"{storage.version_name(gallery.version)}{_SUFFIX}"
    storage.drop_cut_off(folder, path.name)
    checksums.write_recorded(path, lambda temporary: temporary.write_text(text))
    return path


def read_learned_times(gallery: Gallery) -> TravelTable | None:
    """The times learned from this version, or from the latest one before it; None if none were.

    Raise `GalleryDamagedError` for a file that is missing or has changed.
    """
    folder = root_of(gallery.location) / storage.CALIBRATIONS_FOLDER
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names |= checksums.recorded(folder)  # so that a deleted one is noticed
    versions = [
        int(number)
        for name in names
        if name.endswith(_SUFFIX) and (number := name.removesuffix(_SUFFIX)).isdigit()
    ]
    version = max((each for each in versions if each <= gallery.version), default=None)
    if version is None:
        return None
    path = folder / f"{storage.version_name(version)}{_SUFFIX}"
    data = checksums.read_recorded(path, "learn the travel times again")
    try:
        told = parse_json(data or b"")
        if told["regallery_travel_times"] != _FORMAT:
            raise ValueError("another format")
        rows = [
            (
                way["from"],
                way["to"],
                way["least"] if way["reachable"] else inf,
                inf if way["most"] is None else way["most"],
            )
            for way in told["ways"]
        ]
        return TravelTable.of(rows, f"learned of version {version}", both_ways=False)
    except (ValueError, KeyError, TypeError) as error:
        raise GalleryDamagedError(
            f"{path}: the travel times cannot be read ({error}); delete it and learn them again"
        ) from error


def named_times(names: Sequence[str], times: TravelTimes, origin: str) -> TravelTable:
    """The table of the limits between cameras with these names."""
    ways = {
        (names[i], names[j]): (float(times.least[i, j]), float(times.most[i, j]))
        for i, j in zip(*(each.tolist() for each in np.nonzero(times.is_known)), strict=True)
    }
    return TravelTable(ways, origin)
