"""A real S3 server on loopback for tests: SeaweedFS, in its own folder, gone with the process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

BUCKET = "bucket"
_KEY, _SECRET = "test", "testsecret"
_START_SECONDS = 30.0
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
)


@dataclass(frozen=True)
class ObjectStore:
    """Where the server listens, and the environment of a process that uses it."""

    port: int
    bucket: str = BUCKET

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(f"http://127.0.0.1:{self.port}")


def environment_of(endpoint: str) -> dict[str, str]:
    """The environment of a process that uses a server of this kind at this address."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Starts the server with an empty bucket; it takes some seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weed-")))
        identity = {
            "name": "test",
            "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        command = [_weed(), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-s3", f"-s3.config={folder}/s3.json", "-volume.max=20"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        log = stack.enter_context((folder / "log").open("wb"))
        if shutil.which("setpriv"):  # it ends with us, however we end
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_end, server)
        store = ObjectStore(ports["s3.port"])
        _await(server, f"http://127.0.0.1:{store.port}/", folder / "log")
        _make_bucket(store)
        yield store


def _weed() -> str:
    return str(Path(sys.executable).parent / "weed")


def _end(server: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _await(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return  # it refuses us, so it is there
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")


def _make_bucket(store: ObjectStore) -> None:
    """Makes the bucket as soon as the parts of the server have found each other."""
    root = S3Store(
        store.bucket,
        endpoint=store.environment["AWS_ENDPOINT_URL"],
        access_key_id=_KEY,
        secret_access_key=_SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            url = obstore.sign(root, "PUT", "", timedelta(minutes=5))
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5)
            obstore.put(root, "ready", b"1")
            obstore.delete(root, "ready")
        except (OSError, BaseError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
