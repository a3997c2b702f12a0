"""Azure's storage on loopback for tests: Azurite, Microsoft's emulator, gone with the process."""

import base64
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path

from tests.object_store import free_ports

AZURITE = Path(__file__).parent / "azure/node_modules/.bin/azurite-blob"
CONTAINER = "yard"
# The account that every emulator has, as its documentation gives it.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2023-11-03"
_START_SECONDS = 30.0


@contextmanager
def azure_store() -> Iterator[dict[str, str]]:
    """Starts the server with an empty container; gives the environment of whoever uses it."""
    (port,) = free_ports(1)
    command = [str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    if shutil.which("setpriv"):  # it ends with us, however we end
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with tempfile.TemporaryDirectory(prefix="azurite-") as folder:
        server = subprocess.Popen(command, cwd=folder, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            _make_container(server, address)
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
                "AZURE_STORAGE_USE_EMULATOR": "true",
                "AZURITE_BLOB_STORAGE_URL": address,
                "AZURE_ALLOW_HTTP": "true",
            }
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _make_container(server: "subprocess.Popen[bytes]", address: str) -> None:
    """Makes it as soon as the server answers."""
    date = formatdate(usegmt=True)
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n"
    signed += f"/{_ACCOUNT}/{_ACCOUNT}/{CONTAINER}\nrestype:container"
    code = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": _VERSION,
        "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(code).decode()}",
    }
    url = f"{address}/{_ACCOUNT}/{CONTAINER}?restype=container"
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT"))
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"Azurite: {error} {error.read()!r}") from error
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError("Azurite did not start") from error
            time.sleep(0.05)
        else:
            return
