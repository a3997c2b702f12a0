"""The browser of the tests: Debian's Chromium, or Chrome, without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FORGET = "location.origin === 'null' || (localStorage.clear(), sessionStorage.clear())"


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Start a browser and yield its page, which all tests of a file share (see `used`).

    A second page would be a second window, and to open one takes a second of processor time.
    Without a browser, tests are skipped. On the build machine they fail instead, because nobody
    would notice there that they are skipped.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs one of {', '.join(_NAMES)}")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=found, args=[*_QUIET, *arguments])
        yield browser.new_page()
        browser.close()


@contextmanager
def used(page: Any, **listeners: Any) -> Iterator[None]:
    """Listen to what a page does, and leave nothing on it, and nothing that it has kept."""
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        yield
    finally:
        page.unroute_all()
        page.evaluate(_FORGET)
        page.goto("about:blank")  # what still runs on the page ends while it is listened to
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        page.context.clear_cookies()


def shown_at(page: Any, width: int, height: int, scheme: str) -> None:
    """Give the page a size and a color scheme, and motion."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="no-preference")
