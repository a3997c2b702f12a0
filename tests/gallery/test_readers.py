"""What other readers find in a gallery: each reads features, hashes, identity, camera and time to
the byte, as docs/gallery.md says. One that is not installed is skipped.
"""

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from tests.gallery.making import new_gallery, rejects_table, unit_rows, unit_vectors

_NAMES = ("row_id", "identity", "camera", "captured_at", "content_hash", "feature")
_COUNT = 24


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Rows without and with labels; every fourth feature and every third hash ends in zeros."""
    gallery = new_gallery(tmp_path_factory.mktemp("readers") / "g")
    vectors = unit_vectors(range(_COUNT))
    vectors[::4] = np.eye(1, gallery.dimension)
    start = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    columns = {
        "identity": [None if n % 5 == 0 else n - 1 for n in range(_COUNT)],
        "camera": [None if n % 7 == 0 else f"c{n % 3}" for n in range(_COUNT)],
        "captured_at": [None if n % 6 == 0 else start + timedelta(days=n) for n in range(_COUNT)],
        "content_hash": [bytes([n + 1] * 12 + [0 if n % 3 == 0 else 9] * 4) for n in range(_COUNT)],
    }
    rows = unit_rows(gallery.target, list(range(_COUNT)), [f"{n}.jpg" for n in range(_COUNT)])
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        field = rows.schema.field(place)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    place = rows.schema.get_field_index("feature")
    encoded = encode_features(vectors, gallery.dtype)
    rows = rows.set_column(place, rows.schema.field(place), encoded)
    unit = write_unit(gallery.target, "u0", range(_COUNT), rows, rejects_table([]))
    return gallery.commit([unit], run_id="first")


def stored(gallery):
    """What the gallery itself gives, a dictionary of each row."""
    rows = gallery.rows(list(_NAMES[:-1])).to_pylist()
    features = gallery.array()
    return [row | {"feature": each.tobytes()} for row, each in zip(rows, features, strict=True)]


def told(rows):
    """Rows of a reader in the same form: times of UTC, bytes as `bytes`."""
    return [
        {
            **{name: row[name] for name in ("row_id", "identity", "camera")},
            "captured_at": row["captured_at"] and row["captured_at"].astimezone(UTC),
            "content_hash": bytes(row["content_hash"]),
            "feature": bytes(row["feature"]),
        }
        for row in sorted(rows, key=lambda row: row["row_id"])
    ]


def test_pandas(gallery):
    pytest.importorskip("pandas")
    frame = DeltaTable(gallery.location).to_pandas(columns=list(_NAMES))
    assert told(pa.Table.from_pandas(frame).to_pylist()) == stored(gallery)


def test_polars(gallery):
    polars = pytest.importorskip("polars")
    assert told(polars.scan_delta(gallery.location).select(_NAMES).collect().to_dicts()) == stored(
        gallery
    )


def test_duckdb(gallery):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.read_parquet(DeltaTable(gallery.location).file_uris())
        assert told(found.select(", ".join(_NAMES)).to_arrow_table().to_pylist()) == stored(gallery)


def test_datafusion(gallery):
    datafusion = pytest.importorskip("datafusion")
    context = datafusion.SessionContext()
    context.register_dataset("gallery", DeltaTable(gallery.location).to_pyarrow_dataset())
    found = context.sql(f"select {', '.join(_NAMES)} from gallery")
    assert told(found.to_arrow_table().to_pylist()) == stored(gallery)


def test_daft(gallery):
    daft = pytest.importorskip("daft", minversion="0.7")  # older ones fail with deltalake 1.6
    found = daft.read_deltalake(gallery.location).select(*_NAMES)
    assert told(found.to_arrow().to_pylist()) == stored(gallery)


def test_lancedb(gallery, tmp_path):
    """It keeps tables of its own: one that is made of a gallery's has all bytes, and searches."""
    lancedb = pytest.importorskip("lancedb")
    rows = DeltaTable(gallery.location).to_pyarrow_table(columns=list(_NAMES))
    numbers = np.frombuffer(b"".join(rows["feature"].to_pylist()), "<f4")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), gallery.dimension)
    copied = lancedb.connect(tmp_path).create_table("rows", rows.append_column("vector", vectors))
    assert told(copied.to_arrow().to_pylist()) == stored(gallery)
    query = gallery.array()[3]
    found = copied.search(query).distance_type("dot").limit(1).to_arrow()
    assert found["row_id"].to_pylist() == [3]


@pytest.mark.slow
def test_spark(gallery):
    """Without the Delta extension, which is no Python package: the log tells the files."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = spark.getOrCreate()
    try:
        files = DeltaTable(gallery.location).file_uris()
        rows = session.read.parquet(*files).select(*_NAMES).collect()
    finally:
        session.stop()
    assert told([row.asDict() for row in rows]) == stored(gallery)


def test_clickhouse_reads_bytes_whole_where_it_is_told_their_number(gallery, monkeypatch):
    """It cuts zero bytes off the end of what the log calls `binary`."""
    chdb = pytest.importorskip("chdb")
    monkeypatch.chdir("/")  # it reads only below the working folder
    size = gallery.dimension * 4

    def read(feature, content_hash):
        lines = chdb.query(
            f"select hex({feature}), hex({content_hash}), identity, camera,"
            " toUnixTimestamp64Micro(captured_at)"
            f" from deltaLakeLocal('{gallery.location}') order by row_id",
            "TSV",
        )
        return [line.split("\t") for line in lines.bytes().decode().splitlines()]

    def cell(value):
        return "\\N" if value is None else str(value)

    def micros(time):
        return time and (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)

    wanted = [
        [
            row["feature"].hex().upper(),
            row["content_hash"].hex().upper(),
            *map(cell, (row["identity"], row["camera"], micros(row["captured_at"]))),
        ]
        for row in stored(gallery)
    ]
    assert read(f"toFixedString(feature, {size})", "toFixedString(content_hash, 16)") == wanted
    short = [len(row[0]) < 2 * size for row in read("feature", "content_hash")]
    assert short == [row["feature"].endswith(b"\0") for row in stored(gallery)]
