"""Who gets in, and what every answer says to a browser."""

import socket

import pytest

from pipeline.service.answer_headers import ALWAYS
from pipeline.service.entrance import Entrance
from tests.service.asking import BEARER, TOKEN, client, message

GUARDED = "/v1/links"


def test_the_token_is_needed_but_for_health_and_the_page():
    asked = client(token=None)
    assert asked.get("/healthz").json() == {"status": "ok"}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Cookie": f"regallery_8765={TOKEN}"},
        {"Cookie": "regallery_8765="},
        {"Cookie": "=;;\\"},
    ):
        answer = asked.post(GUARDED, headers=headers)
        assert "token is missing or wrong" in message(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in (
        "/metrics",
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/knn-service",
        "/no-file.js",
        "//v1/galleries",
    ):
        message(asked.get(path, headers={"Authorization": "Bearer wrong"}), 401)
    assert asked.post(GUARDED, headers=BEARER).status_code == 201


def test_a_link_lets_a_browser_in_once():
    asked = client(token=None)
    link = asked.post(GUARDED, headers=BEARER).json()["path"]
    assert asked.head(link).status_code == 200  # which does not use it
    entered = asked.get(link)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert asked.post(GUARDED).status_code == 201  # by the cookie
    assert "used before" in message(client(token=None).get(link), 403)
    assert "used before" in message(asked.get(link), 403)
    message(asked.get("/enter/" + "x" * 5000), 403)


def test_the_token_is_exchanged_for_the_cookie():
    asked = client(token=None)
    message(asked.post("/v1/session"), 401)
    message(asked.post("/v1/session", headers={"Authorization": "Bearer wrong"}), 401)
    assert asked.post("/v1/session", headers=BEARER).status_code == 204
    assert asked.post(GUARDED).status_code == 201  # by the cookie


def test_of_links_that_nobody_used_the_oldest_end():
    entrance = Entrance(TOKEN)
    links = [entrance.new_link() for _ in range(101)]
    assert not entrance.use_link(links[0])
    assert entrance.use_link(links[1]) and entrance.use_link(links[-1])
    assert not entrance.use_link("")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "0.0.0.0", "[::2]"]
)
def test_another_host_name_is_refused(host):
    assert "another host name" in message(client().post(GUARDED, headers={"Host": host}), 421)
    message(client().get("/healthz", headers={"Host": host}), 421)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "localhost:9000", "LOCALHOST", "[::1]:8765", "gal"]
)
def test_own_names_are_known_at_any_port(host):
    assert client(names=("gal",)).post(GUARDED, headers={"Host": host}).status_code == 201


def test_a_service_on_all_addresses_knows_the_machine_by_name():
    asked = client(host="0.0.0.0", names=("Gallery.Example",))
    for host in (socket.gethostname(), "localhost:1", "gallery.example", "127.0.0.1"):
        assert asked.post(GUARDED, headers={"Host": host}).status_code == 201
    for host in ("evil.example", "10.1.2.3", f"{socket.gethostname()}.evil.example"):
        message(asked.post(GUARDED, headers={"Host": host}), 421)


def test_the_address_of_the_connection_is_its_own_name():
    asked = client(host="192.0.2.7")
    for host, status in (("192.0.2.7", 201), ("127.0.0.1", 201), ("192.0.2.8", 421)):
        assert asked.post(GUARDED, headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_origin_is_refused_in_reads_too(headers):
    for answer in (
        client().post(GUARDED, headers=headers),
        client().get("/metrics", headers=headers),
    ):
        assert "another origin" in message(answer, 403)


def test_the_own_page_may_ask():
    for origin in ("http://127.0.0.1:8765", "https://127.0.0.1:8765"):
        assert client().post(GUARDED, headers={"Origin": origin}).status_code == 201


def test_every_answer_has_the_headers():
    asked = client(raises=False, burst=2, requests_per_second=0.001)

    async def broken(request):
        raise RuntimeError("inner /secret/path")

    from starlette.routing import Route

    asked.app.router.routes.insert(0, Route("/v1/broken", broken))
    answers = [
        asked.get("/healthz"),
        asked.get("/v1/broken"),
        asked.get("/v1/nothing"),
        asked.get("/metrics", headers={"Authorization": "Bearer no"}),
        asked.get("/metrics"),
    ]
    assert [each.status_code for each in answers] == [200, 500, 404, 401, 429]
    assert "secret" not in answers[1].text
    assert int(answers[4].headers["retry-after"]) >= 1
    for answer in answers:
        assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS
        assert answer.status_code == 500 or answer.headers["cache-control"] == "no-store"


def test_clients_are_counted_apart_and_forgotten():
    from pipeline.service.rates import Buckets

    now = [0.0]
    buckets = Buckets(2, 3, clock=lambda: now[0], most=2)
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert buckets.wait("a") == 0
    now[0] = 100
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == buckets.wait("c") == 0
    assert len(buckets) == 2


def test_answers_are_counted_by_route_and_not_by_path():
    asked = client()
    asked.get("/healthz")
    asked.get("/v1/nothing-of-this-name")
    asked.get("/metrics", headers={"Host": "evil.example"})
    text = asked.get("/metrics").text
    assert 'regallery_requests_total{route="/healthz",status="200"} 1.0' in text
    assert 'regallery_requests_total{route="none",status="421"} 1.0' in text
    assert "nothing-of-this-name" not in text and "evil" not in text
    other = client().get("/metrics").text
    assert "/healthz" not in other
