"""k-reciprocal re-ranking against the dense full-matrix form, as torchreid computes it.

    python benchmarks/reranking.py --scale 0.25 --rounds 3

At scale 1 the sizes are those of Market-1501: 3,368 queries, 15,913 gallery rows. Both start at the
features and end at the distances [Q, G]; "ranks" ends at the ranks of all matches instead. Each
contestant runs in a process of its own, one after another, round after round; the figures are
medians over the rounds. The dense form holds several n x n arrays: 8 GB at scale 1.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from neighbors import clustered, peak

QUERIES, GALLERY = 3368, 15913
K1, K2, LAM = 20, 6, 0.3


def sparse(ends_at):
    from pipeline.core.blocks import ArrayRows, StackedRows
    from pipeline.core.farthest import least_scores
    from pipeline.core.neighbors import neighbors
    from pipeline.core.ranking import Labels
    from pipeline.core.reranked_ranks import rank_counts
    from pipeline.core.reranking import Reranking, k_reciprocal

    settings = Reranking(K1, K2, LAM, "torchreid")

    def run(features, queries):
        union = StackedRows(ArrayRows(features[:queries]), ArrayRows(features[queries:]))
        steps, clock = {}, time.perf_counter()

        def done(step):
            nonlocal clock
            steps[step] = time.perf_counter() - clock
            clock = time.perf_counter()

        near = neighbors(union, settings.neighbors)
        done("neighbors")
        least = least_scores(union)
        done("farthest")
        reranked = k_reciprocal(union, near, settings, least=least)
        done("encoding")
        if ends_at == "distances":
            out = reranked.distances(0, queries)
        else:
            labels = np.arange(len(features)) % max(1, len(features) // 15) + 1
            places = np.zeros(queries, np.int64), np.ones(len(features) - queries, np.int64)
            rank_counts(
                reranked, Labels(labels[:queries], places[0]), Labels(labels[queries:], places[1])
            ).ranks()
            out = None
        done(ends_at)
        return out, steps

    return run


def dense():
    """Full matrices of distances, orders and weights; loops over rows, as in torchreid."""

    def run(features, queries):
        total = len(features)
        squares = np.square(features).sum(1)
        d = squares[:, None] + squares - 2 * (features @ features.T)
        d = np.power(d, 2)
        d = np.transpose(d / d.max(axis=0))
        order = np.argsort(d).astype(np.int32)

        def reciprocal(i, k):
            forward = order[i, : k + 1]
            return forward[np.where(order[forward, : k + 1] == i)[0]]

        v = np.zeros_like(d)
        for i in range(total):
            own = reciprocal(i, K1)
            members = own
            for j in own:
                theirs = reciprocal(j, round(K1 / 2))
                if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                    members = np.append(members, theirs)
            members = np.unique(members)
            weight = np.exp(-d[i, members])
            v[i, members] = weight / weight.sum()
        d = d[:queries]
        raw, v = v, np.zeros_like(v)
        for i in range(total):
            v[i] = raw[order[i, :K2]].mean(axis=0)
        holders = [np.where(v[:, i] != 0)[0] for i in range(total)]
        jaccard = np.zeros_like(d)
        for i in range(queries):
            shared = np.zeros(total, np.float32)
            for column in np.where(v[i] != 0)[0]:
                rows = holders[column]
                shared[rows] += np.minimum(v[i, column], v[rows, column])
            jaccard[i] = 1 - shared / (2 - shared)
        return (jaccard * (1 - LAM) + d * LAM)[:, queries:], {}

    return run


CONTESTANTS = {
    "distances": lambda: sparse("distances"),
    "ranks": lambda: sparse("ranks"),
    "dense": dense,
}


def contest(name, folder, queries):
    """Run one contestant here, and print what it took."""
    run = CONTESTANTS[name]()
    run(clustered(2100, 64), 300)  # compiles, and starts the threads
    features = np.load(folder / "features.npy")
    before = peak()
    start = time.perf_counter()
    out, steps = run(features, queries)
    seconds = time.perf_counter() - start
    if out is not None:
        np.save(folder / f"{name}.npy", out)
    print(json.dumps({"seconds": seconds, "more": peak() - before, "steps": steps}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    queries, gallery = (round(count * options.scale) for count in (QUERIES, GALLERY))
    if options.contestant:
        contest(options.contestant, options.folder, queries)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "features.npy", clustered(queries + gallery, options.dimension))
        runs = {contestant: [] for contestant in options.only}
        for _ in range(options.rounds):
            for contestant, figures in runs.items():
                command = [sys.executable, __file__, "--scale", str(options.scale)]
                command += ["--contestant", contestant, "--folder", name]
                printed = subprocess.run(command, check=True, capture_output=True, text=True)
                figures.append(json.loads(printed.stdout))
        print(f"{queries} queries, {gallery} gallery rows, d = {options.dimension}")
        for contestant, figures in runs.items():
            seconds = statistics.median(figure["seconds"] for figure in figures)
            more = statistics.median(figure["more"] for figure in figures)
            print(f"{contestant:10} {seconds:8.2f} s {more:8.0f} MB more")
            for step in figures[0]["steps"]:
                took = statistics.median(figure["steps"][step] for figure in figures)
                print(f"  {step:10} {took:6.2f} s")
        if {"distances", "dense"} <= runs.keys():
            ours, theirs = np.load(folder / "distances.npy"), np.load(folder / "dense.npy")
            apart = np.abs(ours - theirs)
            print(f"distances differ by {apart.max():.1e} at most, {apart.mean():.1e} in the mean")


if __name__ == "__main__":
    main()
