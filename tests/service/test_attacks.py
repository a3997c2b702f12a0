"""What someone may try who reaches the service: each is refused, or does no harm."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.model.networks import NetworkFile
from pipeline.service.answer_headers import POLICY
from pipeline.service.embedding import Embedder
from pipeline.service.shelf import Shelf
from tests.jobs.labeled import labeled_gallery, people
from tests.service.asking import BEARER, TOKEN, client, message
from tests.service.listening import connect, listening_service, read_all, request_head

YARD = "/v1/galleries/yard"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def embedder(made):
    return Embedder(NetworkFile(str(made / "tiny.pt")))


def searched(yard, embedder, picture, **settings):
    body = {"image": base64.b64encode(picture).decode()}
    return client(yard, network=embedder, **settings).post(f"{YARD}/search", json=body)


def png_of(width, height):
    """A PNG whose header says this size, of a few bytes that say so many zeros."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min(width * height, 10_000_000)))
    ends = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + ends


def test_a_picture_is_searched_for(yard, embedder, made):
    picture = sorted((made / "crops").glob("*.png"))[0].read_bytes()
    hits = searched(yard, embedder, picture).json()["results"][0]["hits"]
    assert hits[0]["row_id"] == 0 and hits[0]["score"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bomb", "more than the 20,000,000 allowed"),
        ("wide", "more than the 20,000,000 allowed"),
        ("svg", "not-an-image"),
        ("html", "not-an-image"),
        ("cut", "truncated"),
        ("empty", "the file has no bytes"),
    ],
)
def test_pictures_that_are_none_are_refused(yard, embedder, name, told):
    whole = io.BytesIO()
    Image.new("RGB", (64, 128)).save(whole, "PNG")
    picture = {
        "bomb": png_of(50_000, 50_000),
        "wide": png_of(2**31 - 1, 1),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "html": b"<html><script>alert(1)</script></html>",
        "cut": whole.getvalue()[:60],
        "empty": b"",
    }[name]
    assert len(picture) < 100_000
    answer = searched(yard, embedder, picture)
    assert told in message(answer, 400) and "<script>" not in answer.text


def test_the_largest_picture_is_a_setting(yard, embedder):
    assert "more than the 100 allowed" in message(
        searched(yard, embedder, png_of(11, 10), max_pixels=100), 400
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"row": 1, "limit": 10_000}, "`limit` must be from 1 to 1000"),
        ({"rows": [1] * 65}, "at most 64"),
        ({"vectors": [[1.0] * 8] * 65}, "1 to 64"),
        ({"images": ["AAAA"] * 65}, "1 to 64"),
        ({"vector": [1e400] * 8}, "finite numbers"),
        ({"vector": [10**400] * 8}, ""),
        ({"row": 10**400}, "must be from 0"),
        ({"row": 1, "limit": 1e9}, "whole number"),
        ({"image": "data:text/html;base64,AAAA"}, ""),
        ({"image": "../../../etc/passwd"}, ""),
        ({"image": "file:///etc/passwd"}, ""),
        ({"image_url": "http://127.0.0.1:1/"}, "is not known"),
        ({"row": 1, "filter": {"must": [{"key": "camera"}] * 1000}}, ""),
        ({"row": 1, "filter": {"must": [{"key": "__class__", "match": {"value": 1}}]}}, "column"),
    ],
)
def test_requests_for_too_much_are_refused(yard, embedder, body, told):
    asked = client(yard, network=embedder)
    text = json.dumps(body).replace("Infinity", "1e999")
    headers = {"Content-Type": "application/json"}
    assert told in message(asked.post(f"{YARD}/search", content=text, headers=headers), 400)


def test_a_model_cannot_be_uploaded(yard, embedder, made):
    network = (made / "tiny.pt").read_bytes()
    asked = client(yard, network=embedder, allow_verdicts=True, allow_erase=True)
    for path in ("/v1/models", "/v1/galleries", YARD, f"{YARD}/model", "/tiny.pt"):
        for method in ("POST", "PUT", "PATCH"):
            assert asked.request(method, path, content=network).status_code in (404, 405)
    for kind in ("application/octet-stream", "multipart/form-data; boundary=x", ""):
        answer = asked.post(f"{YARD}/search", content=network, headers={"Content-Type": kind})
        message(answer, 415)
    message(
        asked.post(f"{YARD}/search", content=network, headers={"Content-Type": "image/png"}), 400
    )


def test_scripts_in_names_and_comments_stay_text(tmp_path):
    features, identity, _ = people(3, 6, dimension=8)
    paths = [f"{SCRIPT}&{n}.jpg" for n in range(6)]
    labeled_gallery(tmp_path / "g", features, identity, ["<b>"] * 6, path=paths)
    asked = client(Shelf([str(tmp_path / "g")]), allow_verdicts=True)
    verdict = {"a": 0, "b": 1, "verdict": "same", "comment": SCRIPT, "who": SCRIPT}
    asked.post("/v1/galleries/g/verdicts", json=verdict)
    for path in (
        "rows",
        "rows/1",
        "verdicts",
        "people",
        "",
        "rows/1/image",
        "rows?camara=<script>",
    ):
        answer = asked.get(f"/v1/galleries/g/{path}".rstrip("/"))
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == POLICY
        assert not {"<", ">", "&"} & set(answer.text)
    told = asked.get("/v1/galleries/g/verdicts").json()["verdicts"][0]
    assert (told["comment"], told["who"], told["path_a"]) == (SCRIPT, SCRIPT, paths[0])
    found = asked.post("/v1/galleries/g/search", json={"row": 0})
    assert "<" not in found.text and found.json()["results"][0]["hits"][0]["path"] in paths


@pytest.mark.parametrize(
    "path",
    [
        "/v1/galleries/..%2f..%2fetc/rows",
        "/v1/galleries/%2e%2e/rows/1/image",
        "/v1/galleries/yard%00/rows",
        "/v1/galleries/yard/rows/1/image/../../../../../etc/passwd",
        "/v1/galleries/yard/rows/1%2f..%2f..%2fimage",
        "/v1/galleries/yard/rejects/%2fetc%2fpasswd/image",
        "/v1/galleries/x%0d%0aSet-Cookie:%20a=b",
        "/v1/galleries/" + "y" * 10_000,
        "/v1/jobs/..%2f..%2fetc%2fpasswd",
    ],
)
def test_paths_lead_nowhere_else(yard, path):
    answer = client(yard).get(path)
    assert message(answer, 400 if answer.status_code == 400 else 404)
    assert "root:" not in answer.text and "set-cookie" not in answer.headers


def test_the_token_is_in_no_answer(yard):
    asked = client(yard)
    entered = asked.get(asked.post("/v1/links").json()["path"])
    texts = [str(entered.headers), asked.get("/metrics").text, asked.get("/v1/openapi.json").text]
    texts.append(asked.get("/v1/galleries", headers={"Authorization": f"Bearer {TOKEN}x"}).text)
    assert not any(TOKEN in text for text in texts)


def test_a_client_cannot_pretend_to_be_many(yard):
    with listening_service(yard, burst=3, requests_per_second=0.001) as port:
        statuses = []
        for number in range(5):
            with connect(port) as one:
                pretended = f"X-Forwarded-For: 10.0.0.{number}"
                one.sendall(
                    request_head("/v1/indices-list", pretended, "Connection: close", method="GET")
                )
                statuses.append(read_all(one)[9:12])
        assert statuses == [b"404", b"404", b"404", b"429", b"429"]


def test_a_proxy_is_believed_if_it_is_named(yard):
    settings = {"burst": 1, "requests_per_second": 0.001, "proxies": ("127.0.0.1",)}
    with listening_service(yard, **settings) as port:
        for client_number, status in ((1, b"404"), (2, b"404"), (1, b"429")):
            with connect(port) as one:
                told = f"X-Forwarded-For: 10.0.0.{client_number}"
                one.sendall(request_head("/v1/other", told, "Connection: close", method="GET"))
                assert read_all(one)[9:12] == status
        with connect(port) as one:
            head = ("X-Forwarded-For: 10.0.0.3", "X-Forwarded-Proto: https", "Connection: close")
            one.sendall(request_head("/v1/links", *head))
            link = json.loads(read_all(one).partition(b"\r\n\r\n")[2])["path"]
        with connect(port) as one:
            one.sendall(request_head(link, *head[1:], "X-Forwarded-For: 10.0.0.4", method="GET"))
            assert b"secure" in read_all(one).lower().partition(b"set-cookie")[2]


def test_two_lengths_are_refused(yard):
    with listening_service(yard) as port, connect(port) as one:
        both = ("Content-Length: 4", "Transfer-Encoding: chunked", "Connection: close")
        one.sendall(request_head("/v1/links", *both) + b"0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n")
        answers = read_all(one)
        assert answers.count(b"HTTP/1.1 ") == 1


def test_an_upgrade_gets_no_socket(yard):
    with listening_service(yard) as port, connect(port) as one:
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        one.sendall(request_head("/v1/events2", *upgrade, "Sec-WebSocket-Key: eA==", method="GET"))
        assert b" 101 " not in one.recv(65_536)


def test_many_wrong_tokens_lock_nobody_out(yard):
    asked = client(yard, token=None)
    for number in range(50):
        message(asked.get("/metrics", headers={"Authorization": f"Bearer {number}"}), 401)
    assert asked.get("/metrics", headers=BEARER).status_code == 200


def test_columns_of_any_text_are_answered(tmp_path):
    features, identity, _ = people(3, 4, dimension=8)
    odd = ["\u2028\u202e", "\x00\x1b[31m", "caf\u00e9\U0001f600", "\\\"'`"]
    labeled_gallery(tmp_path / "g", features, identity, odd)
    asked = client(Shelf([str(tmp_path / "g")]))
    answer = asked.get("/v1/galleries/g/rows")
    assert [row["camera"] for row in answer.json()["rows"]] == odd
    assert answer.content.isascii() and np.frombuffer(answer.content, np.uint8).min() >= 32
    assert len(asked.get("/v1/galleries/g/rows", params={"camera": odd[1]}).json()["rows"]) == 1
