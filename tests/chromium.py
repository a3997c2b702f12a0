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


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser; the test is skipped where there is none, but on the build machine it fails.

    A skip there would hide that the page is never opened.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs one of {', '.join(_NAMES)}")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=found, args=[*_QUIET, *arguments])
        yield browser
        browser.close()
