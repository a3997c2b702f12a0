"""explore: look at galleries in the browser of this machine."""

import logging
import os
import sys
import threading
import webbrowser
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType

from jobs.command.serving import read_token, run_service, served_lines
from pipeline.runs.locations import Location
from pipeline.service.settings import Served, ServiceSettings

_log = logging.getLogger(__name__)
_Switch = Annotated[bool, Parameter(negative=())]
_SEVERAL = Parameter(consume_multiple=True)


def explore(
    gallery: Annotated[tuple[Location, ...], _SEVERAL],
    *,
    model: Location | None = None,
    checkpoint: Location | None = None,
    port: int | None = None,
    no_browser: _Switch = False,
    allow_verdicts: _Switch = False,
    allow_erase: _Switch = False,
) -> Served:
    """Look at galleries in the browser of this machine.

    This is serve on a free port of this machine, for one person: it opens
    the browser with a link that works once, and ends with Ctrl-C. On a
    machine without a browser the link is printed, with the SSH tunnel by
    which a browser elsewhere can open it.

    For example:

        regallery explore galleries/test
        --model osnet_x0_25_msmt17.onnx --allow-verdicts

    Args:
        gallery: Folder of the gallery; give several to look at them all, by their folders' names.
        model: The network that the galleries were extracted with, to search for images.
        checkpoint: File of weights for a built-in network, by its path or URL.
        port: Port to listen on (default: any free one).
        no_browser: Print the link, and open no browser.
        allow_verdicts: Let the page record verdicts.
        allow_erase: Let the page erase rows.
    """
    host = ServiceSettings.host
    settings = ServiceSettings(
        host=host,
        port=port or 0,
        token=read_token(host),
        allow_verdicts=allow_verdicts,
        allow_erase=allow_erase,
    )
    return run_service(gallery, model, checkpoint, settings, _ignore if no_browser else _open)


def _ignore(_link: str) -> None:
    """Open nothing."""


def _open(link: str) -> None:
    """Open the browser, in a thread, as some browsers only return when they are closed."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        _log.info("this machine shows no browser: open the link elsewhere")
        return
    threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()


def describe(result: Served) -> RenderableType:
    """What was looked at, and for how long."""
    return served_lines(result)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["explore", *sys.argv[1:]]))
