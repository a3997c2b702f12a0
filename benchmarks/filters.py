"""A search among 1 % of a gallery's rows, against the search of the whole gallery.

    python benchmarks/filters.py
    python benchmarks/filters.py --compact
    python benchmarks/filters.py --rows 100000 --queries 1 16 --rounds 5

A gallery of drawn features is written, captured evenly over time by 6 cameras. Each search opens
the gallery, selects, searches and reads the columns of what it found, as `regallery search` does
after it has made the features of its images. Selections leave 1 % of the rows:

    time        a stretch of time: the log tells which files can hold such rows
    camera      one camera in a stretch six times as long
    identity    1 % of the identities, scattered over all files, of which the log tells nothing

Every list is compared with that of a plain search over the chosen rows. A gallery takes 2 GB of
disk for each million rows of 512 dimensions.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from million import Archive

from pipeline.core.blocks import ArrayRows, ChosenRows
from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.compact import compact
from pipeline.model.recipe import Recipe
from pipeline.runs.selection import RowFilter
from pipeline.schemas import REJECT_SCHEMA
from pipeline.stages.search import search_gallery

UNIT = 2048
START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = timedelta(seconds=5)
SHARE = 0.01
CAMERAS = 6
COLUMNS = ["row_id", "path", "identity", "camera", "captured_at"]


def write_gallery(folder, archive, count):
    """A gallery of `count` crops in the order of time, in one version."""
    recipe = Recipe(weights="0" * 64)
    gallery = Gallery.create(
        str(folder),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=archive.cameras.shape[1],
        source=str(folder / "no-images"),
        layout="market1501",
    )
    units = []
    for start in range(0, count, UNIT):
        ids = range(start, min(start + UNIT, count))
        identity, camera, features = archive.draw(len(ids), (1, start))
        columns = {field.name: pa.nulls(len(ids), field.type) for field in gallery.target.schema}
        times = [START + row * EVERY for row in ids]
        columns |= {
            "row_id": pa.array(ids, pa.int64()),
            "path": pa.array([f"{row:08d}.jpg" for row in ids]),
            "identity": pa.array(identity, pa.int64()),
            "camera": pa.array([f"c{number}" for number in camera]),
            "captured_at": pa.array(times, gallery.target.schema.field("captured_at").type),
            "feature": encode_features(features),
        }
        rows = pa.table(columns, schema=gallery.target.schema)
        units.append(
            write_unit(gallery.target, f"u{start}", ids, rows, REJECT_SCHEMA.empty_table())
        )
    return gallery.commit(units, run_id="made")


def selections(rows, identities):
    """The selections by name."""
    middle = START + rows // 2 * EVERY
    stretch = int(SHARE * rows) * EVERY

    def between(length):
        ends = middle, middle + length
        return dict(zip(("after", "before"), (each.isoformat() for each in ends), strict=True))

    return {
        "time": RowFilter(**between(stretch)),
        "camera": RowFilter(camera=("c3",), **between(CAMERAS * stretch)),
        "identity": RowFilter(where=f"identity <= {int(SHARE * identities)}"),
    }


def search(location, queries, k, select):
    """What was found, and the rows searched."""
    gallery = Gallery.open(location)
    chosen = select.positions(gallery)
    rows = gallery.features() if chosen is None else ChosenRows(gallery.features(), chosen)
    best = search_gallery(ArrayRows(queries), rows, k)
    found = best.rows if chosen is None else chosen[best.rows]
    gallery.rows_at(np.unique(found), COLUMNS)
    return found, len(rows), chosen


def check(location, queries, k, select):
    """The lists are those of a plain search over the chosen rows."""
    found, _, chosen = search(location, queries, k, select)
    scores = queries @ Gallery.open(location).features().take(chosen).T
    place = np.searchsorted(chosen, found)
    best = np.sort(scores, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(np.take_along_axis(scores, place, 1), best, atol=1e-5)


def measure(location, queries, k, chosen, rounds):
    """Print the median times of each selection and of none, taken in turn, and of the CPUs."""
    ways = {"none": RowFilter(), **chosen}
    taken, sizes = {name: [] for name in ways}, {}
    worked = {name: [] for name in ways}
    for each in ways.values():
        search(location, queries, k, each)  # files are in the system's cache, code is compiled
    for _ in range(rounds):
        for name, select in ways.items():
            begun, cpu = time.perf_counter(), time.process_time()
            _, sizes[name], _ = search(location, queries, k, select)
            taken[name].append(time.perf_counter() - begun)
            worked[name].append(time.process_time() - cpu)
    for name in ways:
        told = [f"  {len(queries):4} queries, {name:9}{sizes[name]:10,} rows"]
        for of, clock in ((taken, "wall"), (worked, "CPU")):
            median = statistics.median(of[name])
            share = 100 * median / statistics.median(of["none"])
            told.append(f"{1000 * median:9.1f} ms {share:6.1f} % {clock}")
        print(" ".join(told), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 64])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compact", action="store_true", help="compact the gallery first")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="use and leave the gallery in --folder")
    chosen = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} CPUs, {chosen.rows:,} rows, d = {chosen.dimension}")
    folder = Path(tempfile.mkdtemp(dir=chosen.folder)) if not chosen.keep else chosen.folder
    archive = Archive(chosen.rows, chosen.dimension)
    place = folder / "gallery"
    try:
        gallery = (
            Gallery.open(str(place)) if place.exists()
            else write_gallery(place, archive, chosen.rows)
        )  # fmt: skip
        every = selections(chosen.rows, len(archive.identities))
        if chosen.compact:
            gallery = compact(gallery)
        print(f"{len(gallery.snapshot.files):,} files", flush=True)
        for count in chosen.queries:
            _, _, queries = archive.draw(count, (0, 0))
            for select in every.values():
                check(gallery.location, queries, chosen.k, select)
            measure(gallery.location, queries, chosen.k, every, chosen.rounds)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
