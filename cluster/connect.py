"""Join Ray: a running cluster, or a private one on this machine for as long as it is needed."""

import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray

import pipeline
from cluster.guard import ended_with_driver
from cluster.head_watch import head_watched
from cluster.profiles import Node
from cluster.quiet import ray_lines_hidden
from pipeline.errors import InputError

_log = logging.getLogger(__name__)

# The object store holds only little data (commit records, blocks of features), so a private cluster
# reserves less than Ray's default of a third of the machine. Excess data is spilled to disk.
OBJECT_STORE_BYTES = 512 * 2**20

# Every worker process reads these variables when it starts. Ray runs workers at nice 15, after
# anything else on the machine. Without huge pages, large activations of a network cause page
# faults, and many malloc arenas keep memory that was freed. Workers of a private cluster inherit
# them: a runtime environment would start each worker twice, which takes half a second.
WORKER_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_ARENA_MAX": "1",
}

# The variables of the private cluster's workers, while this process has one.
_private: dict[str, str] | None = None

_REACH_SECONDS = 5.0
# How long to retry a head that listens but does not answer yet.
_PATIENCE_SECONDS = 60.0
# Errors that another attempt cannot fix.
_FINAL = re.compile("version mismatch|token|could not find any running", re.IGNORECASE)
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@dataclass(frozen=True)
class Cluster:
    """The result of `connect`: the address, the machines, and whether this process started them.

    `variables` are the environment variables that its workers start with; none are known of a
    cluster that others started.
    """

    address: str
    nodes: tuple[Node, ...]
    started_here: bool
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def cpus(self) -> float:
        """CPUs of all machines together."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all machines together."""
        return sum(node.gpus for node in self.nodes)


@contextlib.contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Join Ray for the length of a `with` block, and restore the earlier state afterwards.

    Without an address, a private cluster on this machine is started and stopped again. Inside a
    submitted job, or if RAY_ADDRESS is set, the process joins that cluster instead. If this process
    has already joined a cluster, it stays in it, whatever the arguments. `address` is `auto` (a
    cluster on this machine), `host:port`, or `ray://host:port`. `num_cpus` is the number of CPUs of
    a private cluster; None means all that the machine has, and more than that allows more workers
    than cores. `num_gpus` is the number of GPUs that must exist; 0 hides them from a private
    cluster. `object_store_bytes` is the size of a private cluster's object store.

    Raise InputError if nothing answers at the address, if the cluster runs other versions or needs
    a token, or if it lacks the requested GPUs.
    """
    if num_cpus is not None and num_cpus < 1:
        raise InputError(
            f"a private cluster of {num_cpus} CPUs cannot run anything: give at least 1"
        )
    if num_gpus is not None and num_gpus < 0:
        raise InputError(f"there are no {num_gpus} GPUs: give 0 or more")
    if ray.is_initialized():
        yield _joined(num_gpus)
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    showing = _log.isEnabledFor(logging.DEBUG)
    with (
        contextlib.nullcontext() if showing else ray_lines_hidden(),
        _connected(
            wanted, address, num_cpus, num_gpus, object_store_bytes, variables or {}
        ) as joined,
    ):
        yield joined


@contextlib.contextmanager
def _connected(
    wanted: str,
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    object_store_bytes: int,
    variables: Mapping[str, str],
) -> Iterator[Cluster]:
    global _private
    try:
        if wanted == "local":
            _private = {**WORKER_ENVIRONMENT, **variables}
            _start(num_cpus, num_gpus, object_store_bytes, _private)
        elif not address:
            try:
                _join(wanted)
            except InputError as error:
                raise InputError(
                    f"{error} (the address comes from the environment variable RAY_ADDRESS: unset"
                    " it to run on this machine alone)"
                ) from error
        else:
            if num_cpus is not None:
                _log.warning("%s keeps its own CPUs, not %d", wanted, num_cpus)
            _join(wanted)
        joined = _joined(num_gpus)
        with ended_with_driver() if joined.started_here else head_watched(joined.address):
            yield joined
    finally:
        # Leaves a cluster that was joined, stops one that was started, and otherwise does nothing.
        _private = None
        ray.shutdown()


def _start(
    num_cpus: int | None,
    num_gpus: int | None,
    object_store_bytes: int,
    variables: Mapping[str, str],
) -> None:
    """Start a private cluster: quiet, without a dashboard, and separate from any other."""
    with variables_set(variables):
        # Ray detects GPUs itself; if it got a number, it would also count GPUs that do not exist.
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=0 if num_gpus == 0 else None,
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            **_logging(),
        )


def _join(address: str) -> None:
    """Join a running cluster, or say in one line why that fails.

    A head under load may take long to answer; it is retried as long as its port is open.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _single_attempts():
        while True:
            if address != "auto":
                _reach(address)
            try:
                ray.init(address=address, runtime_env=_runtime_env(), **_logging())
                return
            except (ConnectionError, RuntimeError, ValueError) as error:
                final = not isinstance(error, ConnectionError) or _FINAL.search(_whole_text(error))
                if final or time.monotonic() > deadline:
                    raise InputError(_reason(address, error)) from error


def _logging() -> dict[str, Any]:
    """Limit Ray's log to errors; show what workers print only in debug mode."""
    return {
        "log_to_driver": _log.isEnabledFor(logging.DEBUG),
        "logging_level": logging.ERROR,
    }


def _runtime_env() -> dict[str, Any]:
    """Settings and code for the workers of a cluster that others started."""
    submitted = os.environ.get(_JOB_CONFIG)
    if submitted is None:
        # Send exactly this code, so that no machine runs another version of it.
        folders = [str(Path(file).parent) for file in (pipeline.__file__, __file__) if file]
        return {"env_vars": dict(WORKER_ENVIRONMENT), "py_modules": folders}
    # A submitted job brought its code along. Ray refuses a variable that both set.
    theirs = (json.loads(submitted).get("runtime_env") or {}).get("env_vars") or {}
    ours = {name: value for name, value in WORKER_ENVIRONMENT.items() if name not in theirs}
    return {"env_vars": ours}


def _reach(address: str) -> None:
    """Try the port first, because Ray itself would retry for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.scheme not in ("", "ray"):
        raise InputError(
            f"{address!r} is not an address of a Ray cluster: give auto, host:port (6379 is usual) "
            "or ray://host:port (10001 is usual)"
        )
    try:
        socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}): check the address, "
            "or leave it out to run on this machine alone"
        ) from error


@contextlib.contextmanager
def _single_attempts() -> Iterator[None]:
    """Let Ray try only once; by default it retries for minutes, even if the port is closed."""
    name = "RAY_gcs_server_port_wait_time_s"
    with variables_set({name: os.environ.get(name, "1")}):
        yield


@contextlib.contextmanager
def variables_set(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _whole_text(error: BaseException) -> str:
    """The text of an error and of its causes; with Ray, an inner error has the reason."""
    texts = []
    inner: BaseException | None = error
    while inner is not None:
        texts.append(" ".join(str(inner).split()))
        inner = inner.__cause__ or inner.__context__
    return "; ".join(texts)


def _reason(address: str, error: Exception) -> str:
    text = _whole_text(error)
    if "ersion mismatch" in text:
        return f"the Ray cluster at {address} runs other versions than this machine: {text}"
    if "token" in text.lower():
        return (
            f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
        )
    if address == "auto":
        return (
            "`address` auto finds no Ray cluster on this machine: start one with "
            "`ray start --head`, or leave it out to run without"
        )
    return (
        f"cannot join a Ray cluster at {address} ({' '.join(str(error).split())[:300]}): is it "
        "Ray's own port? Does it ask for a token (RAY_AUTH_MODE=token)?"
    )


def _joined(num_gpus: int | None) -> Cluster:
    nodes = tuple(
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    )
    address = ray.get_runtime_context().gcs_address
    cluster = Cluster(address, nodes, _private is not None, _private or {})
    if num_gpus and cluster.gpus < num_gpus:
        raise InputError(
            f"{num_gpus} GPUs asked, and Ray finds {cluster.gpus:g} at {address}: "
            "ask for none to run on CPUs"
        )
    _log.debug(
        "on Ray %s at %s: %g CPUs, %g GPUs", ray.__version__, address, cluster.cpus, cluster.gpus
    )
    return cluster
