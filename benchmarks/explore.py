"""The page of `regallery explore` on a large gallery, in a real browser.

    python benchmarks/explore.py --rows 1000000

A gallery of drawn features is written, with a map of random points, and served by a process of its
own. Chromium (the package `chromium` of Debian, without a graphics card) opens the page at 1440 x
900. Printed are the milliseconds until the page is painted first, until the map shows all points,
and, for a lasso around half of them, until the page shows how many there are; the bytes of the
points, and the status of the answer to a browser that has them; and the bytes of the page's files
in gzip.
"""

import argparse
import gzip
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from million import Archive, write_gallery

from pipeline.core.maps.settings import MapSettings
from pipeline.gallery.map_files import GalleryMap, write_map
from pipeline.gallery.table import Gallery

PAGE = Path(__file__).parents[1] / "pipeline" / "service" / "page"
PORT = 8930
CHROMIUM = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader",
]  # fmt: skip
WATCH = """() => {
    window.told = new Promise((done) => {
        let up = 0;
        addEventListener("pointerup", () => { up = performance.now(); }, true);
        const seen = new MutationObserver(() => {
            const heading = document.querySelector("[aria-label='Selected rows'] h2");
            if (up && heading && /rows?$/.test(heading.textContent)) {
                seen.disconnect();
                done(performance.now() - up);
            }
        });
        seen.observe(document.body, { childList: true, subtree: true, characterData: true });
    });
}"""


def write(folder, rows):
    """A gallery of so many rows, with a map of its version."""
    write_gallery(folder, Archive(rows, 512), rows, 1)
    gallery = Gallery.open(str(folder))
    points = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    version = gallery.version
    write_map(gallery, GalleryMap(gallery.row_ids(), points, version, MapSettings(), 0, version))


def served(folder):
    """A service over the gallery, once it answers."""
    command = [sys.executable, "-m", "jobs.serve", "--gallery", str(folder), "--no-token"]
    process = subprocess.Popen([*command, "--port", str(PORT)], stderr=subprocess.DEVNULL)
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz").close()
            return process
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the service ended by itself") from None
            time.sleep(0.1)


def points():
    """The bytes of the points, and the status of an answer to one who has them."""
    url = f"http://127.0.0.1:{PORT}/v1/galleries/archive/points"
    while True:
        with urllib.request.urlopen(url) as answer:
            data, tag = answer.read(), answer.headers["ETag"]
        if answer.status == 200:
            break
        time.sleep(0.2)  # the stored map is being read
    known = urllib.request.Request(url, headers={"If-None-Match": tag})
    try:
        return len(data), urllib.request.urlopen(known).status
    except urllib.error.HTTPError as error:
        return len(data), error.code


def opening(browser):
    """Open the page and its map once, and draw a lasso; the milliseconds of each step."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    start = time.perf_counter()
    page.goto(f"http://127.0.0.1:{PORT}/#/archive/map")
    page.wait_for_selector("canvas")
    shown = 1e3 * (time.perf_counter() - start)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.evaluate(WATCH)
    box = page.locator("canvas").bounding_box()
    corners = [(0.02, 0.02), (0.5, 0.02), (0.5, 0.9), (0.02, 0.9)]
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    lasso = page.evaluate("window.told")
    chosen = page.locator("[aria-label='Selected rows'] h2").first.inner_text()
    page.close()
    return {"paint": paint, "map": shown, "lasso": lasso}, chosen


def main():
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="explore-") as name, sync_playwright() as playwright:
        folder = Path(name) / "archive"
        write(folder, chosen.rows)
        process = served(folder)
        try:
            sent, again = points()
            runs = []
            for _ in range(chosen.rounds):
                browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM)
                runs.append(opening(browser))
                browser.close()
        finally:
            process.terminate()
            process.wait()
    files = [path for path in PAGE.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    packed = sum(len(gzip.compress(path.read_bytes())) for path in files)
    each = {step: statistics.median(run[0][step] for run in runs) for step in runs[0][0]}
    print(
        f"{chosen.rows:,} rows: first paint {each['paint']:.0f} ms, map {each['map']:.0f} ms, lasso"
        f" {each['lasso']:.0f} ms ({runs[0][1]}); points {sent / 1e6:.2f} MB, then status"
        f" {again}; page {packed / 1e3:.0f} kB in gzip"
    )


if __name__ == "__main__":
    main()
