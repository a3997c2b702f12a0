"""What the driver of an extraction does with very many images: all but decoding and the network.

    python benchmarks/hundred_million.py --rows 1000000
    nice python benchmarks/hundred_million.py --rows 100000000 --scratch /data

So many images are listed (their paths, times and labels are made up, in the order in which folders
come), held against an empty gallery, planned, written as work units of 1,024 rows with features of
two dimensions, found again as a run does that was interrupted before its commit, committed in one
version, and held against the gallery again, as a later run does. Told are the seconds of each step,
the most memory that it held of its own and in mapped files, and the size of the log. 100,000,000
rows take 60 GB of disk for a while. Files are not flushed to the disk one by one, unless
`--flush` is given: that is the disk's speed.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from update import write_units

from pipeline.archive.layouts.rules import AS_THEY_ARE
from pipeline.archive.limits import UNIT_SIZE
from pipeline.archive.listing.source import SourcePart, listing_of
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.gallery.files import storage
from pipeline.gallery.log.entries import LoggedFile
from pipeline.gallery.log.transactions import Change
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.runs.extraction import find_changes
from pipeline.runs.settings import UpdateSettings
from pipeline.runs.units import commit_units, cut_units, keep_plan
from pipeline.schemas import REJECT_SCHEMA

CAMERAS = 997
PART = 50_000  # images that a process lists before it answers
MADE_BY = "0" * 64
SOURCE = "/archive"


class Steps(threading.Thread):
    """Seconds and the most memory of one step after another, in MB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.taken, self._most = {}, {}
        self._ended, self._begun = threading.Event(), time.perf_counter()
        self._cpu = time.process_time()

    def run(self):
        while not self._ended.wait(0.05):
            self._look()

    def done(self, step):
        self._look()
        now = time.perf_counter()
        cpu = time.process_time()
        times = {"seconds": now - self._begun, "cpu_seconds": cpu - self._cpu}
        self.taken[step] = times | self._most
        own, mapped = self._most["own_mb"], self._most["mapped_mb"]
        print(f"  {step:34}{now - self._begun:9.1f} s{own:8,.0f} MB{mapped:8,.0f} MB", flush=True)
        self._most, self._begun, self._cpu = {}, time.perf_counter(), time.process_time()

    def end(self):
        self._ended.set()
        self.join()

    def _look(self):
        text = Path("/proc/self/status").read_text()
        held = {
            name: int(text.partition(f"{name}:")[2].split()[0]) / 1024
            for name in ("RssAnon", "RssShmem", "RssFile")
        }
        for name, size in (
            ("own_mb", held["RssAnon"] + held["RssShmem"]),
            ("mapped_mb", held["RssFile"]),
        ):
            self._most[name] = max(self._most.get(name, 0), size)


def listed(rows):
    """What processes answer that list folders of 997 cameras, an image of each in turn."""
    names = pa.array([f"cam{number:03d}/2026-01/" for number in range(CAMERAS)])
    cameras = pa.array([str(number) for number in range(CAMERAS)])
    for start in range(0, rows, PART):
        number = np.arange(start, min(start + PART, rows))
        camera = pa.array(number % CAMERAS)
        base = pc.utf8_lpad(pa.array(number // CAMERAS).cast(pa.string()), 9, "0")
        times = pa.array(10**15 + 10**5 * number).cast(pa.timestamp("us", "UTC"))
        columns = {
            "path": pc.binary_join_element_wise(names.take(camera), base, ".jpg", ""),
            "size": pa.array(2000 + number * 7919 % 7000),
            "mtime": times,
            "identity": pa.array(number // 15 + 1),
            "camera": cameras.take(camera),
            "captured_at": times,
        }
        for field in MANIFEST_SCHEMA:
            columns.setdefault(field.name, pa.nulls(len(number), field.type))
        images = pa.table(columns, schema=MANIFEST_SCHEMA)
        yield SourcePart(images, REJECT_SCHEMA.empty_table(), Counter(), [])


def written(units, target, processes):
    """Write all units, on processes that are forked here and share the plan; gives their number."""
    if processes == 1:
        return sum(1 for _ in write_units(units, target))
    share = -(-len(units) // processes)
    fork = multiprocessing.get_context("fork")

    def write(first):
        for _ in write_units(units[first : first + share], target):
            pass

    started = [fork.Process(target=write, args=(at,)) for at in range(0, len(units), share)]
    for each in started:
        each.start()
    for each in started:
        each.join()
        if each.exitcode:
            raise SystemExit(f"a process that writes units ended with status {each.exitcode}")
    return len(units)


def simulate(rows, folder, steps, unit_size, processes):
    """All steps once; gives the number of files and the bytes of the log."""
    from pipeline.archive.layouts.named import layout

    location = str(folder / "gallery")

    def listing():
        found = listing_of(SOURCE, layout("none"), listed(rows), AS_THEY_ARE)
        steps.done("list (all but the file system)")
        return found

    with lock_gallery(location, "benchmark") as lock:
        present = Gallery.create(
            location, recipe_json="{}", fingerprint=MADE_BY, dimension=2, source=SOURCE,
            layout="none", lock=lock,
        )  # fmt: skip
        steps.done("make the gallery")
        images = listing()
        changes = find_changes(present, images, UpdateSettings())
        steps.done("hold against an empty gallery")
        cut = cut_units(present, changes.new_or_changed, unit_size, made_by=MADE_BY)
        steps.done("plan")
        keep_plan(present, cut, lock)
        steps.done("store the plan")
        if processes == 0:
            names = cut.todo.ids
            del cut
            cut = cut_units(present, changes.new_or_changed, unit_size, made_by=MADE_BY)
            assert cut.todo.ids == names
            steps.done("resume: plan, all units kept")
            return {"files": 0, "bytes": 0, "log": {}}
        count = written(cut.todo, present.target, processes)
        del cut
        steps.done("(write the units)")
        cut = cut_units(present, changes.new_or_changed, unit_size, made_by=MADE_BY)
        assert (len(cut.finished), len(cut.todo)) == (count, 0)
        steps.done("resume: plan, find all units")
        none = np.zeros(0, np.int64)
        commit_units(
            present, cut.finished, lock, listed_rejects=images.rejects, removes=none, forget=[]
        )
        steps.done("commit")
        del changes, cut
    present = Gallery.open(location)
    assert (present.count, len(present.snapshot.files)) == (rows, count)
    steps.done("open")
    changes = find_changes(present, images, UpdateSettings())
    assert (changes.unchanged, len(changes.new)) == (rows, 0)
    steps.done("hold against the full gallery")
    log = {path.name: path.stat().st_size for path in (folder / "gallery/_delta_log").iterdir()}
    return {"files": count, "bytes": sum(each.bytes for each in present.snapshot.files), "log": log}


def measure(rows, scratch=None, *, flush=False, unit_size=UNIT_SIZE, processes=1):
    """Simulate so many rows, print, and give all figures."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    tempfile.tempdir = str(folder)  # also of the tables that are mapped
    kept = storage.sync_file
    if not flush:
        storage.sync_file = lambda _: None
    print(f"{rows:,} rows: seconds, own memory, mapped files", flush=True)
    steps = Steps()
    steps.start()
    try:
        found = simulate(rows, folder, steps, unit_size, processes)
    finally:
        steps.end()
        storage.sync_file, tempfile.tempdir = kept, None
        shutil.rmtree(folder)
    own = max(step["own_mb"] for step in steps.taken.values())
    mega = sum(found["log"].values()) / 1e6
    print(f"  {found['files']:,} files; a log of {mega:,.1f} MB; {own:,.0f} MB of memory at most")
    return {"rows": rows, "steps": steps.taken, "own_mb": own, **found}


def measure_log(files, scratch=None):
    """Commit so many files that are in the log alone, and open; gives the bytes of the log."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    location = str(folder / "gallery")
    print(f"{files:,} files in the log: seconds, own memory, mapped files", flush=True)
    steps = Steps()
    steps.start()
    try:
        with lock_gallery(location, "benchmark") as lock:
            empty = Gallery.create(
                location, recipe_json="{}", fingerprint=MADE_BY, dimension=512, source=SOURCE,
                layout="none", lock=lock,
            )  # fmt: skip
            added = [logged(number) for number in range(files)]
            steps.done("make the gallery")
            told = {"rows_added": files * UNIT_SIZE}
            empty.apply(Change("made", added, [], files * UNIT_SIZE, 0, told), lock)
            steps.done("write the log")
        assert len(Gallery.open(location).snapshot.files) == files
        steps.done("open")
        return {path.name: path.stat().st_size for path in Path(location, "_delta_log").iterdir()}
    finally:
        steps.end()
        shutil.rmtree(folder)


def logged(number):
    """A file of 1,024 rows as the log has it."""
    first, time_ = number * UNIT_SIZE, "2001-09-09T01:46:40.000Z"
    low = {"row_id": first, "size": 2000, "mtime": time_, "identity": first // 15, "camera": "1"}
    high = low | {"row_id": first + UNIT_SIZE - 1, "size": 8999, "camera": "996"}
    sides = {"minValues": low, "maxValues": high, "nullCount": dict.fromkeys(low, 0)}
    told = json.dumps({"numRecords": UNIT_SIZE, **sides})
    return LoggedFile(f"{first:012d}-{number:032x}.parquet", 2_150_000, told, f"{number:064x}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--scratch", help="folder for the gallery and the mapped tables")
    parser.add_argument("--flush", action="store_true", help="wait for the disk after each file")
    parser.add_argument("--unit-size", type=int, default=UNIT_SIZE)
    parser.add_argument(
        "--processes",
        type=int,
        default=4,
        help="that write units; 0: write none, and end after the plan",
    )
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--log", type=int, help="only measure the log of so many files")
    given = parser.parse_args()
    if given.log:
        print(measure_log(given.log, given.scratch))
        return
    how = {"flush": given.flush, "processes": given.processes, "unit_size": given.unit_size}
    found = [measure(rows, given.scratch, **how) for rows in given.rows]
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
