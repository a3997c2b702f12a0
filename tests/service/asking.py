"""Asking a service as its clients do."""

import time

from starlette.testclient import TestClient

from pipeline.service.app import create_app
from pipeline.service.settings import ServiceSettings

TOKEN = "a-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def client(shelf=None, *, token=BEARER, raises=True, network=None, **settings):
    """A client of a service on 127.0.0.1 that sends the token."""
    app = create_app(shelf, ServiceSettings(**{"token": TOKEN} | settings), network)
    return TestClient(
        app,
        base_url="http://127.0.0.1:8765",
        headers=token,
        raise_server_exceptions=raises,
        follow_redirects=False,
    )


def message(answer, status):
    """The sentence of an answer with an error of this status."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"status", "message"} and error["status"] == status
    return error["message"]


def computed(asked, path):
    """The answer of a path that may be computed first, when its job is done."""
    jobs = set()
    while (answer := asked.get(path)).status_code == 202:
        jobs.add(answer.json()["job"])
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['job']}"
        time.sleep(0.05)
    assert len(jobs) <= 1
    return answer
