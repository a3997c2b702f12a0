"""k-reciprocal re-ranking against torchreid's.

    pip install --no-deps torchreid
    python benchmarks/reranking.py --scale 0.25 --rounds 3

At scale 1 the sizes are those of Market-1501: 3,368 queries, 15,913 gallery rows. All start at the
features and end at the distances [Q, G]; "ranks" ends at the ranks of all matches instead. Each
contestant runs in a process of its own, one after another, round after round; the figures are
medians over the rounds. torchreid's own functions are called as its engine calls them; "dense" is
the same computation with fewer copies of its n x n arrays, which needs nothing installed.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from contest import Steps, clustered, enter, race, show

QUERIES, GALLERY = 3368, 15913
K1, K2, LAM = 20, 6, 0.3


def sparse(ends_at):
    from pipeline.core.blocks import ArrayRows, StackedRows
    from pipeline.core.evaluation.labels import Labels
    from pipeline.core.neighbors.pairs import neighbors
    from pipeline.core.reranking.distances import Reranking, k_reciprocal
    from pipeline.core.reranking.ranks import rank_counts

    settings = Reranking(K1, K2, LAM, "torchreid")

    def run(features, queries):
        union = StackedRows(ArrayRows(features[:queries]), ArrayRows(features[queries:]))
        steps = Steps()
        least = np.full(len(union), np.inf, np.float32)
        near = neighbors(union, settings.neighbors, least=least)
        steps.done("neighbors")
        reranked = k_reciprocal(union, near, settings, least=least)
        steps.done("encoding")
        if ends_at == "distances":
            out = reranked.distances(0, queries)
        else:
            labels = np.arange(len(features)) % max(1, len(features) // 15) + 1
            places = np.zeros(queries, np.int64), np.ones(len(features) - queries, np.int64)
            rank_counts(
                reranked, Labels(labels[:queries], places[0]), Labels(labels[queries:], places[1])
            ).ranks()
            out = None
        steps.done(ends_at)
        return out, steps.taken

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


def torchreid():
    import torch

    matrix, rerank = module("distance").compute_distance_matrix, module("rerank").re_ranking

    def run(features, queries):
        q, g = torch.from_numpy(features[:queries]), torch.from_numpy(features[queries:])
        return rerank(matrix(q, g).numpy(), matrix(q, q), matrix(g, g), K1, K2, LAM), {}

    return run


def module(name):
    """A module of the torchreid that is installed, without the package around it."""
    root = Path(importlib.util.find_spec("torchreid").origin).parent
    spec = importlib.util.spec_from_file_location(name, next(root.rglob(f"{name}.py")))
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


CONTESTANTS = {
    "distances": lambda: sparse("distances"),
    "ranks": lambda: sparse("ranks"),
    "dense": dense,
}
if importlib.util.find_spec("torchreid"):
    CONTESTANTS["torchreid"] = torchreid


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
        run = CONTESTANTS[options.contestant]()
        enter(options.contestant, run, options.folder, (queries,), small=(300,))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "features.npy", clustered(queries + gallery, options.dimension))
        arguments = ["--scale", options.scale]
        runs = race(__file__, options.only, folder, arguments, options.rounds)
        print(f"{queries} queries, {gallery} gallery rows, d = {options.dimension}")
        peer = options.only[-1]
        show(runs, peer)
        if "distances" in runs and peer in ("dense", "torchreid"):
            ours, theirs = np.load(folder / "distances.npy"), np.load(folder / f"{peer}.npy")
            apart = np.abs(ours - theirs)
            print(f"distances differ by {apart.max():.1e} at most, {apart.mean():.1e} in the mean,")
            # Where two neighbors are a rounding apart, float32 distances may swap them.
            print(f"and {(apart > 1e-5).sum()} of {apart.size} by more than 1e-5")


if __name__ == "__main__":
    main()
