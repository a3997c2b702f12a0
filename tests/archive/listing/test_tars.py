"""Tars: read member by member, in place, by offset."""

import io
import tarfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.archive.faults import ReadError
from pipeline.archive.listing import tars
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import list_source
from pipeline.archive.locations import reach_file
from pipeline.errors import InputError
from tests.archive.sources import paths, rejects

BLOCK = tarfile.BLOCKSIZE
LONG = "north/" + "x" * 150 + "/0001_c1s1_000001_00.jpg"


def save_tar(path: Path, members, format_=tarfile.PAX_FORMAT, mtime=1_769_854_530) -> Path:
    """A tar of (name, bytes) or of TarInfo without bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format_) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            tar.addfile(info, io.BytesIO(data))
    return path


def save_header(path: Path, **fields) -> Path:
    """A tar of one member of 5 bytes whose header tells something else."""
    info = tarfile.TarInfo("1.jpg")
    info.size = 5
    for name, value in fields.items():
        setattr(info, name, value)
    header = info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(header + b"bytes".ljust(BLOCK, b"\0") + bytes(2 * BLOCK))
    return path


@contextmanager
def little_memory():
    """A block in which Python's peak memory must stay small."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def save_sparse(path, header, size):
    """Append a header and `size` bytes of zeros that take no room on the disk, nor in time."""
    with path.open("ab") as file:
        file.write(header)
        file.truncate(file.tell() + size)


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(listing):
    """The bytes of every image, once by its offset and once by its name alone."""
    rows = listing.images.to_pylist()
    by_offset = [
        read_image(listing.root, row["path"], (row["offset"], row["size"])) for row in rows
    ]
    assert by_offset == [read_image(listing.root, row["path"]) for row in rows]
    return by_offset


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_images_of_a_folder_called_like_the_tar(tmp_path, format_):
    names = [
        "0002_c1s1_000451_03.jpg",
        "./a//0003_c2s1_000007_03.jpg",
        "/b/0004_c3s1_000008_03.jpg",
    ]
    if format_ != tarfile.USTAR_FORMAT:
        names += [LONG]
    save_tar(tmp_path / "x" / "day.tar", [(n, n.encode()) for n in names], format_)
    listing = list_source(str(tmp_path), "market1501")
    expected = {f"x/day.tar#{n.removeprefix('./').removeprefix('/').replace('//', '/')}": n
                for n in names}  # fmt: skip
    assert paths(listing) == sorted(expected)
    assert [data.decode() for data in read(listing)] == [expected[p] for p in paths(listing)]
    assert listing.images["identity"].to_pylist()[:3] == [2, 3, 4]
    row = listing.images.to_pylist()[0]
    assert (row["size"], row["mtime"].timestamp()) == (len(names[0]), 1_769_854_530)


def test_files_and_tars_stand_in_one_source(tmp_path):
    save_tar(tmp_path / "north.tar", [("7/a.jpg", b"12"), ("8/b.jpg", b"3")])
    (tmp_path / "south" / "7").mkdir(parents=True)
    (tmp_path / "south" / "7" / "a.jpg").write_bytes(b"4")
    listing = list_source(str(tmp_path), "image-folder")
    assert paths(listing) == ["north.tar#7/a.jpg", "north.tar#8/b.jpg", "south/7/a.jpg"]
    assert listing.images["camera"].to_pylist() == ["north", "north", "south"]
    assert listing.images["offset"].to_pylist()[2] is None
    assert read_image(listing.root, "north.tar#8/b.jpg") == b"3"


def test_a_tar_alone_is_a_source_whose_layout_begins_inside(tmp_path):
    tar = save_tar(tmp_path / "day.tar", [("north/7/a.jpg", b"12")])
    listing = list_source(str(tar), "{camera}/{identity}/{any}.jpg")
    assert (listing.root, paths(listing)) == (str(tmp_path), ["day.tar#north/7/a.jpg"])
    assert listing.images["camera"].to_pylist() == ["north"]
    assert read(listing) == [b"12"]


def test_a_remote_tar_is_read_like_a_local_one(tmp_path):
    tar = save_tar(tmp_path / "a#1.tar", [("7/a.jpg", b"12"), ("8/b.jpg", b"3" * 600)])
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe("/src/x/a#1.tar", tar.read_bytes())
    listing = list_source("memory://src")
    assert paths(listing) == ["x/a#1.tar#7/a.jpg", "x/a#1.tar#8/b.jpg"]
    assert read(listing) == [b"12", b"3" * 600]
    alone = list_source("memory://src/x/a#1.tar")
    assert (alone.root, paths(alone)[0]) == ("memory://src/x", "a#1.tar#7/a.jpg")
    assert read(alone) == read(listing)
    memory.store.clear()


def test_what_is_no_image_is_counted(tmp_path):
    folder, pipe = tarfile.TarInfo("d"), tarfile.TarInfo("p.jpg")
    folder.type, pipe.type = tarfile.DIRTYPE, tarfile.FIFOTYPE
    members = [folder, pipe, ("a.jpg", b"1"), ("b.txt", b"2"), (".c/d.jpg", b"3"), ("e.tar", b"4")]
    save_tar(tmp_path / "a.tar", members)
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.tar#a.jpg"]
    assert listing.skipped == {"(hidden)": 1, "(special)": 1, ".tar": 1, ".txt": 1}


def test_of_members_of_one_name_the_last_counts(tmp_path):
    save_tar(tmp_path / "a.tar", [("a.jpg", b"old"), ("b.jpg", b"1"), ("./a.jpg", b"newer")])
    listing = list_source(str(tmp_path))
    assert dict(zip(paths(listing), read(listing), strict=True)) == {
        "a.tar#a.jpg": b"newer",
        "a.tar#b.jpg": b"1",
    }
    assert listing.skipped == {"(outdated)": 1}


def test_links_are_the_images_that_they_lead_to(tmp_path):
    members = [
        ("x/a.jpg", b"one"),
        link("x/b.jpg", "x/a.jpg", tarfile.LNKTYPE),
        link("y/c.jpg", "../x/a.jpg"),
        link("y/d.jpg", "b.jpg"),
    ]
    save_tar(tmp_path / "a.tar", members)
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.tar#x/a.jpg", "a.tar#x/b.jpg", "a.tar#y/c.jpg"]
    assert read(listing) == [b"one"] * 3
    assert rejects(listing) == {"a.tar#y/d.jpg": "missing"}


def test_sparse_members_are_refused(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"GNU.sparse.map": "0,1,5,1", "GNU.sparse.size": "9"}
    info.size = 2
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"xy"))
        tar.addfile(tarfile.TarInfo("b.jpg"))
    listing = list_source(str(tmp_path))
    assert rejects(listing) == {"a.tar#a.jpg": "unsupported", "a.tar#b.jpg": "empty"}


def test_a_name_that_is_no_utf8_is_a_reject(tmp_path):
    save_tar(tmp_path / "a.tar", [("caf\udce9.jpg", b"1"), ("b.jpg", b"2")], tarfile.GNU_FORMAT)
    listing = list_source(str(tmp_path))
    assert rejects(listing) == {"a.tar#caf\\xe9.jpg": "bad-name"}


NAMES = [f"{number}.jpg" for number in range(4)]


@pytest.fixture
def four(tmp_path):
    """A tar of four members of two blocks each: header, then bytes."""
    return save_tar(tmp_path / "a.tar", [(name, name.encode()) for name in NAMES])


def kept(listing):
    return [path.partition("#")[2] for path in paths(listing)]


def test_a_tar_cut_in_a_member_gives_those_before(four):
    four.write_bytes(four.read_bytes()[: 2 * 2 * BLOCK + BLOCK + 3])
    listing = list_source(str(four.parent))
    assert kept(listing) == NAMES[:2]
    assert rejects(listing) == {"a.tar": "damaged-tar", "a.tar#2.jpg": "truncated"}
    assert "after 3 images" in listing.rejects["detail"][0].as_py()
    assert read(listing) == [name.encode() for name in NAMES[:2]]


@pytest.mark.parametrize("length", [4, 4 * BLOCK + 100, 4 * BLOCK])
def test_a_tar_cut_between_members_is_told(four, length):
    four.write_bytes(four.read_bytes()[:length])
    listing = list_source(str(four.parent))
    assert kept(listing) == NAMES[: length // BLOCK // 2]
    assert rejects(listing) == {"a.tar": "damaged-tar"}


def test_a_damaged_header_hides_what_comes_after_and_is_told(four):
    data = bytearray(four.read_bytes())
    data[2 * 2 * BLOCK + 7] ^= 1
    four.write_bytes(data)
    listing = list_source(str(four.parent))
    assert kept(listing) == NAMES[:2]
    assert rejects(listing) == {"a.tar": "damaged-tar"}
    assert "from byte 2,048 on" in listing.rejects["detail"][0].as_py()


def test_what_stands_behind_the_end_mark_is_told(four):
    four.write_bytes(four.read_bytes() * 2)  # two tars joined
    listing = list_source(str(four.parent))
    assert kept(listing) == NAMES
    assert rejects(listing) == {"a.tar": "damaged-tar"}


def test_a_tar_without_members_holds_nothing(tmp_path):
    save_tar(tmp_path / "a.tar", [])
    (tmp_path / "b.jpg").write_bytes(b"x")
    listing = list_source(str(tmp_path))
    assert (paths(listing), rejects(listing)) == (["b.jpg"], {})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 8 * BLOCK - 1), st.integers(1, 255))
def test_one_wrong_byte_never_hides_an_image_in_silence(four, place, change):
    """Every image is listed under its name or a reject tells of it or of the tar."""
    whole = four.read_bytes()
    data = bytearray(whole)
    data[place] ^= change
    four.write_bytes(data)
    listing = list_source(str(four.parent))
    four.write_bytes(whole)
    assert kept(listing) == NAMES or rejects(listing)


def test_tars_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.tar").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.tar").write_bytes(b"no tar")
    for suffix in tars.COMPRESSED_SUFFIXES:
        (tmp_path / f"d{suffix}").write_bytes(b"x")
    listing = list_source(str(tmp_path))
    told = rejects(listing)
    assert (told.pop("b.tar"), told.pop("c.tar")) == ("unreadable-tar", "damaged-tar")
    assert set(told.values()) == {"compressed-tar"}
    assert len(told) == len(tars.COMPRESSED_SUFFIXES)
    with pytest.raises(InputError, match=r"d\.tgz: members of a compressed tar cannot be reached"):
        list_source(str(tmp_path / "d.tgz"))


def test_a_lost_connection_is_no_reject(tmp_path, monkeypatch, four):
    def lost(*_):
        raise ConnectionResetError

    monkeypatch.setattr(tars, "_members", lost)
    with pytest.raises(ConnectionResetError):
        list_source(str(tmp_path))


def test_a_file_named_like_a_member_is_told(tmp_path, four):
    (tmp_path / "a.tar#0.jpg").write_bytes(b"x")
    listing = list_source(str(tmp_path))
    assert kept(listing) == NAMES
    assert rejects(listing) == {"a.tar#0.jpg": "bad-name"}


def test_a_member_that_is_gone_is_missing(four):
    with pytest.raises(ReadError, match="the tar has no such image"):
        read_image(str(four.parent), "a.tar#9.jpg")
    with pytest.raises(ReadError, match="the file does not exist") as caught:
        read_image(str(four.parent), "b.tar#9.jpg")
    assert caught.value.reason == "missing"


def test_a_tar_that_was_made_anew_is_not_read_at_old_places(four):
    listing = list_source(str(four.parent))
    row = listing.images.to_pylist()[2]
    save_tar(four, [("x.txt", b"x" * 700), *((name, name.encode() * 9) for name in NAMES)])
    with pytest.raises(ReadError, match="has changed since it was listed"):
        read_image(listing.root, row["path"], (row["offset"], row["size"]))
    assert read_image(listing.root, row["path"]) == b"2.jpg" * 9  # the headers are read anew
    save_tar(four, [(name, name.encode() * 2) for name in NAMES])  # headers where they were
    with pytest.raises(ReadError, match="has changed since it was listed"):
        read_image(listing.root, row["path"], (row["offset"], row["size"]))
    four.write_bytes(four.read_bytes()[: BLOCK + 100])
    with pytest.raises(ReadError, match="has changed since it was listed"):
        read_image(listing.root, row["path"], (row["offset"], row["size"]))


def test_a_tar_cut_since_it_was_listed_is_told(four):
    row = list_source(str(four.parent)).images.to_pylist()[3]
    four.write_bytes(four.read_bytes()[: row["offset"] + 2])
    with pytest.raises(ReadError, match="the tar ends before the member does"):
        read_image(str(four.parent), row["path"], (row["offset"], row["size"]))


def test_a_manifest_names_members(tmp_path, four):
    (tmp_path / "m.csv").write_text(
        "path,identity\na.tar#2.jpg,2\na.tar#9.jpg,9\nb.tar#0.jpg,1\na.tar#0.jpg,0\n"
    )
    listing = list_source(str(tmp_path / "m.csv"))
    assert paths(listing) == ["a.tar#0.jpg", "a.tar#2.jpg"]
    assert rejects(listing) == {"a.tar#9.jpg": "missing", "b.tar#0.jpg": "missing"}
    assert read(listing) == [b"0.jpg", b"2.jpg"]
    whole = list_source(str(four))
    pq.write_table(whole.images, tmp_path / "m.parquet")
    assert list_source(str(tmp_path / "m.parquet")).images.equals(whole.images)


def test_a_manifest_of_a_tar_that_cannot_be_read(tmp_path):
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "m.csv").write_text("path\na.tar#2.jpg\n")
    listing = list_source(str(tmp_path / "m.csv"))
    assert rejects(listing) == {"a.tar#2.jpg": "unreadable"}


@pytest.mark.parametrize("mtime", ["nan", "inf", "1e30", "-1e30"])
def test_a_time_that_is_no_date_is_unknown(tmp_path, mtime):
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"mtime": mtime}
    save_tar(tmp_path / "a.tar", [info, ("2.jpg", b"bytes")])
    listing = list_source(str(tmp_path))
    assert listing.rejects["mtime"].to_pylist() == [None]
    assert listing.images["mtime"].null_count == 0
    save_header(tmp_path / "a.tar", mtime=2**70)
    assert list_source(str(tmp_path)).images["mtime"].to_pylist() == [None]


@pytest.mark.parametrize("size", [-5, -BLOCK, -2 * BLOCK])
def test_a_negative_size_is_damage(tmp_path, size):
    """`tarfile` would read the same header again, or one before it, without end."""
    save_header(tmp_path / "a.tar", size=size)
    save_tar(tmp_path / "b.tar", [("2.jpg", b"bytes")])
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["b.tar#2.jpg"]
    assert rejects(listing) == {"a.tar": "damaged-tar"}


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
def test_headers_of_any_size_take_little_memory(tmp_path, kind):
    path = save_tar(tmp_path / "a.tar", [("1.jpg", b"x")])
    with path.open("rb+") as file:
        file.truncate(2 * BLOCK)  # the first member without the end of the tar
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 3 * 2**30
    save_sparse(path, header.tobuf(tarfile.GNU_FORMAT), header.size)
    with little_memory():
        listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.tar#1.jpg"]
    (fault,) = listing.rejects.to_pylist()
    assert (fault["path"], fault["reason"]) == ("a.tar", "damaged-tar")
    assert "the headers of the member at byte 1,024 have more than 1,048,576" in fault["detail"]


def test_a_map_of_pieces_without_an_end_is_a_damaged_tar(tmp_path):
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    info.size = 3 * 2**30
    path = tmp_path / "a.tar"
    save_sparse(path, info.tobuf(tarfile.PAX_FORMAT) + b"9\n8", info.size)
    with little_memory():
        (fault,) = tars.scan(*reach_file("", str(path)), "a.tar").faults
    assert fault.reason == "damaged-tar"
    assert "the headers of the member at byte 0 make no sense" in fault.detail


def test_headers_upon_headers_are_a_damaged_tar(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    path = save_tar(tmp_path / "a.tar", [("1.jpg", b"x")])
    with path.open("rb+") as file:
        file.truncate(2 * BLOCK)
    save_sparse(path, info.tobuf(tarfile.GNU_FORMAT) * 1500, 0)
    listing = list_source(str(tmp_path))
    (fault,) = listing.rejects.to_pylist()
    assert "the member at byte 1,024 has too many headers" in fault["detail"]


def test_a_member_of_too_many_bytes_is_refused_before_it_is_read(tmp_path):
    info = tarfile.TarInfo("1.jpg")
    info.size = 3 * 2**30
    path = tmp_path / "a.tar"
    save_sparse(path, info.tobuf(tarfile.GNU_FORMAT), info.size + 2 * BLOCK)
    listing = list_source(str(tmp_path))
    (row,) = listing.images.to_pylist()
    for place in ((row["offset"], row["size"]), None):
        with little_memory(), pytest.raises(ReadError, match="3,221,225,472 bytes are more"):
            read_image(listing.root, row["path"], place)
