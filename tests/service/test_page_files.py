"""The files of the page: their types, tags, and nothing beside them."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pipeline.service.faults import HANDLERS
from pipeline.service.page_files import PAGE, page_route, read_page
from tests.service.asking import message


@pytest.fixture
def page(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "page"
    (folder / "parts").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "parts" / "a.js").write_text("export const a = 1;")
    (folder / "style.css").write_text("")
    (folder / "notes.md").write_text("not served")
    return TestClient(
        Starlette(routes=[page_route(read_page(folder))], exception_handlers=HANDLERS),
        follow_redirects=False,
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/parts/a.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ],
)
def test_each_file_has_its_type_and_is_known_again(page, path, kind):
    answer = page.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["cache-control"] == "no-cache"
    again = page.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    assert page.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    message(page.post(path), 405)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/parts/../../secret.txt",
        "//etc/passwd", "/parts", "/parts/", "/notes.md", "/a%00.js",
        "/parts/%2e%2e/%2e%2e/secret.txt", "/\\..\\secret.txt", "/index.html/", "/" + "x" * 3000,
    ],
)  # fmt: skip
def test_nothing_beside_the_page_is_reached(page, path):
    # httpx would resolve the dots of a plain URL before it asks.
    answer = page.request("GET", "http://testserver/", extensions={"target": path.encode()})
    answer = page.get(path) if answer.status_code == 200 else answer
    assert "nothing under this path" in message(answer, 404)
    assert "secret" not in answer.text


def test_the_page_of_the_project_is_of_known_kinds():
    for path in PAGE.rglob("*.*") if PAGE.is_dir() else ():
        # Types are for the checker alone.
        served = not path.name.startswith(("LICENSE", ".")) and not path.name.endswith(".d.ts")
        if served and path.is_file():
            assert path.relative_to(PAGE).as_posix() in read_page()
