"""Bodies that are too large, or come too slowly, on real connections."""

import time

import pytest

from pipeline.service import connections
from tests.service.asking import client, message
from tests.service.listening import connect, listening_service, read_all, request_head

LINKS = "/v1/read"


@pytest.fixture
def reading(monkeypatch):
    """Applications have a route that reads the whole body."""
    from starlette.responses import Response
    from starlette.routing import Route

    from pipeline.service import health

    async def read(request):
        return Response(str(len(await request.body())))

    monkeypatch.setattr(health, "ROUTES", [*health.ROUTES, Route(LINKS, read, methods=["POST"])])


def test_a_body_over_the_limit_is_refused_as_stated_and_as_counted(reading, yard):
    asked = client(max_body_bytes=1000)
    assert asked.post(LINKS, content=b"x" * 1000).text == "1000"
    assert "more than the 1,000 bytes" in message(asked.post(LINKS, content=b"x" * 1001), 413)
    chunked = asked.post(LINKS, content=iter([b"x" * 600, b"x" * 600]))
    assert "content-length" not in chunked.request.headers
    assert "more than the 1,000 bytes" in message(chunked, 413)
    assert asked.post(LINKS, content=iter([b"x" * 500, b"x" * 500])).text == "1000"
    for wrong in ("-1", "1e3", "", "\xb2"):
        wrong_head = {"Content-Length": wrong.encode("latin-1")}
        assert "not a number" in message(asked.post(LINKS, headers=wrong_head), 400)


def test_a_large_body_ends_the_connection(reading, yard):
    with listening_service(yard, max_body_bytes=1000) as port:
        with connect(port) as one:
            one.sendall(request_head(LINKS, "Content-Length: 2000"))
            answer = read_all(one)
            assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer.lower()
        with connect(port) as one:
            one.sendall(request_head(LINKS, "Transfer-Encoding: chunked"))
            for _ in range(3):
                one.sendall(b"258\r\n" + b"x" * 600 + b"\r\n")
                time.sleep(0.02)
            assert b" 413 " in read_all(one)


def test_a_slow_body_is_refused(reading, yard):
    with listening_service(yard, body_seconds=0.3) as port, connect(port) as one:
        start = time.monotonic()
        one.sendall(request_head(LINKS, "Content-Length: 1000"))
        one.sendall(b"x")
        answer = read_all(one)
        assert b" 408 " in answer and b"too slowly" in answer
        assert 0.2 < time.monotonic() - start < 5


def test_a_client_that_leaves_within_its_body_is_no_failure(reading, yard, caplog):
    with listening_service(yard) as port:
        with connect(port) as one:
            one.sendall(request_head(LINKS, "Content-Length: 1000"))
            one.sendall(b"x")
        deadline = time.monotonic() + 5
        while f'{{route="{LINKS}",status="400"}} 1' not in counted(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def counted(port):
    """What the service counted of its requests."""
    with connect(port) as one:
        one.sendall(request_head("/metrics", "Connection: close", method="GET"))
        return read_all(one).decode()


def test_a_body_that_is_never_read_does_no_harm(yard):
    with listening_service(yard) as port, connect(port) as one:
        one.sendall(request_head("/v1/nothing", "Content-Length: 1000"))
        assert b" 404 " in one.recv(65_536)


def test_slow_headers_end_the_connection(monkeypatch, yard):
    monkeypatch.setattr(connections, "_HEADER_SECONDS", 0.3)
    with (
        listening_service(yard) as port,
        connect(port) as silent,
        connect(port) as slow,
        connect(port) as second,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        second.sendall(request_head("/healthz", method="GET"))
        assert b" 200 " in second.recv(65_536)
        second.sendall(b"GET /heal")
        assert read_all(silent) == b""
        assert read_all(slow) == b""
        assert read_all(second) == b""


def test_large_headers_are_refused(yard):
    with listening_service(yard) as port, connect(port) as one:
        one.sendall(request_head("/healthz", "X: " + "x" * 200_000, method="GET"))
        assert read_all(one)[:12] in (b"", b"HTTP/1.1 400")
        with connect(port) as other:
            other.sendall(request_head("/healthz", method="GET"))
            assert b" 200 " in other.recv(65_536)


def test_an_address_that_is_taken_is_told():
    from pipeline.errors import InputError
    from pipeline.service.running import listen
    from pipeline.service.settings import ServiceSettings

    with listen(ServiceSettings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be listened on"):
            listen(ServiceSettings(port=port))
    with pytest.raises(InputError, match="`host` nowhere"):
        listen(ServiceSettings(host="nowhere.invalid", token="x" * 16))
