"""The page in a real browser, on the real app and real crops: a first use of each room."""

import csv
import json
import os
import shutil
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.gallery.table import Gallery
from pipeline.model.fetched_networks import network_file
from pipeline.runs.calibrated import CalibrationSettings
from pipeline.runs.calibrating import calibrate
from pipeline.runs.extraction import extract
from pipeline.runs.settings import RuleSettings
from pipeline.service.embedding import Embedder
from pipeline.service.shelf import Shelf
from tests.chromium import chromium, shown_at, used
from tests.service.asking import TOKEN
from tests.service.listening import listening_service

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent / "node/node_modules/axe-core/axe.min.js"
BEGUN = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAST_FRAME = 40
SIZES = {390: 844, 1440: 900}


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    # Chromium draws WebGL without a graphics card only if it is told that this is meant.
    with chromium("--enable-unsafe-swiftshader") as found:
        yield found


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, pedestrians: Path, pedestrian_video: Path, osnet: Path
) -> Path:
    """A gallery `plaza` of crops with times and a reject, and a gallery `frames` of a video."""
    place = tmp_path_factory.mktemp("page")
    crops = sorted((pedestrians / "bounding_box_test").iterdir())[::4]
    with (place / "crops.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "identity", "camera", "captured_at"])
        for crop in crops:
            identity, camera, frame, _ = crop.stem.split("_")
            time = BEGUN + timedelta(seconds=int(frame) / 10)
            gate = {"1": "<b onmouseover=alert(1)>gate"}.get(camera[1], camera[1])
            table.writerow([crop, int(identity), gate, time.isoformat()])
        broken = place / "<i>broken.jpg"
        broken.write_bytes(b"no image")
        table.writerow([broken, 1, 1, BEGUN.isoformat()])
    extract(str(place / "crops.csv"), str(place / "plaza"), str(osnet))
    calibrate(
        Gallery.open(str(place / "plaza")),
        None,
        CalibrationSettings(of_rule=RuleSettings(far=0.01), by_camera=True),
    )
    (place / "vtest.avi").symlink_to(pedestrian_video / "vtest.avi")
    with (pedestrian_video / "boxes.csv").open() as file, (place / "b.csv").open("w") as some:
        for line in file:
            frame = line.split(",")[2]
            if frame == "frame" or int(frame) < LAST_FRAME:
                some.write(line)
    extract(str(place / "b.csv"), str(place / "frames"), str(osnet))
    return place


@pytest.fixture
def service(made: Path, tmp_path: Path, osnet: Path) -> Iterator[str]:
    """The address of a service over copies of both galleries."""
    for name in ("plaza", "frames"):
        shutil.copytree(made / name, tmp_path / name)
    shelf = Shelf([str(tmp_path / "plaza"), str(tmp_path / "frames")])
    network = Embedder(network_file(str(osnet)))
    allowed = {"token": None, "allow_verdicts": True, "allow_erase": True}
    with listening_service(shelf, network=network, **allowed) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def opened(window: Any, service: str) -> Iterator[Any]:
    """Opens the page at a width and in a scheme; fails on complaints and on requests elsewhere."""
    complaints: list[str] = []

    def heard(message: Any) -> None:
        # A reject that cannot be decoded has no picture; the page says so.
        expected = "/rejects/" in message.location.get("url", "") or "GL Driver" in message.text
        if message.type in ("error", "warning") and not expected:
            complaints.append(f"console: {message.text} {message.location}")

    def asked(request: Any) -> None:
        if not request.url.startswith((service, "blob:", "data:", "about:blank")):
            complaints.append(f"request: {request.url}")

    def refuse(dialog: Any) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_page(width: int = 1440, scheme: str = "light", path: str = "") -> Any:
        shown_at(window, width, SIZES[width], scheme)
        window.set_default_timeout(10_000)
        window.goto(service + path)
        return window

    with used(
        window,
        console=heard,
        pageerror=lambda error: complaints.append(f"error: {error}"),
        dialog=refuse,
        request=asked,
    ):
        yield open_page
    assert complaints == []


def expect(target: Any) -> Any:
    from playwright.sync_api import expect as waiting

    waiting.set_options(timeout=10_000)
    return waiting(target)


def go(page: Any, room: str) -> None:
    page.get_by_role("link", name=room, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=room)).to_be_visible()


def drag(page: Any, target: Any, *shares: tuple[float, float]) -> None:
    """Draw from place to place on an element; places are shares of its width and height."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


def drop(page: Any, crop: Path) -> None:
    page.evaluate(
        """([bytes, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            for (const kind of ["dragover", "drop"])
                dispatchEvent(new DragEvent(kind, { dataTransfer: data, cancelable: true }));
        }""",
        [list(crop.read_bytes()), "<img src=x onerror=alert(1)>.jpg"],
    )


def search(page: Any, crop: Path) -> None:
    drop(page, crop)
    cards = page.get_by_role("list", name="Ranked rows").get_by_role("listitem")
    expect(cards).to_have_count(25)
    expect(page.get_by_text("rows were compared, exactly")).to_be_visible()
    drag(page, page.get_by_alt_text("The image to search"), (0.1, 0.05), (0.9, 0.8))
    expect(page.get_by_text("Box of")).to_be_visible()
    expect(page.get_by_label("Ranked rows").first).to_have_attribute("aria-busy", "false")
    expect(page.get_by_text("<b onmouseover=alert(1)>gate").first).to_be_attached()
    cards.first.get_by_role("button").first.focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1).get_by_role("button").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_alt_text("the query")).to_be_visible()
    expect(cards).to_have_count(25)
    cards.first.get_by_role("button").first.focus()
    page.keyboard.press("+")
    expect(page.get_by_text("Like these")).to_be_visible()


def frame(page: Any, address: str) -> None:
    page.goto(f"{address}#/frames/search")
    rows = page.get_by_role("list", name="Rows to start from").get_by_role("listitem")
    rows.first.get_by_role("button").first.click()
    found = page.get_by_role("list", name="Ranked rows").get_by_role("listitem").first
    found.get_by_role("button", name="Details").click()
    page.get_by_role("button", name="Show the frame").click()
    drag(page, page.get_by_alt_text("The frame of row"), (0.3, 0.3), (0.4, 0.6))
    page.get_by_role("button", name="Search what is in the box").click()
    expect(page.get_by_text("on the frame of row")).to_be_visible()
    expect(found).to_be_visible()
    page.goto(f"{address}#/plaza/search")


def review(page: Any) -> None:
    page.get_by_role("button", name="Keys and name").click()
    page.get_by_label("Your name").fill("<b>ann</b>")
    page.get_by_role("button", name="Close", exact=True).click()
    go(page, "Review")
    tally = page.locator(".tally")
    expect(tally).to_contain_text("0 verdicts given, pair 1 of")
    for number, key in enumerate(("s", "d", "d"), start=1):
        page.keyboard.press(key)
        expect(tally).to_contain_text(f"{number} verdict")
    page.keyboard.press("u")
    expect(tally).to_contain_text("2 verdicts given, pair 3 of")
    page.keyboard.press("Space")
    expect(tally).to_contain_text("2 verdicts given, pair 4 of")
    given = page.evaluate("fetch('v1/galleries/plaza/verdicts').then((answer) => answer.json())")[
        "verdicts"
    ]
    assert sorted((each["verdict"], each["who"]) for each in given) == [
        ("different", "<b>ann</b>"), ("same", "<b>ann</b>")
    ]  # fmt: skip


def person(page: Any) -> None:
    go(page, "Person")
    page.get_by_text("Identity 8").click()
    expect(page.get_by_role("heading", name="Path between cameras")).to_be_visible()
    page.get_by_label("Row on the timeline").press("ArrowRight")
    page.get_by_role("button", name="Same", exact=True).first.click()
    expect(page.get_by_text("is the same person.")).to_be_visible()
    expect(page.locator("[data-home]")).to_be_focused()  # what had the focus is gone
    page.keyboard.press("u")
    expect(page.get_by_text("Taken back.")).to_be_visible()
    rows = page.get_by_role("list", name="Rows of the person").get_by_role("button")
    rows.nth(0).click()
    rows.nth(1).click()
    page.get_by_role("button", name="Split from the others").click()
    expect(page.get_by_text("split from the other")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()


def see_map(page: Any) -> None:
    go(page, "Map")
    canvas = page.locator("canvas")
    expect(canvas).to_be_visible()
    drag(page, canvas, (0.03, 0.03), (0.97, 0.03), (0.97, 0.85), (0.03, 0.85))
    cells = page.get_by_label("Selected rows").locator(".cell:not([disabled])")
    expect(cells.first).to_be_visible()
    cells.first.focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(1)).to_be_focused()
    page.get_by_label("Color by").select_option("identity")
    canvas.focus()
    page.keyboard.press("+")
    page.keyboard.press("a")
    expect(cells.first).to_be_visible()


NOT_CUT = "text => text.offsetWidth <= text.closest('.pairs').parentElement.clientWidth"


def quality(page: Any) -> None:
    go(page, "Quality")
    expect(page.get_by_text("1 image gave no row.")).to_be_visible()
    expect(page.get_by_text("<i>broken.jpg").first).to_be_visible()
    told = page.get_by_text("Threshold of each pair of cameras")
    expect(told).to_be_visible()
    assert told.evaluate(NOT_CUT)  # a table may scroll sideways, but not what says how to read it


def erase(page: Any, identity: int) -> None:
    go(page, "Erase")
    page.get_by_label("One or more identities").fill(str(identity))
    page.keyboard.press("Enter")
    expect(page.get_by_text("would go,")).to_be_visible()
    button = page.locator(".danger")
    expect(button).to_be_disabled()
    page.get_by_label("Type the gallery").fill("plaza")
    button.click()
    proof = page.get_by_role("region", name="Proof")
    expect(proof.get_by_text("nothing of them is left")).to_be_visible()
    with page.expect_download() as kept:
        page.get_by_text("Keep the proof as a file").click()
    told = json.loads(Path(kept.value.path()).read_text())
    assert told["purged"]["rows_gone"] == told["erased"]["rows"] > 0
    assert told["sha256"] in proof.inner_text()


# Contrast in both schemes at both widths is what the search for barriers below looks at.
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_a_first_use_of_each_room(
    opened: Any, service: str, pedestrians: Path, width: int, scheme: str
) -> None:
    page = opened(width, scheme)
    expect(page.get_by_role("heading", level=1, name="Search")).to_be_visible()
    search(page, min((pedestrians / "query").iterdir()))
    frame(page, service)
    review(page)
    person(page)
    see_map(page)
    quality(page)
    erase(page, 9)


ROOMS = (
    "search", "search?like=20", "search?like=20,21&unlike=60", "person", "person/7", "review",
    "map", "quality", "erase?identity=7",
)  # fmt: skip


BARRIERS = "async rules => (await axe.run({ resultTypes: ['violations'], ...rules })).violations"
IN_THE_DARK = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


@pytest.mark.parametrize("width", SIZES)
def test_no_barrier_and_nothing_beyond_the_edge(opened: Any, width: int) -> None:
    if not AXE.exists():
        # A skip on the build machine would hide that nothing looks for barriers.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs npm ci in {AXE.parents[2]}")
    page = opened(width, "light", "#/plaza/search")
    page.emulate_media(reduced_motion="reduce")  # or colors would still be on their way
    page.evaluate(AXE.read_text())
    for room in ROOMS:
        page.evaluate("room => { location.hash = `#/plaza/${room}` }", room)
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)
        found = page.evaluate(BARRIERS, {})
        page.emulate_media(color_scheme="dark")
        found += page.evaluate(BARRIERS, IN_THE_DARK)
        page.emulate_media(color_scheme="light")
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], room
        assert page.evaluate("document.documentElement.scrollWidth") <= width, room


def a_million_points(rows: int = 1_000_000) -> bytes:
    """A map as the service answers it."""
    random = np.random.default_rng(0)
    columns = {
        "x": random.normal(32768, 8000, rows).clip(0, 65535).astype("<u2"),
        "y": random.normal(32768, 8000, rows).clip(0, 65535).astype("<u2"),
        "identity": random.integers(1, 9000, rows).astype("<i4"),
        "camera": random.integers(0, 2, rows).astype("<u2"),
        "time": random.integers(0, 65535, rows).astype("<u2"),
    }
    about, start = [], 0
    for name, column in columns.items():
        about.append({"name": name, "dtype": column.dtype.str[1:], "offset": start})
        start += column.nbytes
    header = {"gallery": "plaza", "version": 1, "rows": rows, "columns": about,
              "cameras": ["1", "2"], "time": None}  # fmt: skip
    told = json.dumps(header).encode()
    head = b"RGPTS001" + struct.pack("<I", len(told)) + told
    return head + bytes(-len(head) % 8) + b"".join(each.tobytes() for each in columns.values())


def test_a_million_rows_can_be_seen_and_selected(opened: Any, service: str) -> None:
    points = a_million_points()
    assert len(points) < 12_100_000
    page = opened()
    page.route("**/points", lambda route: route.fulfill(body=points))
    page.goto(f"{service}#/plaza/map")
    # The answer comes through the pipe of the browser's debugger, which takes seconds.
    expect(page.get_by_text("1,000,000 rows.")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="camera 2").click()
    expect(page.get_by_role("heading", name="rows").first).to_contain_text("500,")


def test_modules_agree_with_plain_rules(opened: Any) -> None:
    """Lassos, visits and rates between the points of a calibration."""
    page = opened()
    found = page.evaluate(
        """async () => {
            const names = ["places", "visits", "filters", "boxes", "format"];
            const [places, visits, filters, boxes, format] =
                await Promise.all(names.map((name) => import(`/parts/${name}.js`)));
            const points = { rows: 3, x: [0, 32768, 65535], y: [0, 32768, 65535] };
            const row = (camera, second) => ({
                camera, frame: null, captured_until: null,
                captured_at: new Date(1000 * second).toISOString(),
            });
            const rows = [row("a", 0), row("a", 10), row("b", 20), row("a", 30), row("a", 1000)];
            const axis = visits.axisOf(rows);
            const curve = [[0.5, 0.01], [0.7, 0.0001]].map(
                ([threshold, false_match_rate]) => ({ threshold, false_match_rate }));
            const square = [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]];
            return {
                within: [...places.within(points, square)],
                nearest: places.nearest(points, [0.95, 0.95], 0.1),
                none: places.nearest(points, [0.8, 0.2], 0.1),
                visits: visits.visitsOf(rows, axis).map((each) => [each.camera, each.rows.length]),
                rates: [0.4, 0.5, 0.6, 0.9].map((each) => filters.falseMatchRate(curve, each)),
                boxes: [[50, 60, 10, -5], [1, 1, 3, 3]].map(
                    ([a, b, c, d]) => boxes.between([a, b], [c, d], 40, 100)),
                words: [
                    format.bytes(1536), format.duration(3725), format.named(-7), format.camera("3"),
                ],
            };
        }"""
    )
    assert found["within"] == [1]
    assert (found["nearest"], found["none"]) == (2, None)
    assert found["visits"] == [["a", 2], ["b", 1], ["a", 1], ["a", 1]]
    assert [each["told"] for each in found["rates"]] == ["at least ", "", "", "at most "]
    assert found["rates"][2]["far"] == pytest.approx(0.001)
    assert found["boxes"] == [[10, 0, 30, 60], None]
    assert found["words"] == ["1.5 kB", "1 h 2 min", "Person of row 5", "camera 3"]


@pytest.mark.parametrize("by_link", [True, False])
def test_a_link_or_the_token_lets_a_browser_in(window: Any, made: Path, by_link: bool) -> None:
    shelf, page = Shelf([str(made / "plaza")]), window
    with listening_service(shelf) as port, used(page):
        shown_at(page, 1440, SIZES[1440], "light")
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_role("heading", name="The galleries are not open")).to_be_visible()
        page.get_by_label("The token of the service").fill("not the token of it")
        page.keyboard.press("Enter")
        expect(page.get_by_text("the token is missing or wrong")).to_be_visible()
        if by_link:
            token = {"Authorization": f"Bearer {TOKEN}"}
            made_link = page.context.request.post(
                f"http://127.0.0.1:{port}/v1/links", headers=token
            )
            page.goto(f"http://127.0.0.1:{port}{made_link.json()['path']}")
        else:
            page.get_by_label("The token of the service").fill(TOKEN)
            page.keyboard.press("Enter")
        crops = page.get_by_role("list", name="Rows to start from").locator("img")
        expect(crops.first).to_have_js_property("complete", True)
        assert crops.first.evaluate("image => image.naturalWidth") > 0
