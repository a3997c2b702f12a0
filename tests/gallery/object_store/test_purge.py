"""A purge proves that rows are gone from a bucket, or says what the bucket still keeps."""

import builtins

import botocore.session
import pytest
from botocore.config import Config

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.places import root_of
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.purge import is_under_way, purge
from pipeline.gallery.upkeep.retained import retained
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from tests.gallery.making import new_gallery, path_of, unit, unit_vectors


@pytest.fixture
def client(only_s3):
    style = Config(s3={"addressing_style": "path"})
    return botocore.session.get_session().create_client("s3", region_name="x", config=style)


def filled(location):
    gallery = new_gallery(location)
    records = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), [12])]
    return gallery.commit(records, run_id="first")


def erase_and_purge(location, row_id):
    with lock_gallery(location, "test") as lock:
        gallery = Gallery.open(location)
        after = erase(gallery, selected_rows(gallery, Selection(row_ids=(row_id,))), lock)
        return purge(after, lock)


def held(location):
    return b"".join(place.read_bytes() for place in root_of(location).rglob("*"))


def test_erased_rows_are_gone_from_every_object(bucket):
    filled(bucket)
    feature, path = unit_vectors([3]).tobytes(), path_of(3).encode()
    assert feature in held(bucket)
    done = erase_and_purge(bucket, 3)
    # Azure has no request for what it keeps of deleted objects, so the purge lists that question.
    open_questions = 0 if bucket.startswith("s3://") else 1
    assert (done.rows_gone, done.versions_removed) == (1, 2)
    assert len(done.not_checked) == open_questions
    assert feature not in held(bucket) and path not in held(bucket)
    assert not is_under_way(bucket)


def test_a_trace_is_found_in_any_object(bucket):
    filled(bucket)
    (root_of(bucket) / "copy.bin").write_bytes(b"x" * 13 + unit_vectors([3]).tobytes())
    with pytest.raises(RunError, match=r"copy\.bin holds the bytes of 1 features"):
        erase_and_purge(bucket, 3)
    assert is_under_way(bucket)
    (root_of(bucket) / "copy.bin").unlink()
    with lock_gallery(bucket, "test") as lock:
        assert purge(Gallery.open(bucket), lock).rows_gone == 1


def test_an_upload_that_was_cut_off_is_named(bucket, client):
    filled(bucket)
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    key = f"{prefix}/large.parquet"
    upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    client.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    assert retained(root_of(bucket)).uploads == 1
    with pytest.raises(RunError, match=r"keeps 0 old versions of objects and 1 uploads"):
        erase_and_purge(bucket, 3)
    client.abort_multipart_upload(Bucket=name, Key=key, UploadId=upload)
    with lock_gallery(bucket, "test") as lock:
        assert purge(Gallery.open(bucket), lock).rows_gone == 0


def test_old_versions_that_the_bucket_keeps_are_named(bucket, client):
    client.create_bucket(Bucket="versioned")
    rule = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration=rule)
    location = bucket.replace("s3://bucket/", "s3://versioned/")
    filled(location)
    with pytest.raises(RunError, match=r"keeps \d+ old versions of objects and 0 uploads"):
        erase_and_purge(location, 3)
    assert retained(root_of(location)).versions > 0
    assert unit_vectors([3]).tobytes() not in held(location)


def test_stores_that_are_not_asked_are_named():
    assert "soft delete" in retained(root_of("gs://bucket/g")).not_checked[0]
    assert "snapshots" in retained(root_of("az://container/g")).not_checked[0]


def test_without_botocore_nothing_is_purged(only_s3, bucket, monkeypatch):
    gallery = filled(bucket)
    real = builtins.__import__

    def missing(name, *others):
        if name.startswith("botocore"):
            raise ImportError(name)
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", missing)
    with lock_gallery(bucket, "test") as lock, pytest.raises(InputError, match=r"regallery\[s3\]"):
        purge(gallery, lock)
    assert Gallery.open(bucket, 0).version == 0
