"""All-pairs neighbours against faiss `IndexFlatIP` and against the bare float32 product.

    python benchmarks/neighbors.py --rows 19281 --dimension 512 -k 10

Each contestant runs in a process of its own, one after another, round after round, on the same
features; the figures are medians over the rounds, and CPU is the seconds of all threads together.
Needs `faiss-cpu`. OpenBLAS takes kernels of 2007 for a processor that is newer than itself, which
costs faiss three quarters of its speed: it is told which to take.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PER_IDENTITY = 15
CAMERAS = 6


def clustered(rows, dimension, falling=0.0, seed=0):
    """Unit features as a network gives them: an identity, a bias of its camera, and noise.

    The similarity of one identity's rows is about 0.6. Component t has deviation t^-falling.
    """
    rng = np.random.default_rng(seed)
    spread = np.arange(1, dimension + 1, dtype=np.float32) ** -np.float32(falling)

    def draw(count):
        return rng.standard_normal((count, dimension), dtype=np.float32) * spread

    identities, cameras = draw(max(1, rows // PER_IDENTITY)), 0.3 * draw(CAMERAS)
    out = np.empty((rows, dimension), np.float32)
    for start in range(0, rows, 8192):
        block = out[start : start + 8192]
        block[:] = identities[rng.integers(0, len(identities), len(block))]
        block += cameras[rng.integers(0, CAMERAS, len(block))]
        block += 0.8 * draw(len(block))
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def by_neighbors(products):
    from pipeline.core.neighbors import neighbors

    def run(features, k):
        return neighbors(features, k, products=products).rows

    return run


def by_faiss():
    import faiss

    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    # Faster here than the defaults.
    faiss.cvar.distance_compute_blas_query_bs = 4096
    faiss.cvar.distance_compute_blas_database_bs = 1024

    def run(features, k):
        index = faiss.IndexFlatIP(features.shape[1])
        index.add(features)
        return index.search(features, k + 1)[1]  # a row finds itself

    return run


def by_product(multiply):
    size = 4096

    def run(features, _k):
        buffer = np.empty(size * size, np.float32)
        for start in range(0, len(features), size):
            rows = features[start : start + size]
            for other in range(0, len(features), size):
                columns = features[other : other + size]
                tile = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
                multiply(rows, columns, tile)

    return run


def by_numpy():
    return by_product(lambda rows, columns, tile: np.matmul(rows, columns.T, out=tile))


def by_torch():
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tensor = torch.from_numpy
    return by_product(
        lambda rows, columns, tile: torch.mm(tensor(rows), tensor(columns).t(), out=tensor(tile))
    )


CONTESTANTS = {
    "neighbors": lambda: by_neighbors("auto"),
    "neighbors, int8 tiles": lambda: by_neighbors("int8"),
    "neighbors, float32 tiles": lambda: by_neighbors("float32"),
    "faiss IndexFlatIP": by_faiss,
    "product alone, numpy": by_numpy,
    "product alone, torch": by_torch,
}


def contest(name, folder, k):
    """Run one contestant here, and print what it took."""
    run = CONTESTANTS[name]()
    run(clustered(2100, 64), 3)  # compiles, and starts the threads
    features = np.load(folder / "features.npy")
    before = peak()
    start, cpu = time.perf_counter(), time.process_time()
    rows = run(features, k)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if rows is not None:
        np.save(folder / f"{name}.npy", rows)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak(), "more": peak() - before}))


def best_kernels():
    """The environment in which OpenBLAS takes its fastest kernels for this processor."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("OPENBLAS_")}
    flags = Path("/proc/cpuinfo").read_text().split()
    if "avx512f" in flags:
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
    elif "avx2" in flags:
        environment["OPENBLAS_CORETYPE"] = "Haswell"
    return environment


def peak():
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agreement(folder):
    """The share of faiss's neighbours that `neighbors` gives too: near ties may differ."""
    ours, theirs = np.load(folder / "neighbors.npy"), np.load(folder / "faiss IndexFlatIP.npy")
    found = others = 0
    for row, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        its = its[its != row][: len(mine)]
        found, others = found + len(np.intersect1d(mine, its)), others + len(its)
    return found / others


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=19_281)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument(
        "--spectrum", type=float, default=0.0, help="component t has deviation t^-this"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="repeatable")
    parser.add_argument("--contest", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contest:
        contest(chosen.contest[0], Path(chosen.contest[1]), chosen.k)
        return
    taken = {name: [] for name in chosen.only or CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        features = clustered(chosen.rows, chosen.dimension, chosen.spectrum)
        np.save(Path(folder, "features.npy"), features)
        del features
        for _ in range(chosen.rounds):
            for name in taken:
                command = [sys.executable, __file__, "-k", str(chosen.k), "--contest", name, folder]
                ran = subprocess.run(
                    command, env=best_kernels(), check=True, stdout=subprocess.PIPE, text=True
                )
                taken[name].append(json.loads(ran.stdout))
        both = {"neighbors", "faiss IndexFlatIP"} <= taken.keys()
        alike = agreement(Path(folder)) if both else None
    medians = {
        name: {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        for name, runs in taken.items()
    }
    print(
        f"n = {chosen.rows}, d = {chosen.dimension}, k = {chosen.k}, spectrum t^-{chosen.spectrum}"
    )
    print(f"{'':26}{'seconds':>9}{'ratio':>7}{'CPU':>9}{'peak MB':>9}{'beyond the features':>21}")
    for name, took in medians.items():
        ratio = took["seconds"] / next(iter(medians.values()))["seconds"]
        print(
            f"{name:26}{took['seconds']:9.3f}{ratio:7.2f}{took['cpu']:9.3f}"
            f"{took['peak']:9.0f}{took['more']:21.0f}"
        )
    if alike is not None:
        print(f"{alike:.6f} of faiss's neighbours are found")


if __name__ == "__main__":
    main()
