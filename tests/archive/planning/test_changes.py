"""A listing held against a gallery, by size and time, and by bytes where these are in doubt."""

import datetime as dt
import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.listing.files import PLACES, UNSEEN
from pipeline.archive.listing.source import Listing, list_source
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.archive.planning.changes import compare, settle_doubtful
from pipeline.large_tables import ByPath
from pipeline.schemas import REJECT_SCHEMA, SEEN_SCHEMA
from tests.archive.listing.test_tars import save_tar
from tests.archive.sources import tables_of

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = T0 + dt.timedelta(days=1)


def hash_of(data):
    return hashlib.md5(data).digest()


def image(path, size=10, mtime=T0, identity=1):
    return {"path": path, "size": size, "mtime": mtime, "identity": identity, "camera": "1"}


def reject(path, reason="truncated", size=10, mtime=T0):
    return {"path": path, "size": size, "mtime": mtime, "reason": reason, "detail": ""}


def listing(images, rejects=(), told=()):
    return Listing(
        "/nowhere",
        pa.Table.from_pylist(list(images), MANIFEST_SCHEMA).sort_by("path"),
        pa.Table.from_pylist(list(rejects), REJECT_SCHEMA),
        {},
        told,
    )


def against(listed, rows, rejects, **settings):
    return compare(listed, ByPath.of(rows), rejects, **settings)


def held(images):
    """A gallery's rows, numbered from 100."""
    table = pa.Table.from_pylist(list(images), MANIFEST_SCHEMA)
    hashes = pa.array([hash_of(path.encode()) for path in table["path"].to_pylist()], pa.binary())
    ids = pa.array(range(100, 100 + len(table)), pa.int64())
    return table.append_column("row_id", ids).append_column("content_hash", hashes)


def rejected(*rejects):
    return pa.Table.from_pylist(list(rejects), REJECT_SCHEMA)


def paths(table):
    return table["path"].to_pylist()


def test_a_listing_is_held_against_the_gallery():
    listed = listing([image("a"), image("b"), image("c"), image("d", 11), image("e"), image("f")])
    rows = held([image("x"), image("a"), image("b"), image("d")])
    told = rejected(reject("e"), reject("f", size=9), reject("z"))
    changes = against(listed, rows, told)
    assert paths(changes.new) == ["c", "f"]  # f was rejected, and has changed since
    assert paths(changes.changed) == ["d"]
    assert paths(changes.new_or_changed.table()) == ["c", "d", "f"]
    assert (len(changes.doubtful), changes.unchanged) == (0, 3)
    assert changes.missing.tolist() == [100]
    assert (changes.missing_rejects, changes.mended) == (["z"], [])


def test_another_time_alone_is_doubtful_until_the_bytes_are_read(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "b").write_bytes(b"B")
    images = [image("a", 1, LATER), image("b", 1, LATER), image("c", 1), image("gone", 1, LATER)]
    rows = held([image(name, 1) for name in ("a", "b", "c", "gone")])
    changes = against(listing(images), rows, rejected())
    assert paths(changes.doubtful) == ["a", "b", "gone"]
    assert (len(changes.changed), changes.unchanged) == (0, 1)
    settled = settle_doubtful(changes, str(tmp_path), hash_of)
    assert (paths(settled.changed), settled.unchanged) == (["b", "gone"], 2)
    assert settled.changed.schema == MANIFEST_SCHEMA
    assert settled.touched.to_pylist() == [{"row_id": 100, "mtime": LATER}]
    seen = settled.touched
    assert paths(against(listing(images), rows, rejected(), seen=seen).doubtful) == ["b", "gone"]
    back = against(listing([image("a", 1)]), rows, rejected(), seen=seen)
    assert paths(back.doubtful) == ["a"]  # the time is the first one again: nobody knows


def test_verifying_reads_everything_of_the_same_size(tmp_path):
    for name in "abd":
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "b").write_bytes(b"B")  # of the same size and time
    images = [image("a", 1), image("b", 1), image("c", 2), image("d", 1, LATER)]
    rows = held([image(name, 1) for name in "abcd"])
    changes = against(listing(images), rows, rejected(), verify=True)
    assert (paths(changes.doubtful), changes.unchanged) == (["a", "b", "d"], 0)
    settled = settle_doubtful(changes, str(tmp_path), hash_of)
    assert (paths(settled.changed), settled.unchanged) == (["b", "c"], 2)
    assert settled.touched["row_id"].to_pylist() == [103]


def test_members_of_tars_are_compared_in_place(tmp_path):
    save_tar(tmp_path / "a.tar", [("1.jpg", b"a.tar#1.jpg"), ("2.jpg", b"a.tar#?.jpg")])
    listed = list_source(str(tmp_path))
    rows = held([image(path, 11) for path in paths(listed.images)])
    settled = settle_doubtful(against(listed, rows, rejected()), listed.root, hash_of)
    assert paths(settled.changed) == ["a.tar#2.jpg"]


def test_images_whose_time_is_unknown_are_told_apart_by_size():
    images = [image("a", mtime=None), image("b", 11, None)]
    rows = held([image("a", mtime=None), image("b", mtime=None)])
    changes = against(listing(images), rows, rejected())
    assert (paths(changes.changed), changes.unchanged, len(changes.doubtful)) == (["b"], 1, 0)


def test_labels_that_a_manifest_told_count_and_others_do_not():
    images = [image("a", identity=2), image("b")]
    rows = held([image("a"), image("b")])
    assert against(listing(images), rows, rejected()).unchanged == 2
    told = against(listing(images, told=("identity",)), rows, rejected())
    assert (paths(told.changed), told.unchanged) == (["a"], 1)


def test_an_image_that_was_gone_when_it_was_to_be_read_is_new_when_it_is_back():
    told = rejected(reject("a", "missing"), reject("b"))
    changes = against(listing([image("a"), image("b")]), held([]), told)
    assert (paths(changes.new), changes.unchanged) == (["a"], 1)


def test_a_row_whose_image_has_become_a_reject_is_not_missing():
    listed = listing([image("a")], [reject("b", "empty")])
    changes = against(listed, held([image("a"), image("b"), image("c")]), rejected(reject("b")))
    assert changes.missing.tolist() == [102]
    assert changes.missing_rejects == []


def test_nothing_is_missing_where_nobody_can_look():
    rejects = [
        reject("b/", "unreadable-folder"),
        reject("c.tar", "damaged-tar"),
        reject("d.tar", "unreadable-tar"),
        reject("e.tar.gz", "compressed-tar"),
    ]
    rows = held([image(p) for p in ("b/1", "bb/1", "c.tar#1", "c.tarx", "d.tar#1", "e.tar#1")])
    told = rejected(reject("b/2"), reject("x/2"))
    changes = against(listing([image("a")], rejects), rows, told)
    assert changes.missing.tolist() == [101, 103, 105]
    assert changes.missing_rejects == ["x/2"]


@pytest.mark.parametrize("reason", PLACES)
def test_a_folder_or_tar_that_is_readable_again_is_mended(reason):
    changes = against(listing([image("a")]), held([]), rejected(reject("b", reason), reject("c")))
    assert (changes.mended, changes.missing_rejects) == (["b"], ["c"])
    assert set(UNSEEN) < set(PLACES)


def test_an_empty_gallery_knows_nothing():
    changes = against(listing([image("a"), image("b")]), held([]), rejected())
    assert paths(changes.new) == ["a", "b"]
    assert settle_doubtful(changes, "/nowhere", hash_of).new.equals(changes.new)
    assert changes.touched.schema == SEEN_SCHEMA


sources = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 2), st.booleans()))


@given(sources, sources, st.sets(st.sampled_from("abcdef")), st.booleans(), st.booleans())
def test_every_image_is_new_changed_unchanged_or_doubtful(now, before, refused, verify, mapped):
    def images(source):
        return [image(p, size, LATER if late else T0) for p, (size, late) in source.items()]

    rows = {path: told for path, told in before.items() if path not in refused}
    rejects = rejected(*(reject(each) for each in sorted(refused)))
    with tables_of(2 if mapped else None):
        changes = against(listing(images(now)), held(images(rows)), rejects, verify=verify)
    doubtful = set(paths(changes.doubtful))
    assert set(paths(changes.new)) == {
        path
        for path, told in now.items()
        if path not in rows and (path not in refused or told != (10, False))
    }
    assert set(paths(changes.changed)) == {
        path for path, (size, _) in now.items() if path in rows and rows[path][0] != size
    }
    assert doubtful == {
        path
        for path, told in now.items()
        if path in rows and rows[path][0] == told[0] and (verify or rows[path] != told)
    }
    known = len(changes.new) + len(changes.changed) + changes.unchanged + len(doubtful)
    assert known == len(now)
    missing = {list(rows)[number - 100] for number in changes.missing.tolist()}
    assert missing == rows.keys() - now.keys()
    assert set(changes.missing_rejects) == refused - now.keys()
