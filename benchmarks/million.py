"""The whole of `regallery evaluate --aqe joint --rerank` on galleries of synthetic features.

    python benchmarks/million.py --rows 1000000
    python benchmarks/million.py --rows 50000 100000 200000 400000

Two galleries are written by `pipeline.gallery` (3,368 queries, and so many rows), and evaluated by
a process of its own, as from the command line. Printed are the seconds of every step, as the verb
tells them with -v, and the most memory that the process and its workers hold at once: their own,
and the pages of mapped files, which the system takes back where it needs them. With several sizes
the slope is given too. A gallery takes 2 GB of disk for each million rows, the scratch five times
that.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from pipeline.schemas import REJECT_SCHEMA

UNIT = 2048
CAMERAS = 6
PER_IDENTITY = 15
NOISE = 1.6  # two crops of one identity have a similarity of about 0.28


class Archive:
    """Features as a network gives them: an identity, a bias of its camera, and noise."""

    def __init__(self, rows, dimension, seed=0):
        rng = np.random.default_rng(seed)
        shape = max(1, rows // PER_IDENTITY), dimension
        self.identities = rng.standard_normal(shape, dtype=np.float32)
        self.cameras = 0.3 * rng.standard_normal((CAMERAS, dimension), dtype=np.float32)

    def draw(self, count, seed):
        """Identities, cameras and features of some crops."""
        rng = np.random.default_rng([1, *seed])
        identity = rng.integers(0, len(self.identities), count)
        camera = rng.integers(0, CAMERAS, count)
        features = NOISE * rng.standard_normal((count, self.cameras.shape[1]), dtype=np.float32)
        features += self.identities[identity] + self.cameras[camera]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return identity + 1, camera, features


def write_gallery(folder, archive, count, side):
    """A gallery of `count` crops, in one version; gives their identities and cameras."""
    recipe = Recipe(weights="0" * 64)
    gallery = Gallery.create(
        str(folder),
        recipe_json=recipe.to_json(),
        fingerprint=recipe.fingerprint,
        dimension=archive.cameras.shape[1],
        source=str(folder / "no-images"),
        layout="market1501",
    )
    units, labels = [], []
    for start in range(0, count, UNIT):
        ids = range(start, min(start + UNIT, count))
        identity, camera, features = archive.draw(len(ids), (side, start))
        columns = {field.name: pa.nulls(len(ids), field.type) for field in gallery.target.schema}
        columns |= {
            "row_id": pa.array(ids, pa.int64()),
            "path": pa.array([f"{row:08d}.jpg" for row in ids]),
            "identity": pa.array(identity, pa.int64()),
            "camera": pa.array([f"c{number}" for number in camera]),
            "feature": encode_features(features),
        }
        rows = pa.table(columns, schema=gallery.target.schema)
        unit = write_unit(gallery.target, f"u{start}", ids, rows, REJECT_SCHEMA.empty_table())
        units.append(unit)
        labels.append((identity, camera))
    gallery.commit(units, run_id="made")
    return np.concatenate(labels, axis=1)


class Memory(threading.Thread):
    """Watches the memory of a process and all that it started, in MB."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.own, self.mapped = process, 0.0, 0.0

    def run(self):
        while self.process.poll() is None:
            own = mapped = 0.0
            for number in descendants(self.process.pid):
                held = status(number)
                own += held.get("RssAnon", 0) + held.get("RssShmem", 0)
                mapped += held.get("RssFile", 0)
            self.own, self.mapped = max(self.own, own), max(self.mapped, mapped)
            time.sleep(0.1)


def descendants(root):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = {root}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def status(number):
    """Memory of one process in MB, by kind."""
    try:
        text = Path(f"/proc/{number}/status").read_text()
    except OSError:  # it has ended
        return {}
    return {name: int(kb) / 1024 for name, kb in re.findall(r"(Rss\w+):\s+(\d+) kB", text)}


def evaluate(folder, chosen):
    """Run the verb; gives its report, what it told of its steps, and the memory watched."""
    command = [sys.executable, "-m", "jobs.evaluate", "-v", "--json"]
    command += ["--query", str(folder / "query"), "--gallery", str(folder / "gallery")]
    command += ["--out", str(folder / "report"), "--scratch", str(folder / "scratch")]
    command += ["--aqe", "joint", "--rerank", "--workers", str(chosen.workers)]
    command += ["--memory", str(chosen.memory)]
    (folder / "scratch").mkdir()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory, steps = Memory(process), []
    memory.start()

    def listen():
        for line in process.stderr:
            if found := re.search(r"jobs\.neighborhood: (.*): ([\d.]+) s$", line):
                steps.append((found[1], float(found[2])))
                print(f"  {found[1]:22}{steps[-1][1]:9.1f} s", flush=True)
            elif "DEBUG" not in line:
                sys.stderr.write(line)

    listener = threading.Thread(target=listen)
    listener.start()
    out = process.stdout.read()
    process.wait()
    listener.join()
    memory.join()
    if process.returncode:
        raise SystemExit(f"evaluate ended with status {process.returncode}: {out}")
    return json.loads(out)["report"], memory


def measure(rows, chosen):
    """Make galleries of this size, evaluate them, print, and give the peak of memory in MB."""
    print(f"{chosen.queries} queries, {rows} gallery rows, d = {chosen.dimension}", flush=True)
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    try:
        begun = time.perf_counter()
        archive = Archive(rows, chosen.dimension)
        for side, (name, count) in enumerate((("query", chosen.queries), ("gallery", rows))):
            write_gallery(folder / name, archive, count, side)
        print(f"  {'(writing galleries':22}{time.perf_counter() - begun:9.1f} s)", flush=True)
        begun = time.perf_counter()
        report, memory = evaluate(folder, chosen)
        seconds = time.perf_counter() - begun
    finally:
        shutil.rmtree(folder)
    for each in report["results"]:
        print(f"  = {each['name']:20}{each['seconds']:9.1f} s   mAP {100 * each['mAP']:.2f}")
    print(
        f"  the whole: {seconds:.1f} s; {memory.own:.0f} MB of its own at most, and"
        f" {memory.mapped:.0f} MB of mapped files",
        flush=True,
    )
    return memory.own


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--workers", type=int, default=0, help="Ray tasks; 0: one process")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB, as of the verb")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    chosen = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} CPUs")
    peaks = [measure(rows, chosen) for rows in chosen.rows]
    if len(peaks) > 1:
        slope, base = np.polyfit(chosen.rows, peaks, 1)
        print(f"peak of memory: {base:.0f} MB and {1000 * slope:.2f} MB for each thousand rows")


if __name__ == "__main__":
    main()
