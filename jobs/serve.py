"""serve: answer requests about galleries over HTTP, and show them in a browser."""

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType

from jobs.command.serving import read_token, run_replicas, run_service, served_lines
from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.service.settings import Served, ServiceSettings

_Switch = Annotated[bool, Parameter(negative=())]
_SEVERAL = Parameter(consume_multiple=True)


def serve(
    *,
    gallery: Annotated[tuple[Location, ...], _SEVERAL],
    model: Location | None = None,
    checkpoint: Location | None = None,
    host: str = ServiceSettings.host,
    port: int = ServiceSettings.port,
    token_file: Location | None = None,
    no_token: _Switch = False,
    names: Annotated[tuple[str, ...], _SEVERAL] = (),
    proxies: Annotated[tuple[str, ...], _SEVERAL] = (),
    allow_verdicts: _Switch = False,
    allow_erase: _Switch = False,
    max_results: int = ServiceSettings.max_results,
    max_body_bytes: int = ServiceSettings.max_body_bytes,
    requests_per_second: float = ServiceSettings.requests_per_second,
    burst: int = ServiceSettings.burst,
    batch_ms: float = ServiceSettings.batch_ms,
    threads: int = ServiceSettings.threads,
    replicas: int | None = None,
    address: str | None = None,
) -> Served:
    """Answer requests about galleries over HTTP, and show them in a browser.

    Galleries are kept in memory, and new versions are picked up within a
    second or two. Every request needs a token: that of a file or of the
    environment (REGALLERY_TOKEN). Without one, the service only listens to
    this machine, makes a random token, and prints a link that lets a
    browser in once. It stops after SIGINT (Ctrl-C) or SIGTERM, when the
    requests at work are answered.

    For example:

        regallery serve --gallery galleries/test
        --model osnet_x0_25_msmt17.onnx --allow-verdicts

    Args:
        gallery: Folder of the gallery; give several to serve them all, by their folders' names.
        model: The network that the galleries were extracted with, to search for images.
        checkpoint: File of weights for a built-in network, by its path or URL.
        host: Address to listen on: 0.0.0.0 lets other machines in, who then need the token.
        port: Port to listen on; 0 for any free one.
        token_file: File with the token, 16 or more characters.
        no_token: Ask for no token; on this machine only.
        names: More host names of the service, such as that of a reverse proxy.
        proxies: Addresses of reverse proxies; what they say of a client's address is believed.
        allow_verdicts: Let requests record verdicts.
        allow_erase: Let requests erase rows.
        max_results: Rows in the longest list of an answer.
        max_body_bytes: Bytes of the largest request.
        requests_per_second: Requests of one client, on average.
        burst: Requests of one client at once.
        batch_ms: Milliseconds for which a search waits for others, to be computed with them.
        threads: Threads of a search; 0 for all cores (with --replicas: one each).
        replicas: Answer with this many processes, by Ray Serve (needs regallery[serve]). A browser
            then gets in by the token that is typed there.
        address: Ray cluster for --replicas: auto or host:port (default: this machine alone).
    """
    settings = ServiceSettings(
        host=host,
        port=port,
        token=read_token(host, token_file, no_token=no_token),
        names=names,
        proxies=proxies,
        allow_verdicts=allow_verdicts,
        allow_erase=allow_erase,
        max_results=max_results,
        max_body_bytes=max_body_bytes,
        requests_per_second=requests_per_second,
        burst=burst,
        batch_ms=batch_ms,
        threads=threads,
    )
    if replicas is not None:
        return run_replicas(gallery, model, checkpoint, settings, replicas, address)
    if address is not None:
        raise InputError("`address` goes with `replicas`")
    return run_service(gallery, model, checkpoint, settings)


def describe(result: Served) -> RenderableType:
    """What was served, and for how long."""
    return served_lines(result)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["serve", *sys.argv[1:]]))
