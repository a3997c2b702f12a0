"""A service on several replicas, by the real Ray Serve."""

import builtins
import json
import os
import socket
import sys
import threading
import urllib.request
from functools import partial

import pytest

from cluster.serve import ReplicaSettings, replicated
from pipeline.errors import InputError
from pipeline.service.app import create_app
from pipeline.service.settings import ServiceSettings
from pipeline.service.shelf import Shelf
from tests.service.making import plain_gallery


def build(location):
    """The application, with the process that answers in every answer's headers."""
    app = create_app(Shelf([location]), ServiceSettings())

    async def marked(scope, receive, send):
        async def send_marked(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-process", str(os.getpid()).encode()))
            await send(message)

        await app(scope, receive, send_marked)

    return marked


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_replicas_give_the_same_answers(tmp_path):
    gallery = plain_gallery(tmp_path / "yard", range(20))
    settings = ReplicaSettings(replicas=2, num_cpus=0.5, port=free_port())
    url = f"http://127.0.0.1:{settings.port}/v1/galleries/yard/search"
    found = []

    def ask():
        body = json.dumps({"row": 4, "limit": 5}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
            found.append((answer.headers["x-process"], told["results"]))

    with replicated(partial(build, gallery.location), settings):
        threads = [threading.Thread(target=ask) for _ in range(30)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(found) == 30
    assert len({process for process, _ in found}) == 2
    assert all(results == found[0][1] for _, results in found)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"replicas": 0}, "`replicas` must be at least 1"),
        ({"num_cpus": 0.0}, "`num_cpus` must be above 0"),
        ({"port": 0}, "`port` must be from 1"),
    ],
)
def test_settings_that_cannot_be(settings, reason):
    with pytest.raises(InputError, match=reason):
        ReplicaSettings(**settings)


def test_without_ray_serve_the_remedy_is_named(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("ray.serve") or (name == "ray" and "serve" in (args[2] or ())):
            raise ImportError("no module named fastapi")
        return imported(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "ray.serve.config", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(InputError, match=r"install regallery\[serve\]"),
        replicated(dict, ReplicaSettings()),
    ):
        pass
