"""CMC, mAP and mINP by counting ranks, against sorting every row as compiled toolboxes do.

    pip install --no-deps fastreid cython
    python benchmarks/ranking.py
    python benchmarks/ranking.py --gallery-rows 1000000 --rounds 1

3,368 queries and 15,913 gallery rows are those of Market-1501. Ours reads both sides from galleries
that are written to a scratch folder by `pipeline.gallery`; the peers have their features in memory.
"fast-reid" is its compiled rank, which torchreid's is too, after the distances of all pairs (a
product of torch). "sorting" does the least that sorting can: the distances (a product of NumPy on
all cores), `np.argsort` of each row, and a pass over it for CMC, AP and INP, compiled by numba;
none of the copies of the order that fast-reid makes. Where a matrix of that many pairs is too
large, a peer ranks the first queries alone; its seconds are then scaled to all of them, as it takes
the same time for each, and its memory is told as measured.

Each contestant runs in a process of its own, one after another, round after round; the figures are
medians over the rounds, and memory is beyond the interpreter and its libraries.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import best_kernels, peak, race, show
from million import Archive, write_gallery

PAIRS = 64_000_000
"""Pairs that the peer ranks at once: twelve bytes each."""


def by_counting(folder, _queries):
    from pipeline.core.evaluation.labels import Labels
    from pipeline.core.evaluation.metrics import summarize
    from pipeline.core.evaluation.ranking import rank_counts
    from pipeline.gallery.table import Gallery

    sides = []
    for name in ("query", "gallery"):
        identity, camera = np.load(folder / f"{name}.npy")
        sides += [Gallery.open(str(folder / name)).features(), Labels(identity, camera)]
    counts = rank_counts(*sides)
    return summarize(counts, len(sides[2])).average_precision, None


def in_memory(folder, queries):
    """Features, identities and cameras of the first queries and of the gallery; and how many
    queries there are."""
    from pipeline.gallery.table import Gallery

    (query, *asked), (gallery, *held) = (
        (Gallery.open(str(folder / name)).features(), *np.load(folder / f"{name}.npy"))
        for name in ("query", "gallery")
    )
    asked = query.read(0, queries), *(each[:queries] for each in asked)
    return asked, (gallery.read(0, len(gallery)), *held), len(query)


def by_sorting(folder, queries):
    (asked, *of_queries), (features, *of_rows), every = in_memory(folder, queries)
    loops = ranked_loops()
    begun = time.perf_counter()
    distances = 1 - np.matmul(asked, features.T)
    ap, _cmc, _inp = loops(np.argsort(distances, axis=1), *of_queries, *of_rows)
    return ap, (time.perf_counter() - begun) * every / queries


def by_fast_reid(folder, queries):
    import pyximport
    import torch

    package = Path(importlib.util.find_spec("fastreid").origin).parent
    pyximport.install(setup_args={"include_dirs": np.get_include()})
    source = package / "evaluation" / "rank_cylib" / "rank_cy.pyx"
    built = pyximport.build_module(
        "rank_cy", str(source), str(folder / "compiled"), language_level=3
    )
    spec = importlib.util.spec_from_file_location("rank_cy", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (asked, identity, camera), (features, *of_rows), every = in_memory(folder, queries)
    begun = time.perf_counter()
    distances = 1 - torch.mm(torch.from_numpy(asked), torch.from_numpy(features).t())
    _cmc, ap, _inp = module.evaluate_cy(
        distances.numpy(), identity, of_rows[0], camera, of_rows[1], 50
    )
    return np.asarray(ap), (time.perf_counter() - begun) * every / queries


def ranked_loops():
    from numba import njit

    @njit(cache=True)
    def loops(order, query_identity, query_camera, identity, camera):
        ap, inp = np.full(len(order), np.nan), np.full(len(order), np.nan)
        cmc = np.zeros(50)
        for q in range(len(order)):
            rank = hits = last = 0
            total = 0.0
            for row in order[q]:
                if identity[row] == query_identity[q] and camera[row] == query_camera[q]:
                    continue
                rank += 1
                if identity[row] == query_identity[q]:
                    hits += 1
                    total += hits / rank
                    if hits == 1:
                        cmc[rank - 1 :] += 1
                    last = rank
            if hits:
                ap[q], inp[q] = total / hits, hits / last
        return ap, cmc, inp

    return loops


CONTESTANTS = {"counting": by_counting, "sorting": by_sorting}
if importlib.util.find_spec("fastreid"):
    CONTESTANTS["fast-reid"] = by_fast_reid


def contest(name, folder, queries):
    """Run one contestant here, on a small part first, and print what it took."""
    run = CONTESTANTS[name]
    run(folder / "small", 100)
    before, begun = peak(), time.perf_counter()
    ap, scaled = run(folder, queries)
    seconds = scaled or time.perf_counter() - begun
    np.save(folder / f"ap-{name}.npy", ap)
    print(json.dumps({"seconds": seconds, "more": peak() - before, "steps": {}}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery-rows", type=int, default=15_913)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="repeatable")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    chosen = parser.parse_args()
    ranked = min(chosen.queries, max(1, PAIRS // chosen.gallery_rows))
    if chosen.contestant:
        contest(chosen.contestant, chosen.folder, ranked)
        return
    arguments = ["--queries", chosen.queries, "--gallery-rows", chosen.gallery_rows]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        make(folder, chosen.queries, chosen.gallery_rows, chosen.dimension)
        make(folder / "small", 700, 3000, chosen.dimension)
        names = chosen.only or list(CONTESTANTS)
        environments = dict.fromkeys(names, best_kernels())
        runs = race(__file__, names, folder, arguments, chosen.rounds, environments)
        print(f"{chosen.queries} queries, {chosen.gallery_rows} rows, d = {chosen.dimension}")
        show(runs, names[-1])
        if ranked < chosen.queries and names != ["counting"]:
            print(f"peers ranked {ranked} queries: their seconds are scaled, their memory is not")
        found = [np.load(folder / f"ap-{name}.npy") for name in names]
    print(f"mAP {100 * np.nanmean(found[0]):.2f}")
    if len(found) > 1:
        differ = np.abs(found[0][:ranked] - found[-1])
        print(f"APs differ by {np.nanmax(differ):.1e} at most, in {(differ > 1e-9).sum()} queries")


def make(folder, queries, rows, dimension):
    """A gallery of queries and one of rows, and their labels."""
    archive = Archive(rows, dimension)
    for side, (name, count) in enumerate((("query", queries), ("gallery", rows))):
        np.save(folder / f"{name}.npy", write_gallery(folder / name, archive, count, side))


if __name__ == "__main__":
    main()
