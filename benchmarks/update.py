"""What it takes to add a share of images to a gallery, against building it: all but the network.

    python benchmarks/update.py --rows 1000000 --dimension 512 --share 0.01

A source of that many files (links to a few, so that it takes names and no room) is listed, held
against the gallery, planned, written as units of features that are there already, and committed:
once into a new gallery, then again with a share of new files. Each run is a process of its own.
What a network and a decoder would take comes on top, in proportion to the images: the last line
says what the ratio is where they manage `--crops-a-second`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from contest import Steps, peak

FILES_A_FOLDER = 1000
LAYOUT = "market1501"


def make_files(root, start, stop):
    """Files `start` to `stop` of the source; those of one folder are links to its first."""
    for number in range(start, stop):
        folder = (
            root / f"cam{number // FILES_A_FOLDER % 50:02d}" / f"{number // FILES_A_FOLDER:06d}"
        )
        path = folder / f"{number % 5000 + 1:04d}_c{number % 6 + 1}s1_{number:08d}_00.jpg"
        first = folder / "first"
        if not first.exists():
            folder.mkdir(parents=True, exist_ok=True)
            first.write_bytes(b"x")
        os.link(first, path)


def write_units(units, target):
    """Units of ready features, with all that a row holds."""
    import pyarrow as pa

    from pipeline.gallery.files.schema import content_hash, encode_features
    from pipeline.gallery.files.unit_files import write_unit
    from pipeline.schemas import REJECT_SCHEMA

    block = np.random.default_rng(0).standard_normal((2048, target.dimension), np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    hashed = content_hash(b"x")
    for unit in units:
        count = len(unit.members)
        columns = {name: unit.members[name] for name in unit.members.column_names}
        columns |= {
            "content_hash": pa.array([hashed] * count, pa.binary()),
            "height": pa.array([128] * count, pa.int32()),
            "width": pa.array([64] * count, pa.int32()),
            "feature": encode_features(block[:count], target.dtype),
        }
        for field in target.schema:
            columns.setdefault(field.name, pa.nulls(count, field.type))
        names = target.schema.names
        rows = pa.table([columns[name] for name in names], names=names).cast(target.schema)
        yield write_unit(target, unit.id, unit.row_ids, rows, REJECT_SCHEMA.empty_table())


def bring_up_to_date(source, location, dimension):
    """One run of an extraction whose features cost nothing; seconds by step."""
    from pipeline.archive.limits import UNIT_SIZE
    from pipeline.archive.listing.source import list_source
    from pipeline.gallery.opening import exists, lock_gallery
    from pipeline.gallery.table import Gallery
    from pipeline.runs.extraction import find_changes
    from pipeline.runs.settings import UpdateSettings
    from pipeline.runs.units import commit_units, cut_units, keep_plan

    steps = Steps()
    listing = list_source(str(source), LAYOUT)
    steps.done("list")
    with lock_gallery(location, "benchmark") as lock:
        if not exists(location):
            Gallery.create(
                location,
                recipe_json="{}",
                fingerprint="0" * 64,
                dimension=dimension,
                source=listing.root,
                layout=LAYOUT,
                lock=lock,
            )
        present = Gallery.open(location)
        changes = find_changes(present, listing, UpdateSettings())
        steps.done("compare")
        cut = cut_units(present, changes.new_or_changed, UNIT_SIZE, made_by="0" * 64)
        keep_plan(present, cut, lock)
        steps.done("plan")
        done = list(write_units(cut.todo, present.target))
        steps.done("write")
        commit_units(
            present, done, lock, listed_rejects=listing.rejects, removes=changes.missing, forget=[]
        )
        steps.done("commit")
    return {"images": sum(unit.rows for unit in done), "seconds": steps.taken}


def in_a_process(source, location, dimension):
    command = [sys.executable, __file__, "--run", str(source), location, str(dimension)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def told(name, about):
    seconds = about["seconds"]
    total = sum(seconds.values())
    steps = ", ".join(f"{step} {value:.2f}" for step, value in seconds.items())
    print(
        f"{name}: {about['images']:,} images, {total:.2f} s ({steps}), peak {about['peak']:,.0f} MB"
    )
    return total


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--dimension", type=int, default=512)
    arguments.add_argument("--share", type=float, default=0.01)
    arguments.add_argument("--crops-a-second", type=float, default=2000)
    arguments.add_argument("--scratch", help="folder for the source and the gallery")
    arguments.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.run:
        source, location, dimension = given.run
        about = bring_up_to_date(Path(source), location, int(dimension))
        print(json.dumps(about | {"peak": peak()}))
        return
    folder = Path(tempfile.mkdtemp(dir=given.scratch))
    try:
        more = max(1, round(given.rows * given.share))
        make_files(folder / "source", 0, given.rows)
        runs = [in_a_process(folder / "source", str(folder / "gallery"), given.dimension)]
        make_files(folder / "source", given.rows, given.rows + more)
        runs += [in_a_process(folder / "source", str(folder / "gallery"), given.dimension)]
        runs += [in_a_process(folder / "source", str(folder / "gallery"), given.dimension)]
    finally:
        shutil.rmtree(folder)
    names = ("build", f"add {given.share:.2%}", "again")
    totals = [told(name, about) for name, about in zip(names, runs, strict=True)]
    costs = [about["images"] / given.crops_a_second for about in runs]
    print(
        f"adding is {totals[1] / totals[0]:.2%} of building; "
        f"{(totals[1] + costs[1]) / (totals[0] + costs[0]):.2%} where {given.crops_a_second:,.0f} "
        "crops a second are decoded and extracted"
    )


if __name__ == "__main__":
    main()
