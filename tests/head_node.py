"""A real Ray head node with its job server, and machines that join it, on the loopback address and
apart from any other Ray on this machine.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_START_SECONDS, _TRIES = 300.0, 5


@dataclass(frozen=True)
class HeadNode:
    """Where to reach it, the environment that holds its token, and its process, which leads all
    others in a session.
    """

    dashboard: str
    address: str
    client_address: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None


@contextlib.contextmanager
def head_node(num_cpus: int = 2, again: HeadNode | None = None) -> Iterator[HeadNode]:
    """A head with its own token; `again` starts one anew, where an earlier one was."""
    # Sockets lie in this folder, and their names may have 107 letters at most.
    folder = Path(tempfile.mkdtemp(prefix="rg", dir="/tmp"))
    port, dashboard_port, client_port = _free_ports(3)
    environment = _with_ray() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    if again:
        environment = again.environment
        dashboard_port = int(again.dashboard.rpartition(":")[2])
    environment.pop("RAY_ADDRESS", None)
    command = (
        f"ray start --head --block --disable-usage-stats --temp-dir={folder} --port={port}"
        f" --include-dashboard=true --dashboard-port={dashboard_port}"
        " --dashboard-host=127.0.0.1"
        f" --ray-client-server-port={client_port} --dashboard-agent-listen-port=0"
        f" --dashboard-agent-grpc-port=0 --metrics-export-port=0"
        f" --num-cpus={num_cpus} --object-store-memory={100 * 2**20}"
    )
    node = HeadNode(
        f"http://127.0.0.1:{dashboard_port}",
        f"127.0.0.1:{port}",
        f"ray://127.0.0.1:{client_port}",
        environment,
    )
    try:
        out = folder / "out"
        process = _started(command.split(), environment, out, _answers(node))
        try:
            yield replace(node, process=process)
        finally:
            lost(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def joined_head() -> HeadNode:
    """The head of the cluster that this process has joined: as much of it as machines need."""
    import ray

    return HeadNode("", ray.get_runtime_context().gcs_address, "", _with_ray())


@contextlib.contextmanager
def machine(
    head: HeadNode,
    num_cpus: int = 1,
    name: str | None = None,
    variables: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """One more machine of the head's cluster; its process leads all others in a session of theirs.

    `lost` kills it; by a name it can be drained. Its workers have the `variables` besides.
    """
    command = (
        f"ray start --address={head.address} --block --disable-usage-stats --num-cpus={num_cpus}"
        " --include-log-monitor=false"  # a second of processor time; it prints what workers print
        f" --num-gpus=0 --object-store-memory={80 * 2**20} --dashboard-agent-listen-port=0"
        " --dashboard-agent-grpc-port=0 --metrics-export-port=0"
    )
    named = [f'--resources={{"{name}": 1}}'] if name else []
    with tempfile.NamedTemporaryFile() as out:
        environment = head.environment | (variables or {})
        process = _started([*command.split(), *named], environment, Path(out.name))
        try:
            yield process
        finally:
            lost(process)


def lost(process: subprocess.Popen[bytes]) -> None:
    """Kill a machine with `kill -9`, as if its power failed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def drain(head: HeadNode, name: str, seconds: int) -> None:
    """Warn a machine of this name, as before a preemption: it is to end in some seconds.

    Ray gives it no new work from now on; its end is up to the caller.
    """
    code = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR');"
        "print([n['NodeID'] for n in ray.nodes() if sys.argv[2] in n['Resources']][0])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, head.address, name], env=head.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    command = (
        f"ray drain-node --address={head.address} --node-id={told.stdout.split()[-1]}"
        f" --deadline-remaining-seconds={seconds}"
        " --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message=preempted"
    )
    subprocess.run(command.split(), env=head.environment, check=True, stdout=subprocess.DEVNULL)


def _with_ray() -> dict[str, str]:
    """The environment of this process, in which the shell finds `ray`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def _started(
    command: list[str],
    environment: dict[str, str],
    out: Path,
    is_up: Callable[[], bool] | None = None,
) -> subprocess.Popen[bytes]:
    """The process of `ray start`, which leads a session, once all of it is up.

    It is started again if it ends: Ray gives up after 30 seconds, which are few on a machine that
    does much else.
    """
    for _ in range(_TRIES):
        with out.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if is_up() if is_up else "Ray runtime started" in out.read_text():
                return process
            time.sleep(0.1)
        lost(process)
    raise RuntimeError(f"the machine did not start:\n{out.read_text()}")


def _answers(node: HeadNode) -> Callable[[], bool]:
    """Whether the dashboard of a head answers."""
    request = urllib.request.Request(
        f"{node.dashboard}/api/version",
        headers={"Authorization": f"Bearer {node.environment['RAY_AUTH_TOKEN']}"},
    )

    def is_up() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return True
        return False

    return is_up


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
