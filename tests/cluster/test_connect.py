import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.connect import connect
from pipeline.errors import InputError
from tests.head_node import HeadNode

# What a worker sees of itself, and which code it runs; that of a private cluster is in
# `tests/runs/test_units.py`.
LOOK = """
import os, sys, ray
from cluster.connect import connect
from pipeline.errors import InputError

@ray.remote
def look():
    import pipeline
    names = ("THP_MEM_ALLOC_ENABLE", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "LOOKED_AT")
    return os.nice(0), [os.environ.get(name) for name in names], pipeline.__file__

try:
    address = sys.argv[1] if sys.argv[1:] else None
    with connect(address, variables={"LOOKED_AT": "yes"}) as cluster:
        print(cluster.cpus, cluster.gpus, len(cluster.nodes), cluster.started_here)
        nice, names, file = ray.get(look.remote())
        print(nice, *names)
        print(file)
        with connect() as inner:
            assert inner == cluster
        assert "LOOKED_AT" not in cluster.variables
        assert "LOOKED_AT" not in os.environ
    print(ray.is_initialized())
except InputError as error:
    print("refused:", error)
"""


def look(*arguments: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *arguments],
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def without_cluster(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | more


@pytest.mark.ray
def test_cluster_of_others_is_joined_and_left_running(cluster_head: HeadNode) -> None:
    for address in (cluster_head.address, cluster_head.client_address):
        size, worker, _, joined = look(address, environment=cluster_head.environment)
        assert size == "2.0 0.0 1 False"
        assert worker == "0 1 1 1 None"
        assert joined == "False"


@pytest.mark.ray
def test_missing_token_is_told(cluster_head: HeadNode) -> None:
    (line,) = look(cluster_head.address, environment=without_cluster(RAY_AUTH_MODE="disabled"))
    assert line.startswith("refused:")
    assert "asks for a token: set RAY_AUTH_MODE=token" in line


@contextlib.contextmanager
def busy(address: str, seconds: float) -> Iterator[str]:
    """Another address of a cluster, which answers so long after the first knock at its port."""
    host, port = address.split(":")

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket) -> None:
        begin = None
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                begin = begin or time.monotonic()
                if time.monotonic() < begin + seconds:
                    client.close()
                    continue
                server = socket.create_connection((host, int(port)))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    with socket.socket() as listener:
        listener.bind(("", 0))  # Ray asks for the machine's own address
        listener.listen(64)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"{host}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.ray
def test_a_head_that_answers_late_is_waited_for_also_where_a_variable_names_it(
    cluster_head: HeadNode,
) -> None:
    # Ray's own patience in one attempt, which is some 40 seconds, becomes 3.
    short = {
        "RAY_gcs_rpc_server_connect_timeout_s": "1",
        "RAY_py_gcs_connect_timeout_s": "1",
        "RAY_gcs_server_request_timeout_seconds": "1",
    }
    with busy(cluster_head.address, seconds=6) as address:
        environment = cluster_head.environment | short | {"RAY_ADDRESS": address}
        size, *_ = look(environment=environment)
    assert size == "2.0 0.0 1 False"


@pytest.mark.ray
def test_cluster_that_this_process_has_joined_is_used_and_kept(cluster: None) -> None:
    with connect("nobody.invalid:1") as joined:
        assert not joined.started_here
        assert (joined.cpus, joined.gpus, len(joined.nodes)) == (2, 2, 1)
    assert ray.is_initialized()
    with pytest.raises(InputError, match="3 GPUs asked, and Ray finds 2"), connect(num_gpus=3):
        pass
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "is not an address of a Ray cluster"),
        ("http://127.0.0.1:8265", "is not an address of a Ray cluster"),
        ("127.0.0.1:port", "is not an address of a Ray cluster"),
        ("nobody.invalid:6379", "no Ray cluster answers at nobody.invalid:6379"),
    ],
)
def test_wrong_addresses_are_told_at_once(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message), connect(address):
        pass
    assert not ray.is_initialized()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_closed_port_is_told_at_once(scheme: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError, match="no Ray cluster answers"), connect(address):
            pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9"), "versions"),
        (RuntimeError("Authentication token is missing"), "RAY_AUTH_TOKEN"),
        (ConnectionError("Could not find any running Ray instance."), "finds no Ray cluster"),
    ],
)
def test_what_ray_says_becomes_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=message) as caught, connect("auto"):
        pass
    assert "\n" not in str(caught.value)


def test_variables_that_a_job_set_itself_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    job = {"runtime_env": {"env_vars": {"MALLOC_ARENA_MAX": "4"}}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    monkeypatch.setattr(ray, "init", lambda **arguments: asked.update(arguments))
    monkeypatch.setattr(ray, "nodes", list)
    with contextlib.suppress(Exception), connect("auto"):
        pass
    ours = {"env_vars": {"RAY_worker_niceness": "0", "THP_MEM_ALLOC_ENABLE": "1"}}
    assert asked["runtime_env"] == ours


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="0 CPUs"), connect(num_cpus=0):
        pass
    with pytest.raises(InputError, match="-1 GPUs"), connect(num_gpus=-1):
        pass


def test_an_address_of_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nobody.invalid:6379")
    with pytest.raises(InputError, match="environment variable RAY_ADDRESS: unset"), connect():
        pass
    with pytest.raises(InputError) as caught, connect("nobody.invalid:6379"):
        pass
    assert "RAY_ADDRESS" not in str(caught.value)
