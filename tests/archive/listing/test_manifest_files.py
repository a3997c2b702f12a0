import logging
from datetime import UTC, date, datetime, timedelta, timezone

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.archive.layouts.labels import identity_number
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.manifest_files import read_manifest
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError

LOCAL = fsspec.filesystem("file")
WHEN = datetime(2026, 1, 31, 10, 15, 30, tzinfo=UTC)


@pytest.fixture
def csv(tmp_path):
    def write(text, **settings):
        path = tmp_path / "m.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_manifest(LOCAL, str(path), LabelSettings(**settings))

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(table, **settings):
        path = tmp_path / "m.parquet"
        pq.write_table(pa.table(table), path)
        return read_manifest(LOCAL, str(path), LabelSettings(**settings))

    return write


def two(values, type_=None):
    return {"path": ["a.jpg", "b.jpg"], "identity": pa.array(values, type_)}


def test_every_column_of_a_csv_gets_its_type(csv):
    table = csv(
        "frame,path,identity,camera,captured_at\n15,a.jpg,0007,01,2026-01-31T10:15:30\n,b.jpg,,,\n"
    )
    assert table.to_pylist() == [
        {"path": "a.jpg", "identity": 7, "camera": "1", "captured_at": WHEN, "frame": 15},
        {"path": "b.jpg", "identity": None, "camera": None, "captured_at": None, "frame": None},
    ]
    for name in table.column_names:
        assert table.schema.field(name).type == MANIFEST_SCHEMA.field(name).type


def test_paths_alone_are_a_manifest(csv, parquet):
    assert csv("path\na.jpg\n").to_pylist() == [{"path": "a.jpg"}]
    assert parquet({"path": ["a.jpg"]}).to_pylist() == [{"path": "a.jpg"}]


def test_paths_are_normalized_but_not_urls(csv):
    table = csv("path\n./a//b.jpg\nx/../c.jpg\n../d.jpg\n/e/f.jpg\ns3://b/./g.jpg\n")
    assert table["path"].to_pylist() == [
        *("a/b.jpg", "c.jpg", "../d.jpg", "/e/f.jpg", "s3://b/./g.jpg")
    ]


def test_quoted_paths_and_a_byte_order_mark_are_read(csv):
    assert csv(b'\xef\xbb\xbfpath,camera\n"a,b.jpg","north, gate"\n').to_pylist() == [
        {"path": "a,b.jpg", "camera": "north, gate"}
    ]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([16777216, 16777217], pa.int64()),
        ([16777216, 16777217], pa.uint32()),
        ([16777216, 16777217], pa.float64()),
        (["16777216", "16777217"], pa.string()),
        (["16777216", "16777217.0"], pa.large_string()),
        (["16777216", "16777217"], pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_identities_that_float32_confuses_stay_apart(parquet, values, type_):
    table = parquet(two(values, type_))
    assert table["identity"].to_pylist() == [16777216, 16777217]
    assert table["identity"].type == pa.int64()


def test_a_column_that_pandas_made_float_for_its_gaps_is_read(csv, parquet):
    assert csv("path,identity\na,7.0\nb,\nc,nan\n")["identity"].to_pylist() == [7, None, None]
    assert parquet(two([7.0, np.nan], pa.float64()))["identity"].to_pylist() == [7, None]


def test_float32_identities_are_read_as_far_as_they_are_told_apart(parquet):
    assert parquet(two([7.0, 16777215.0], pa.float32()))["identity"].to_pylist() == [7, 16777215]
    with pytest.raises(
        InputError, match=r"row 2 \(b.jpg\): identity 16777216.*store them as int64"
    ):
        parquet(two([7.0, 16777216.0], pa.float32()))


def test_identities_may_be_names(parquet):
    assert parquet(two(["alice", "-1"]))["identity"].to_pylist() == [identity_number("alice"), -1]


def test_a_column_of_nothing_but_null_is_unknown(parquet):
    assert parquet(two([None, None]))["identity"].to_pylist() == [None, None]
    assert parquet(two([None, None]))["identity"].type == pa.int64()


def test_a_camera_has_one_name_however_it_is_spelled(csv, parquet):
    table = csv("path,camera\na,007\nb,NA\nc, x \nd,7.0\ne,c7\nf,?\n")
    assert table["camera"].to_pylist() == ["7", None, "x", "7", "7", None]
    cameras = parquet({"path": ["a", "b"], "camera": pa.array([3, None], pa.int8())})["camera"]
    assert cameras.to_pylist() == ["3", None]
    cameras = parquet({"path": ["a", "b"], "camera": pa.array([3.0, None], pa.float64())})["camera"]
    assert cameras.to_pylist() == ["3", None]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([WHEN.replace(tzinfo=None)], pa.timestamp("ns")),
        pa.array([WHEN], pa.timestamp("s", "UTC")),
        pa.array([WHEN.astimezone(timezone(timedelta(hours=2)))], pa.timestamp("ms", "+02:00")),
        pa.array(["2026-01-31 10:15:30"]),
        pa.array(["2026-01-31T12:15:30+02:00"]),
        pa.array([int(WHEN.timestamp())]),
        pa.array([int(WHEN.timestamp()) * 1000]),
    ],
)
def test_every_kind_of_time_is_read(parquet, column):
    table = parquet({"path": ["a"], "captured_at": column})
    assert table["captured_at"].to_pylist() == [WHEN]
    assert table["captured_at"].type == pa.timestamp("us", "UTC")


def test_a_date_is_its_midnight(parquet):
    table = parquet({"path": ["a"], "captured_at": [date(2026, 1, 31)]})
    assert table["captured_at"].to_pylist() == [datetime(2026, 1, 31, tzinfo=UTC)]


def test_other_columns_are_named_in_the_log(csv, caplog):
    with caplog.at_level(logging.WARNING):
        table = csv("path,identitiy,split\na,1,query\n")
    assert table.column_names == ["path"]
    assert "columns not read: identitiy, split" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,identity\na.jpg,1\n", "has no column path; it has file, identity"),
        ("path;identity\na.jpg;1\n", "has no column path; it has path;identity"),
        ("path,identity,identity\na.jpg,1,2\n", "two columns are called identity"),
        ("path\n", "has no row"),
        ("", "cannot be read as a table"),
        ("path,identity\na.jpg\n", "cannot be read as a table"),
        (b"path\n\xff.jpg\n", "cannot be read as a table"),
        ("path,identity\na.jpg,1\n,2\n", "row 2 has no path"),
        ("path\na.jpg\nb.jpg\n./a.jpg\n", "1 paths stand more than once, such as a.jpg"),
        ("path,identity\na.jpg,1\nb.jpg,-5\n", r"row 2 \(b.jpg\): identity -5: .*no meaning"),
        ("path,frame\na.jpg,x\n", r"row 1 \(a.jpg\): frame x: it is not a whole number"),
        ("path,frame\na.jpg,1.5\n", "frame 1.5: it is not a whole number"),
        (f"path,frame\na.jpg,{2**63}\n", "does not fit 64 bits"),
        ("path,captured_at\na.jpg,noon\n", "captured_at noon: 'noon' is not a date; write it like"),
    ],
)
def test_a_wrong_csv_is_refused_with_what_is_wrong(csv, text, message):
    with pytest.raises(InputError, match=message):
        csv(text)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": [1, 2]}, "column path is int64, not text"),
        ({"path": ["a"], "identity": [True]}, "column identity is bool, not int64"),
        ({"path": ["a"], "identity": [[1]]}, "column identity is list.*, not int64"),
        ({"path": ["a"], "identity": [1.5]}, "identity 1.5: it is not a whole number"),
        ({"path": ["a"], "identity": [float("inf")]}, "identity inf: "),
        ({"path": ["a"], "captured_at": [1.5]}, "column captured_at is double, not timestamp"),
        ({"path": ["a"], "camera": [b"x"]}, "column camera is binary, not string"),
    ],
)
def test_a_wrong_parquet_is_refused_with_what_is_wrong(parquet, columns, message):
    with pytest.raises(InputError, match=message):
        parquet(columns)


def test_a_parquet_that_is_none_is_refused(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"hello")
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_manifest(LOCAL, str(tmp_path / "m.parquet"))


OML = """label,path,split,is_query
5,a.jpg,validation,True
6,b.jpg,train,False
7,c.jpg,validation,False
"""


def test_columns_of_other_names_are_read(csv, parquet):
    table = csv("pid,file,date,path\n7,a.jpg,2018-10-18,x\n", columns=(
        "identity=pid", "path=file", "captured_at=date"
    ))  # fmt: skip
    assert table.to_pylist() == [
        {"path": "a.jpg", "identity": 7, "captured_at": datetime(2018, 10, 18, tzinfo=UTC)}
    ]
    table = parquet({"path": ["a"], "label": pa.array([7])}, columns=("identity=label",))
    assert table.to_pylist() == [{"path": "a", "identity": 7}]


def test_only_the_rows_that_are_wanted_are_read(csv, parquet):
    table = csv(OML, columns=("identity=label",), only=("split=validation", "is_query=true"))
    assert table.to_pylist() == [{"path": "a.jpg", "identity": 5}]
    columns = {"path": ["a", "b", "c"], "is_query": [True, False, None], "fold": [1, 1, 1]}
    table = parquet(columns, only=("is_query=true", "fold=1"))
    assert table["path"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ("identity=pid",)}, "has no column pid .`columns`.; it has label, path"),
        ({"only": ("fold=1",)}, "has no column fold .`only`.; it has label, path"),
        ({"only": ("split=test",)}, "no row has split=test .`only`.; its values are validation"),
    ],
)
def test_settings_that_do_not_fit_the_manifest_are_refused(csv, settings, message):
    with pytest.raises(InputError, match=message):
        csv(OML, **settings)


@pytest.mark.parametrize("header", ["Identity", "PID", "label", "individual", "name", "person_id"])
def test_a_column_that_looks_like_the_identity_is_named(csv, caplog, header):
    csv(f"path,{header}\na,1\n")
    assert f"has no identity; its column {header} may be meant" in caplog.text
    assert f"`columns` identity={header}" in caplog.text


def test_a_manifest_with_labels_or_without_anything_like_them_is_not_warned_of(csv, caplog):
    csv("path,identity,camera,label\na,1,2,3\n")
    csv("path,split\na,test\n")
    assert "may be meant" not in caplog.text


def test_a_path_of_another_name_is_hinted_at(csv):
    with pytest.raises(InputError, match="its column Path may be meant: give `columns` path=Path"):
        csv("Path,Identity\na,1\n")


def test_identities_that_look_like_numbers_are_named(csv, caplog):
    table = csv('path,identity\na,"1,024"\nb,7.\nc,alice\nd,unknown\n')
    assert table["identity"].to_pylist()[1::2] == [7, None]
    assert "1 identities look like numbers" in caplog.text
    assert "1,024" in caplog.text
    assert "alice" not in caplog.text


def test_people_that_are_counted_from_0_are_stored_plus_1(csv):
    table = csv("path,identity\na,0\nb,1.0\nc,-1\nd,\n", first_identity=0)
    assert table["identity"].to_pylist() == [1, 2, -1, None]


def test_times_without_a_zone_are_those_of_the_zone_that_is_set(csv, parquet):
    noon = WHEN - timedelta(hours=1)
    table = csv("path,captured_at\na,2026-01-31T10:15:30\n", time_zone="Europe/Berlin")
    assert table["captured_at"].to_pylist() == [noon]
    naive = {"path": ["a"], "captured_at": pa.array([WHEN.replace(tzinfo=None)])}
    assert parquet(naive, time_zone="Europe/Berlin")["captured_at"].to_pylist() == [noon]
