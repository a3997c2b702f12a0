"""What serve and explore share: the token, and how a browser gets in."""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import progress_lines
from pipeline.errors import InputError
from pipeline.input_files import read_text
from pipeline.service.settings import Served, ServiceSettings

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.model.networks import NetworkFile

TOKEN_VARIABLE = "REGALLERY_TOKEN"
"""The environment variable with the token."""

_log = logging.getLogger(__name__)


def read_token(host: str, token_file: str | None = None, *, no_token: bool = False) -> str | None:
    """The token: of a file, of the environment, or for this machine alone a random one.

    A flag cannot hold it, since everyone on a machine sees the flags of its processes. Raise
    `InputError` for a token that is missing, or given with `no_token`, and for two of them.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if no_token:
        if token_file is not None or given is not None:
            raise InputError("`no_token` does not go with a token")
        return None
    if token_file is not None:
        token = read_text(token_file).strip()
        if given not in (None, token):
            raise InputError(f"`token_file` and {TOKEN_VARIABLE} have two tokens: give one")
        return token
    if given is not None:
        return given
    if not ServiceSettings(host=host, token="-" * 16).is_loopback:
        raise InputError(
            f"other machines reach `host` {host}: give a token, in a file (`token_file`) or in"
            f" {TOKEN_VARIABLE}"
        )
    return secrets.token_urlsafe(32)


def run_service(
    galleries: Sequence[str],
    model: str | None,
    checkpoint: str | None,
    settings: ServiceSettings,
    on_link: Callable[[str], None] = lambda _link: None,
) -> Served:
    """Read the galleries, log how a browser gets in, and answer requests.

    `on_link` is called with the link to open.
    """
    with progress_lines() as progress:
        progress("loading", None)
        network = _network(model, checkpoint)
        from pipeline.service.serving import prepare_service

        prepared = prepare_service(galleries, settings, network, progress=progress)

    def ready(address: str, link: str) -> None:
        shown = address if settings.token is None else link
        _tell(address, shown, settings)
        on_link(shown)

    return prepared.run(ready)


def run_replicas(
    galleries: Sequence[str],
    model: str | None,
    checkpoint: str | None,
    settings: ServiceSettings,
    replicas: int,
    address: str | None,
) -> Served:
    """Answer requests with several processes on a Ray cluster."""
    network = _network(model, checkpoint)
    from pipeline.service.replicas import serve_by_replicas

    def ready(told: str) -> None:
        _log.info("%s answers by %d replicas; Ctrl-C stops them", told, replicas)

    return serve_by_replicas(galleries, settings, network, replicas, address, on_ready=ready)


def _network(model: str | None, checkpoint: str | None) -> "NetworkFile | None":
    """The network of the flags, if there is one."""
    if model is None:
        if checkpoint is not None:
            raise InputError("`checkpoint` goes with `model`")
        return None
    from pipeline.model.kinds import check_network_file

    check_network_file(model)
    from pipeline.model.fetched_networks import network_file

    return network_file(model, checkpoint)


def _tell(address: str, shown: str, settings: ServiceSettings) -> None:
    """Log where the service is, and what to open or to type next."""
    _log.info("%s answers; Ctrl-C stops it", address)
    if settings.token is None:
        _log.info(
            "no token is needed, so everyone on this machine can use the service. Open %s", shown
        )
    else:
        _log.info("open this link, which lets a browser in once: %s", shown)
    if settings.is_loopback:
        port = urlsplit(address).port
        _log.info(
            "from another machine, type there: ssh -L %d:127.0.0.1:%d %s, and open the link there",
            port,
            port,
            socket.gethostname(),
        )


def served_lines(result: Served) -> RenderableType:
    """What was served, and for how long."""
    answers = "" if result.answers is None else f": {result.answers:,} answers"
    told = f"{result.address} served {', '.join(result.served)}{answers}"
    return Text(f"{told} in {result.up_seconds:,.0f} s")
