"""All-pairs neighbors against faiss `IndexFlatIP` and against the bare float32 product.

    python benchmarks/neighbors.py --rows 19281 --dimension 512 -k 10
    python benchmarks/neighbors.py --spectrum 0.5
    python benchmarks/neighbors.py --real /tmp/real
    REGALLERY_MAX_CPU_ISA=avx2 python benchmarks/neighbors.py

Each contestant runs in a process of its own, one after another, round after round, on the same
features; the figures are medians over the rounds, and CPU is the seconds of all threads together.
Ours tells which products it made, and of what share of them the pairs were scored. `--real` takes
features of OSNet, which it makes of the crops in ../shared once, and keeps in that folder. Where
`REGALLERY_MAX_CPU_ISA` is `avx2`, ours and the peers are held to AVX2.
Needs `faiss-cpu`. faiss runs twice: as it is installed, and tuned. Its OpenBLAS takes kernels of
2007 for a processor that is newer than itself, so the tuned one is told which to take, and has
blocks of the best size that we found.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from contest import best_kernels, clustered, enter, only_avx2, own_kernels, race
from real import real_features


def by_neighbors(products):
    from pipeline.core.ledger import Ledger
    from pipeline.core.neighbors.pairs import neighbors

    def run(features, k):
        ledger = Ledger()
        rows = neighbors(features, k, products=products, ledger=ledger).rows
        return rows, {str(ledger.total): 0.0}

    return run


def by_faiss(tuned):
    import faiss

    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    if tuned:
        faiss.cvar.distance_compute_blas_query_bs = 4096
        faiss.cvar.distance_compute_blas_database_bs = 1024

    def run(features, k):
        index = faiss.IndexFlatIP(features.shape[1])
        index.add(features)
        return index.search(features, k + 1)[1], {}  # a row finds itself

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
        return None, {}

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


AS_INSTALLED, TUNED = "faiss, as installed", "faiss, tuned"
PARTS = ("seconds", "cpu", "peak", "more")

CONTESTANTS = {
    "neighbors": lambda: by_neighbors("auto"),
    "neighbors, principal": lambda: by_neighbors("principal"),
    "neighbors, int8 tiles": lambda: by_neighbors("int8"),
    "neighbors, float32 tiles": lambda: by_neighbors("float32"),
    AS_INSTALLED: lambda: by_faiss(tuned=False),
    TUNED: lambda: by_faiss(tuned=True),
    "product alone, numpy": by_numpy,
    "product alone, torch": by_torch,
}


def agreement(folder):
    """The share of faiss's neighbors that `neighbors` gives too: near ties may differ."""
    ours, theirs = np.load(folder / "neighbors.npy"), np.load(folder / f"{TUNED}.npy")
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
    parser.add_argument(
        "--real", type=Path, help="features of OSNet, which are kept in this folder"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="repeatable")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contestant:
        run = CONTESTANTS[chosen.contestant]()
        enter(chosen.contestant, run, chosen.folder, (chosen.k,), small=(3,))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.real:
            features = real_features(chosen.real)
            chosen.rows, chosen.dimension = features.shape
        else:
            features = clustered(chosen.rows, chosen.dimension, chosen.spectrum)
        np.save(folder / "features.npy", features)
        del features
        names, arguments = chosen.only or CONTESTANTS, ["-k", chosen.k]
        environments = dict.fromkeys(names, best_kernels()) | {AS_INSTALLED: own_kernels()}
        taken = race(__file__, names, folder, arguments, chosen.rounds, environments)
        both = {"neighbors", TUNED} <= taken.keys()
        alike = agreement(folder) if both else None
    medians = {
        name: {part: statistics.median(run[part] for run in runs) for part in PARTS}
        for name, runs in taken.items()
    }
    kind = "OSNet" if chosen.real else f"spectrum t^-{chosen.spectrum}"
    held = ", AVX2 alone" if only_avx2() else ""
    print(f"n = {chosen.rows}, d = {chosen.dimension}, k = {chosen.k}, {kind}{held}")
    print(f"{'':26}{'seconds':>9}{'ratio':>7}{'CPU':>9}{'peak MB':>9}{'beyond the features':>21}")
    for name, took in medians.items():
        ratio = took["seconds"] / next(iter(medians.values()))["seconds"]
        print(
            f"{name:26}{took['seconds']:9.3f}{ratio:7.2f}{took['cpu']:9.3f}"
            f"{took['peak']:9.0f}{took['more']:21.0f}"
        )
    for name, runs in taken.items():
        for told in runs[0]["steps"]:
            print(f"{name}: {told}")
    if alike is not None:
        print(f"{alike:.6f} of faiss's neighbors are found")


if __name__ == "__main__":
    main()
