"""Locations: a folder, or a URL of an object store."""

import pytest

from pipeline.errors import InputError
from pipeline.gallery.files import places
from pipeline.gallery.files.places import ObjectPlace, below, in_order, local_root, root_of


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_url_is_a_place_in_its_bucket(scheme):
    place = root_of(f"{scheme}://bucket/a/g/")
    assert place == ObjectPlace(f"{scheme}://bucket", "a/g")
    assert str(place / "_delta_log" / "0.json") == f"{scheme}://bucket/a/g/_delta_log/0.json"
    assert root_of(str(place)) == place


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://g", "s3://, gs://, az://"),
        ("ftp://host/g?x=secret", "s3://, gs://, az://"),
        ("s3://bucket", "without empty parts"),
        ("s3://bucket/a//g", "without empty parts"),
        ("s3://bucket/a/../g", "without empty parts"),
        ("s3:///g", "BUCKET"),
        ("s3://bucket/g?versionId=secret", "credentials belong into the environment"),
        ("s3://bucket/a%20g", "no %"),
        ("s3://bucket/a#g", "no %"),
        ("s3://key:secret@bucket/g", "user or a password"),
    ],
)
def test_other_urls_are_refused_and_tell_no_secret(url, reason):
    with pytest.raises(InputError, match=reason) as error:
        root_of(url)
    assert "secret" not in str(error.value)


def test_an_empty_location_is_refused():
    with pytest.raises(InputError, match="empty"):
        root_of("")


def test_file_urls_are_local(tmp_path):
    assert root_of(f"file://{tmp_path}") == local_root(tmp_path) == tmp_path


def test_what_must_be_local_is_no_url():
    with pytest.raises(InputError, match="local folder"):
        local_root("s3://bucket/export")


def test_names_are_taken_apart_as_those_of_paths_are(tmp_path):
    for root in (tmp_path, root_of("s3://bucket/g")):
        place = root / "_cameras" / "7.parquet"
        assert (place.name, place.stem, place.suffix) == ("7.parquet", "7", ".parquet")
        assert (place.parent, place.parents[1]) == (root / "_cameras", root)
        assert below(place, root) == "_cameras/7.parquet"
        assert below(place.with_suffix(".json"), root) == "_cameras/7.json"
        assert place.with_name("8.parquet") == root / "_cameras" / "8.parquet"
        others = [root / "b", root / "a" / "c", root / "a-b"]
        assert [below(each, root) for each in in_order(others)] == ["a/c", "a-b", "b"]


def test_answers_of_a_store_are_awaited_in_order_and_not_all_at_once(tmp_path):
    """Those of 100,000 files would not fit into memory."""
    asked = []

    def ask(item):
        asked.append(item)
        return -item

    answers = places.ask_many(ask, range(1000), root_of("s3://bucket/g"))
    assert [next(answers) for _ in range(5)] == [0, -1, -2, -3, -4]
    assert len(asked) <= 2 * places.REQUESTS + 5
    assert list(answers) == [-each for each in range(5, 1000)]
    assert sorted(asked) == list(range(1000))
    assert list(places.ask_many(ask, range(3), tmp_path)) == [0, -1, -2]
