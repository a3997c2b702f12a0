"""The page in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.page import write_page
from pipeline.report.results import Report
from pipeline.report.thumbnails import Thumbnails
from tests.chromium import chromium, shown_at, used
from tests.report.changing import changed

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with chromium("--disable-gpu") as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Report, Thumbnails], Path]:
    """Writes each report once: its charts take half a second."""
    kept: list[tuple[Report, Thumbnails, Path]] = []

    def write(report: Report, pictures: Thumbnails) -> Path:
        for theirs, of_theirs, path in kept:
            if theirs is report and of_theirs is pictures:
                return path
        _, path = write_page(report, tmp_path_factory.mktemp("page"), pictures)
        kept.append((report, pictures, path))
        return path

    return write


@pytest.fixture
def opened(window: Any, written: Callable[[Report, Thumbnails], Path]) -> Iterator[Any]:
    """Opens a report at a width and returns the page; fails on any complaint or request."""
    complaints: list[str] = []
    places = ["data:", "about:blank"]

    def open_page(report: Report, pictures: Thumbnails, width: int = 1280) -> Any:
        places.append(written(report, pictures).as_uri())
        shown_at(window, width, 900, "light")
        window.goto(places[-1], wait_until="networkidle")
        return window

    def asked(request: Any) -> None:
        if not request.url.startswith(tuple(places)):
            complaints.append(f"request: {request.url}")

    def refuse(dialog: Any) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    with used(
        window,
        console=lambda message: complaints.append(f"console: {message.text}"),
        pageerror=lambda error: complaints.append(f"error: {error}"),
        dialog=refuse,
        request=asked,
    ):
        yield open_page
    assert complaints == []


def test_pictures_decode(opened: Any, report: Report, thumbnails: Thumbnails) -> None:
    page = opened(report, thumbnails)
    widths = page.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
    assert widths == [32] * 9


def test_frames(opened: Any, report: Report, thumbnails: Thumbnails) -> None:
    page = opened(report, thumbnails)
    read = """frames => frames.map(frame => {
        const style = getComputedStyle(frame);
        return [style.borderTopColor, style.borderTopStyle];
    })"""
    matches = page.eval_on_selector_all(".hits .match > *:first-child", read)
    misses = page.eval_on_selector_all(".hits .miss > *:first-child", read)
    assert matches == [["rgb(24, 128, 60)", "solid"]] * 3
    assert misses == [["rgb(196, 48, 43)", "dashed"]] * 6


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("case", ["report", "no_valid_query", "reranked", "hostile"])
def test_nothing_overflows(
    opened: Any, thumbnails: Thumbnails, request: pytest.FixtureRequest, case: str, width: int
) -> None:
    page = opened(request.getfixturevalue(case), thumbnails, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").is_visible()


@pytest.mark.parametrize("section", ["curves", "open-set"])
def test_one_chart_at_a_time(
    opened: Any, report: Report, thumbnails: Thumbnails, section: str
) -> None:
    for width, shown in ((1280, "wide"), (390, "narrow")):
        page = opened(report, thumbnails, width)
        charts = page.locator(f"#{section} .chart svg").locator("visible=true")
        assert charts.count() == 1
        assert page.locator(f"#{section} .{shown} svg").is_visible()
        label = page.locator(f"#{section} .{shown} svg text").first.bounding_box()
        assert charts.bounding_box()["width"] > 0.85 * min(width, 1088)
        assert label["height"] >= 10


def test_chart_labels_lie_within_the_chart(
    opened: Any, report: Report, thumbnails: Thumbnails
) -> None:
    report = changed(report, "results", 1, "name", to="query k 20 alpha 3")
    for width in (1280, 390):
        page = opened(report, thumbnails, width)
        outside = page.evaluate("""() => {
            const charts = [...document.querySelectorAll('.chart svg')].filter(s => s.clientWidth);
            return charts.flatMap(chart => {
                const edge = chart.getBoundingClientRect();
                return [...chart.querySelectorAll('text')].filter(text => {
                    const box = text.getBoundingClientRect();
                    return box.left < edge.left - 12 || box.right > edge.right + 12;
                }).map(text => text.textContent);
            });
        }""")
        assert outside == []


def test_the_keyboard_reaches_links_and_the_wide_table(
    opened: Any, report: Report, thumbnails: Thumbnails
) -> None:
    page = opened(report, thumbnails, 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#results"
    # The two shadows stay at the edges, the two covers move with the table.
    shadows = "getComputedStyle(document.querySelector('.scroll')).backgroundAttachment"
    assert page.evaluate(shadows) == "local, local, scroll, scroll"
    page.focus(".scroll")
    page.keyboard.press("ArrowRight")
    # Asked again and again from here: the page's own policy forbids the browser to poll for us.
    for _ in range(100):
        if page.evaluate("document.querySelector('.scroll').scrollLeft") > 0:
            break
        page.wait_for_timeout(50)
    assert page.evaluate("document.querySelector('.scroll').scrollLeft") > 0


def test_a_better_pair_of_cameras_is_darker(
    opened: Any, report: Report, thumbnails: Thumbnails
) -> None:
    page = opened(report, thumbnails)
    cells = page.locator("#cameras details[open] .grid td[style]")
    brightness = """cell => {
        const [r, g, b] = getComputedStyle(cell).backgroundColor.match(/[\\d.]+/g).map(Number);
        return r + g + b;
    }"""
    found = {cell.inner_text().split()[0]: cell.evaluate(brightness) for cell in cells.all()}
    assert found["84.4"] < found["59.4"] < found["34.4"]
    closed = page.locator("#cameras details:not([open]) .grid")
    assert not closed.first.is_visible()
    page.locator("#cameras summary").nth(1).click()
    assert page.locator("#cameras details").nth(1).locator(".grid").is_visible()
