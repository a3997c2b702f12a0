"""Maps against umap-learn, both from the same neighbor graph and the same start.

    pip install umap-learn
    python benchmarks/map_layout.py --rows 10000
    python benchmarks/map_layout.py --rows 1000000 --made-up

Both start at the neighbors of each row and their similarities, and end at points in the plane:
fuzzy weights, then the optimization, with 15 neighbors and the same settings. The graph is the
exact one of clustered features, and the trustworthiness of both maps (k = 15) is measured, over
2,000 rows if there are more. With --made-up, the graph is drawn at random: identities of 50 rows,
most neighbors within them; this takes seconds for a million rows, and only times are compared.
umap-learn runs with a fixed seed, as deterministic as this project, on one thread; it is left out
where it is not installed. Each contestant runs in a process of its own, round after round; the
figures are medians.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from contest import Steps, clustered, peak, race, show

K, IDENTITY, FAR, MEASURED = 15, 50, 0.05, 2000


def ours(scores, rows, start, threads):
    from pipeline.core.blocks import Tiling
    from pipeline.core.maps.fuzzy import fuzzy_weights
    from pipeline.core.maps.moving import Pulls, move_points
    from pipeline.core.maps.settings import MapSettings
    from pipeline.core.neighbors.topk import TopK

    steps, tiling = Steps(), Tiling(threads=threads)
    weights = fuzzy_weights(TopK(scores, rows), tiling=tiling)
    steps.done("weights")
    pulls = Pulls.of(weights, MapSettings(neighbors=K))
    with tiling.workers() as run:
        points = move_points(start, pulls, (0, pulls.steps), run, tiling.thread_count())
    steps.done("points")
    return points, steps.taken


def umap(scores, rows, start, _threads):
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, simplicial_set_embedding

    steps, count = Steps(), len(rows)
    # Its lists begin with the row itself.
    near = np.concatenate([np.arange(count)[:, None], rows], axis=1)
    distances = np.concatenate(
        [np.zeros((count, 1), np.float32), np.maximum(1 - scores, 0)], axis=1
    )
    state = np.random.RandomState(0)
    weights, _, _ = fuzzy_simplicial_set(
        np.empty((count, 1)), K + 1, state, "cosine", knn_indices=near, knn_dists=distances
    )
    steps.done("weights")
    a, b = find_ab_params(1.0, 0.1)
    points, _ = simplicial_set_embedding(
        np.empty((count, 1)), weights, 2, 1.0, a, b, 1.0, 5, 500 if count < 10_000 else 200,
        start.copy(), state, "cosine", {}, False, {}, False,
    )  # fmt: skip
    steps.done("points")
    return points, steps.taken


def made_up(rows, seed=0):
    """A graph and a start of identities of 50 rows, each of which has most neighbors in its own."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    first = place // IDENTITY * IDENTITY
    steps = 1 + (np.arange(K) * 3) % (IDENTITY - 1)
    near = order[np.minimum(first[:, None] + (place[:, None] - first[:, None] + steps) % IDENTITY,
                            rows - 1)]  # fmt: skip
    far = rng.random((rows, K)) < FAR
    near = np.where(far, rng.integers(0, rows, (rows, K)), near)
    falling = np.linspace(0.9, 0.6, K, dtype=np.float32)
    scores = falling - 0.01 * rng.random((rows, K), dtype=np.float32)
    return scores, near, 10 * rng.random((rows, 2), dtype=np.float32)


def exact(features):
    from pipeline.core.blocks import ArrayRows
    from pipeline.core.maps.start import principal_points
    from pipeline.core.neighbors.pairs import neighbors

    near = neighbors(features, K)
    return near.scores, near.rows, principal_points(ArrayRows(features))


def contestant(name, folder, threads):
    run = {"regallery": ours, "umap-learn": umap}[name]
    run(*made_up(4200), threads)  # compiles
    held = [np.load(folder / f"{each}.npy") for each in ("scores", "rows", "start")]
    before = peak()
    begun, cpu = time.perf_counter(), time.process_time()
    points, steps = run(*held, threads)
    figures = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    figures |= {"peak": peak(), "more": peak() - before, "steps": steps}
    np.save(folder / f"{name}.npy", points)
    print(json.dumps(figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--falling", type=float, default=0.5)
    parser.add_argument("--made-up", action="store_true")
    parser.add_argument("--alone", action="store_true", help="leave umap-learn out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        contestant(options.contestant, options.folder, options.threads)
        return
    names = ["regallery"]
    if importlib.util.find_spec("umap") and not options.alone:
        names.append("umap-learn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = None
        if options.made_up:
            graph = made_up(options.rows)
        else:
            features = clustered(options.rows, options.dimension, options.falling)
            graph = exact(features)
        for each, array in zip(("scores", "rows", "start"), graph, strict=True):
            np.save(folder / f"{each}.npy", array)
        runs = race(__file__, names, folder, ["--threads", options.threads], options.rounds)
        print(f"{options.rows} rows, {K} neighbors")
        show(runs, "umap-learn")
        for each, figures in runs.items():
            print(f"  {each}: {np.median([run['cpu'] for run in figures]):.1f} CPU seconds")
        if features is not None:
            measure(features, {each: np.load(folder / f"{each}.npy") for each in names})


def measure(features, maps):
    from pipeline.core.maps.trust import trustworthiness

    chosen = np.random.default_rng(0).choice(
        len(features), min(MEASURED, len(features)), replace=False
    )
    for name, points in maps.items():
        points = np.ascontiguousarray(points, np.float32)
        found = trustworthiness(features, points, K, rows=chosen)
        print(f"  {name}: trustworthiness {found:.4f}")


if __name__ == "__main__":
    main()
