"""What the gallery's operations cost, each beside its yardstick.

    python benchmarks/gallery.py --rows 1000000 --dimension 512

Makes a gallery of random features in a folder of its own (`--folder` to choose where; twice the
features' bytes are needed, three times for a moment), and deletes it at the end. Each measurement
runs in a process of its own, whose peak memory beyond its imports is told. Reads of a whole version
and of the same bytes from an `.npy` file take turns, from the page cache; the figures are medians
over the rounds. `--cold` drops the files from the page cache before each read.
"""

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.schemas import REJECT_SCHEMA

CAMERAS = 20
UNIT = 1024
ERASED = 1000


def make(folder, rows, dimension):
    """A gallery whose cameras take turns row by row, the worst order for a camera's reader, and
    the same features as `features.npy`. Gives the seconds of writing and of the commit.
    """
    from pipeline.gallery.files.schema import encode_features
    from pipeline.gallery.files.unit_files import write_unit
    from pipeline.gallery.table import Gallery

    gallery = Gallery.create(
        str(folder / "g"),
        recipe_json="{}",
        fingerprint="f" * 64,
        dimension=dimension,
        source="/archive",
        layout="none",
    )
    rng, units, writing = np.random.default_rng(0), [], 0.0
    npy = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float32, shape=(rows, dimension)
    )
    for start in range(0, rows, UNIT):
        ids = range(start, min(start + UNIT, rows))
        block = rng.standard_normal((len(ids), dimension), dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        npy[ids.start : ids.stop] = block
        columns = {f.name: pa.nulls(len(ids), f.type) for f in gallery.target.schema}
        columns["row_id"] = pa.array(ids, pa.int64())
        columns["path"] = pa.array([f"{i % 7919:05d}/{i:09d}.jpg" for i in ids])
        columns["camera"] = pa.array([f"c{i % CAMERAS}" for i in ids])
        columns["identity"] = pa.array([i // 15 for i in ids], pa.int64())
        columns["feature"] = encode_features(block)
        table = pa.table(columns, schema=gallery.target.schema)
        begin = time.perf_counter()
        units.append(write_unit(gallery.target, f"u{start}", ids, table, _no_rejects()))
        writing += time.perf_counter() - begin
    npy.flush()
    begin = time.perf_counter()
    gallery.commit(units, run_id="made")
    return {
        "write_seconds": writing,
        "write_mb_per_second": rows * dimension * 4 / 1e6 / writing,
        "files": len(units),
        "commit_seconds": time.perf_counter() - begin,
    }


def _no_rejects():
    return REJECT_SCHEMA.empty_table()


def opened(folder):
    from pipeline.gallery.table import Gallery

    return Gallery.open(str(folder / "g"))


def read_whole(folder):
    features = opened(folder).features()
    return features.read(0, len(features)).nbytes


def read_npy(folder):
    return np.load(folder / "features.npy").nbytes


def read_blocks(folder):
    """In row-id order, 1,024 rows at a time, as an evaluation reads."""
    features = opened(folder).features()
    block = np.empty((1024, features.dimension), np.float32)
    for start in range(0, len(features), 1024):
        stop = min(start + 1024, len(features))
        features.read(start, stop, block[: stop - start])
    return len(features) * features.dimension * 4


def read_camera(folder):
    gallery = opened(folder)
    positions = np.searchsorted(gallery.row_ids(), gallery.select("camera = 'c3'"))
    return gallery.features().take(positions).nbytes


def erase_rows(folder):
    """Rows spread over the whole gallery."""
    from pipeline.gallery.upkeep.erase import erase
    from pipeline.gallery.upkeep.selection import Selection, selected_rows

    gallery = opened(folder)
    step = max(1, gallery.count // ERASED)
    row_ids = tuple(range(5, gallery.next_row_id, step))
    selected = selected_rows(gallery, Selection(row_ids=row_ids))
    erase(gallery, selected)
    return len(selected.row_ids)


def purge(folder):
    from pipeline.gallery.opening import lock_gallery
    from pipeline.gallery.upkeep import purge as purging

    with lock_gallery(str(folder / "g"), "purge") as lock:
        return purging.purge(opened(folder), lock).searched_bytes


def compact(folder):
    from pipeline.gallery.upkeep import compact as compaction

    return len(compaction.compact(opened(folder)).snapshot.files)


def verify(folder):
    from pipeline.gallery.upkeep import verify as checks

    found = checks.verify(opened(folder))
    if found.findings:
        raise SystemExit(f"findings: {found.findings[:3]}")
    return found.bytes_verified


MEASURED = (
    read_whole, read_npy, read_blocks, read_camera, erase_rows, purge, compact, verify
)  # fmt: skip


def drop_cache(folder):
    """Takes the files out of the page cache, which needs no rights."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def worker(name, folder):
    """Runs one measurement and prints its seconds, its peak memory and what it tells."""
    for module in ("table", "erase", "selection", "purge", "compact", "verify"):
        importlib.import_module(f"pipeline.gallery.{module}")
    before = peak_memory()
    begin = time.perf_counter()
    told = next(each for each in MEASURED if each.__name__ == name)(folder)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory() - before, "told": told}))


def peak_memory():
    """Of this process, in MB; `getrusage` would tell that of the process which started it."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def measure(name, folder, cold=False):
    if cold:
        drop_cache(folder)
    command = [sys.executable, __file__, "--worker", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def report(name, runs, note=""):
    seconds = statistics.median(run["seconds"] for run in runs)
    peak = max(run["peak_mb"] for run in runs)
    print(f"{name:34} {seconds:9.2f} s {peak:9,.0f} MB  {note}", flush=True)
    return seconds


def reads(folder, rounds, cold, when):
    """Whole reads beside the .npy file, blocks and one camera."""
    names = ("read_npy", "read_whole", "read_blocks", "read_camera")
    runs = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(measure(name, folder, cold))
    yardstick = report(f"features.npy ({when})", runs["read_npy"])
    whole = runs["read_whole"]
    mb = whole[0]["told"] / 1e6
    seconds = statistics.median(run["seconds"] for run in whole)
    share = 100 * yardstick / seconds
    report(f"whole version ({when})", whole, f"{mb / seconds:,.0f} MB/s, {share:.0f} % of .npy")
    report(f"blocks of 1,024 rows ({when})", runs["read_blocks"])
    size = runs["read_camera"][0]["told"] / 1e6
    report(f"one camera of {CAMERAS} ({when})", runs["read_camera"], f"{size:,.0f} MB of features")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.worker, asked.folder)
        return
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        made = make(folder, asked.rows, asked.dimension)
        print(f"{asked.rows:,} x {asked.dimension}, {made['files']:,} files")
        print(
            f"write {made['write_seconds']:.1f} s ({made['write_mb_per_second']:,.0f} MB/s), "
            f"commit of {made['files']:,} files {made['commit_seconds']:.2f} s"
        )
        reads(folder, asked.rounds, asked.cold, "as extracted")
        report("verify", [measure("verify", folder)])
        report("compact", [run := measure("compact", folder)], f"to {run['told']} files")
        reads(folder, asked.rounds, asked.cold, "compacted")
        report("erase", [run := measure("erase_rows", folder)], f"{run['told']:,} rows")
        report("purge", [run := measure("purge", folder)], f"searched {run['told'] / 1e6:,.0f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
