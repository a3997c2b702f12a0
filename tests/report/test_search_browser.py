"""The page of a search in a real browser: sorted, filtered, on a phone and on a desk."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.report.search_page import render_search
from pipeline.report.thumbnails import thumbnail
from tests.chromium import shown_at, used
from tests.report.test_browser import window as window

pytestmark = pytest.mark.browser

BEGUN = datetime(2026, 1, 2, 8, tzinfo=UTC)


def _found() -> dict[str, Any]:
    def hit(rank: int, score: float, camera: str | None, identity: int | None, hour: int | None):
        when = None if hour is None else BEGUN + timedelta(hours=hour)
        return {
            "rank": rank, "row_id": rank, "path": f"{rank}.jpg", "score": score, "match": rank < 3,
            "camera": camera, "identity": identity, "captured_at": when,
        }  # fmt: skip

    hits = [
        hit(1, 0.9, "c10", 7, 3), hit(2, 0.8, "c2", 7, None), hit(3, 0.7, None, 0, 1),
        hit(4, 0.6, "c2", None, 2), hit(5, 0.5, "</script><b>", -1, 4),
    ]  # fmt: skip
    return {
        "gallery": "galleries/test", "version": 3, "rows": 12345, "threshold": 0.75,
        "threshold_from": "--threshold",
        "results": [{"image": "a.jpg", "queried": (), "hits": hits}],
        "not_searched": [],
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    picture = thumbnail(np.full((128, 64, 3), 120, np.uint8))
    page = tmp_path / "search.html"
    crops = {f"{n}.jpg": picture for n in range(1, 5)}
    page.write_text(render_search(_found(), {"a.jpg": picture}, crops), "utf-8")
    return page


def _ranks(page: Any) -> list[str]:
    return page.eval_on_selector_all(
        ".hits li:not([hidden])", "hits => hits.map(h => h.title.match(/rank (\\d+)/)[1])"
    )


@pytest.mark.parametrize(("width", "height", "scheme"), [(360, 740, "dark"), (1280, 900, "light")])
def test_hits_are_told_sorted_and_filtered(
    window: Any, path: Path, width: int, height: int, scheme: str
) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    with used(
        window,
        console=lambda message: complaints.append(message.text),
        pageerror=lambda error: complaints.append(str(error)),
        request=lambda request: asked.append(request.url),
    ):
        shown_at(window, width, height, scheme)
        window.set_default_timeout(5000)
        window.goto(path.as_uri())
        look_at(window, width)
        assert complaints == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def look_at(page: Any, width: int) -> None:
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/search-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for told in ("identity 7", "camera c10", "2026-01-02 11:00:00", "distractor", "no time"):
        assert page.locator(".hits").get_by_text(told, exact=True).first.is_visible(), told
    assert _ranks(page) == ["1", "2", "3", "4", "5"]
    # By keyboard alone: the first control is what Tab reaches first.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "sort"
    page.keyboard.type("time")
    assert _ranks(page) == ["3", "4", "1", "5", "2"]
    page.get_by_label("Sort by").select_option("camera")
    assert _ranks(page) == ["5", "2", "4", "1", "3"]
    page.get_by_role("combobox", name="Camera").select_option("c2")
    assert _ranks(page) == ["2", "4"]
    page.get_by_role("combobox", name="Identity").select_option("unknown")
    assert _ranks(page) == ["4"]
    page.get_by_role("button", name="Show all").click()
    page.wait_for_timeout(20)
    page.get_by_label("Least similarity").fill("0.7")
    assert _ranks(page) == ["1", "2", "3"]
    assert page.get_by_role("status").inner_text() == "3 of 5 hits shown"
    first = page.locator(".hits li").first
    assert not first.get_by_text("1.jpg", exact=True).is_visible()
    first.get_by_text("file", exact=True).click()  # a finger has no hover
    assert first.get_by_text("1.jpg", exact=True).is_visible()
