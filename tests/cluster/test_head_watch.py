import contextlib
import socket
import time

import pytest

from cluster import head_watch
from cluster.head_watch import head_watched


@pytest.fixture
def port(monkeypatch):
    """An open port that is knocked at often."""
    monkeypatch.setattr(head_watch, "_PAUSE_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield server


def told(caplog, seconds):
    deadline = time.monotonic() + seconds
    while "does not answer" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    return caplog.text.count("does not answer")


def test_a_head_that_is_gone_is_told_once(port, caplog):
    address = f"127.0.0.1:{port.getsockname()[1]}"
    with head_watched(address):
        assert told(caplog, 0.3) == 0
        port.close()
        assert told(caplog, 10) == 1
        assert f"the head of the cluster at {address} does not answer" in caplog.text
        assert "run it again when the cluster is up" in caplog.text
        time.sleep(0.2)
    assert caplog.text.count("does not answer") == 1


def test_nobody_knocks_any_more_when_the_work_is_done(port, caplog):
    with contextlib.suppress(KeyError), head_watched(f"127.0.0.1:{port.getsockname()[1]}"):
        raise KeyError
    port.close()
    assert told(caplog, 0.3) == 0
