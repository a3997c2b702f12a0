"""A gallery in an object store, and a proxy before the store that fails on request."""

from datetime import timedelta

import pytest

from pipeline import object_client
from tests.gallery.object_store.faulty import faulty
from tests.object_store import environment_of


@pytest.fixture
def only_s3(bucket):
    """For a test of what only S3 has."""
    if not bucket.startswith("s3://"):
        pytest.skip("this is about S3")


@pytest.fixture
def proxy(only_s3, s3, bucket, monkeypatch):
    """What goes wrong on the way to the store; clients wait for a second at most."""
    with faulty(s3.port) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        for name, value in environment_of(endpoint).items():
            monkeypatch.setenv(name, value)
        quick = {"timeout": "20s", "read_timeout": "1s", "connect_timeout": "1s"}
        retries = {
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=5),
            "backoff": {
                "init_backoff": timedelta(milliseconds=10),
                "max_backoff": timedelta(milliseconds=50),
                "base": 2,
            },
        }
        monkeypatch.setattr(object_client, "_CLIENT", quick)
        monkeypatch.setattr(object_client, "_RETRIES", retries)
        monkeypatch.setattr(object_client, "_PAUSE_SECONDS", 0.01)
        object_client.client_of.cache_clear()
        yield proxy
        object_client.client_of.cache_clear()
