"""A service on several replicas, by the real Ray Serve.

Ray Serve takes seconds to load: it is loaded where these tests run, and not where they are only
collected.
"""

import builtins
import json
import socket
import sys
import threading
import urllib.request

import pytest

from cluster.serve import ReplicaSettings, replicated
from pipeline.errors import InputError
from pipeline.service.settings import ServiceSettings
from tests.service.making import plain_gallery


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.ray
def test_replicas_give_the_same_answers(tmp_path, new_cluster):
    from ray import serve

    from pipeline.service.replicas import serve_by_replicas

    gallery = plain_gallery(tmp_path / "yard", range(20))
    settings = ServiceSettings(port=free_port())
    url = f"http://127.0.0.1:{settings.port}/v1/galleries/yard/search"
    found, stopping, states = [], threading.Event(), {}

    def ask():
        body = json.dumps({"row": 4, "limit": 5}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found.append(json.load(answer)["results"])

    def ask_often(_address):
        threads = [threading.Thread(target=ask) for _ in range(30)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        (deployment,) = serve.status().applications["regallery"].deployments.values()
        states.update(deployment.replica_states)
        stopping.set()

    served = serve_by_replicas(
        [gallery.location], settings, None, 2, on_ready=ask_often, stopping=stopping
    )
    assert served.served == ("yard",)
    assert len(found) == 30
    assert all(results == found[0] for results in found)
    assert found[0][0]["hits"][0]["row_id"] != 4
    assert states == {"RUNNING": 2}


def test_replicas_that_cannot_be(tmp_path):
    from pipeline.service.replicas import serve_by_replicas

    with pytest.raises(InputError, match="replicas need a `port` of their own"):
        serve_by_replicas([str(tmp_path)], ServiceSettings(port=0), None, 2)
    with pytest.raises(InputError, match="two galleries have the same folder name"):
        serve_by_replicas(["a/yard", "b/yard"], ServiceSettings(), None, 2)


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
