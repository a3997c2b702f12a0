"""B-cubed F1 of `link` with and without travel times, on a drawn archive of 12 cameras.

    python benchmarks/travel_times.py
    python benchmarks/travel_times.py --people 2000 --seed 3

Twelve cameras stand in two buildings. In the course of a day people come in by a door of one of
them and leave by another, on the shortest way and each at a speed of its own, and every camera on
the way takes some crops of them. A feature is that of the person, who looks much like some others,
the bias of the camera, and noise. Links are made without travel times, with those of the plan (a
table, as a user would give it), and with those that `calibrate` learns from the archive itself.
"""

import argparse
import csv
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import permutations
from math import inf
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.travel_learning import learn_travel_times
from pipeline.schemas import REJECT_SCHEMA

START = datetime(2026, 5, 4, 8, tzinfo=UTC)
# Two buildings: crossings of two rows of four, and a corridor of four, with 60 m between two.
PLACES = [(x, y) for y in range(3) for x in range(4)]
WAYS = [(a, b) for a, p in enumerate(PLACES) for b, q in enumerate(PLACES)
        if abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1 and (p[1] == 2) == (q[1] == 2)]  # fmt: skip
DOORS = [[0, 3, 4, 7], [8, 11]]
METERS = 60.0
SPEEDS = 0.9, 1.7
PAUSE = 15.0
"""Seconds that a person may stand at a crossing."""
CROPS = 4
"""The most crops that a camera takes of a person in passing, one in a second."""


def routes():
    """Every shortest way between two doors, as the cameras passed."""
    found = []
    for building in DOORS:
        for start, end in permutations(building, 2):
            ways = [[start]]
            while ways:
                way = ways.pop()
                if way[-1] == end:
                    found.append(way)
                    continue
                here = np.abs(np.subtract(PLACES[way[-1]], PLACES[end])).sum()
                ways += [
                    [*way, b] for a, b in WAYS
                    if a == way[-1] and np.abs(np.subtract(PLACES[b], PLACES[end])).sum() < here
                ]  # fmt: skip
    return found


def plan():
    """The travel times of the site: from, to, least and most seconds; inf where nobody gets."""
    steps = np.zeros((len(PLACES),) * 2)
    for way in routes():
        for i in range(len(way)):
            for j in range(i + 1, len(way)):
                steps[way[i], way[j]] = j - i
    for a, b in np.ndindex(steps.shape):
        if a != b:
            n = steps[a, b]
            ends = inf, inf
            if n:
                ends = n * METERS / SPEEDS[1] - CROPS, n * (METERS / SPEEDS[0] + PAUSE) + CROPS
            yield f"c{a:02}", f"c{b:02}", *ends


def draw(people, hours, dimension, seed):
    """Features, identities, cameras and seconds of all crops, in the order of time."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((max(1, people // 8), dimension))  # clothes that some have alike
    looks = kinds[rng.integers(0, len(kinds), people)] + 0.75 * rng.standard_normal(
        (people, dimension)
    )
    bias = 0.45 * rng.standard_normal((len(PLACES), dimension))
    every, ways = [], routes()
    for person in range(people):
        way, speed = ways[rng.integers(len(ways))], rng.uniform(*SPEEDS)
        now = rng.uniform(0, hours * 3600)
        for camera in way:
            crops = range(rng.integers(2, CROPS + 1))
            every += [(now + crop, camera, person) for crop in crops]
            now += METERS / speed + rng.uniform(0, PAUSE)
    every.sort()
    seconds, camera, person = (np.array(column) for column in zip(*every, strict=True))
    features = looks[person] + bias[camera]
    features = features + 1.15 * rng.standard_normal(features.shape)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), person + 1, camera, np.floor(seconds)


def write_gallery(folder, people, hours=8.0, dimension=128, seed=0):
    """The gallery of the archive."""
    features, identity, camera, seconds = draw(people, hours, dimension, seed)
    recipe = Recipe(weights="0" * 64)
    gallery = Gallery.create(
        str(folder),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=dimension,
        source=str(folder / "no-images"),
        layout="market1501",
    )
    units = []
    for start in range(0, len(identity), 2048):
        ids = range(start, min(start + 2048, len(identity)))
        part = slice(ids.start, ids.stop)
        columns = {field.name: pa.nulls(len(ids), field.type) for field in gallery.target.schema}
        times = [START + timedelta(seconds=each) for each in seconds[part].tolist()]
        columns |= {
            "row_id": pa.array(ids, pa.int64()),
            "path": pa.array([f"{row:08d}.jpg" for row in ids]),
            "identity": pa.array(identity[part], pa.int64()),
            "camera": pa.array([f"c{number:02}" for number in camera[part]]),
            "captured_at": pa.array(times, gallery.target.schema.field("captured_at").type),
            "feature": encode_features(features[part]),
        }
        rows = pa.table(columns, schema=gallery.target.schema)
        units.append(
            write_unit(gallery.target, f"u{start}", ids, rows, REJECT_SCHEMA.empty_table())
        )
    return gallery.commit(units, run_id="made")


def write_plan(path):
    """The plan as a table of travel times."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["from", "to", "least", "most"])
        writer.writerows(plan())


def told(name, found, seconds):
    """A line of what was linked."""
    known, travel = found.agreement, found.travel
    line = (
        f"  {name:8} threshold {found.threshold:.3f}: precision {known.precision:.3f}, recall"
        f" {known.recall:.3f}, F1 {known.f_score:.3f} ({seconds:.1f} s)"
    )
    if travel is None:
        return line
    return (
        f"{line}; {travel.pairs_excluded / travel.pairs:.1%} of pairs excluded, of true ones"
        f" {travel.true_pairs_excluded} of {travel.true_pairs}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group-precision", type=float, default=0.9)
    parser.add_argument(
        "--sweep", action="store_true", help="also take the best of some thresholds"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / "g"
        gallery = write_gallery(place, chosen.people, chosen.hours, chosen.dimension, chosen.seed)
        write_plan(folder / "plan.csv")
        cpus = len(os.sched_getaffinity(0))
        print(f"{cpus} CPUs, {gallery.count:,} crops, {chosen.people} people")
        learned = learn_travel_times(gallery)
        lists = learned.effect.lists
        print(
            f"learned from {learned.links:,} pairs: {learned.ways} ways, {learned.unreachable} that"
            f" nobody goes, {learned.unknown} unknown; precision of lists {lists.precision:.3f}"
            f" ({lists.precision_without:.3f} without), rank-1 {lists.rank1:.3f}"
            f" ({lists.rank1_without:.3f})"
        )
        for times in (None, str(folder / "plan.csv"), "learned"):
            kind = "none" if times is None else Path(times).stem
            ways = [LinkSettings(group_precision=chosen.group_precision, travel_times=times)]
            if chosen.sweep:
                ways += [
                    LinkSettings(threshold=each / 100, travel_times=times)
                    for each in range(20, 64, 4)
                ]
            runs = []
            for settings in ways:
                begun = time.perf_counter()
                found = link(gallery, folder / "links.parquet", settings)
                runs.append((found, time.perf_counter() - begun))
            print(told(kind, *runs[0]), flush=True)
            if chosen.sweep:
                best = max(runs[1:], key=lambda run: run[0].agreement.f_score)
                print(told("  best", *best), flush=True)


if __name__ == "__main__":
    main()
