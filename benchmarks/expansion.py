"""Joint alpha query expansion against the full-matrix form, as fast-reid computes it.

    python benchmarks/expansion.py --rows 19281 --dimension 512 --rounds 5

19,281 rows are the queries and the gallery of Market-1501. Both start at the features of the union
and end at the expanded ones. Each contestant runs in a process of its own, one after another, round
after round; the figures are medians over the rounds. The full matrix takes n x n x 4 bytes.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from contest import Steps, clustered, enter, race, show

K, ALPHA = 10, 3.0


def from_graph():
    from pipeline.core.blocks import ArrayRows
    from pipeline.core.expansion import average
    from pipeline.core.neighbors.pairs import neighbors

    def run(features):
        steps = Steps()
        near = neighbors(features, K - 1)
        steps.done("neighbors")
        out = average(features, near, ArrayRows(features), ALPHA)
        steps.done("average")
        return out, steps.taken

    return run


def full_matrix():
    """The product of all pairs; of each row the best k by a partition, and their weighted mean."""
    import torch

    def run(features):
        tensor = torch.from_numpy(features)
        similarity = torch.mm(tensor, tensor.t()).numpy()
        out = np.empty_like(features)
        for place, row in enumerate(similarity):
            best = np.argpartition(-row, range(1, K + 1))[:K]
            out[place] = (features[best] * (row[best, None] ** ALPHA)).mean(axis=0)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out, {}

    return run


CONTESTANTS = {"from graph": from_graph, "full matrix": full_matrix}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=19_281)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        enter(options.contestant, CONTESTANTS[options.contestant](), options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "features.npy", clustered(options.rows, options.dimension))
        runs = race(__file__, CONTESTANTS, folder, (), options.rounds)
        print(f"n = {options.rows}, d = {options.dimension}, k = {K}, alpha {ALPHA}")
        show(runs, "full matrix")
        ours, theirs = (np.load(folder / f"{contestant}.npy") for contestant in CONTESTANTS)
        apart = np.abs(ours - theirs).max(axis=1)
        print(f"features differ by {apart.max():.1e} at most")
        print(f"rows that differ by more than 1e-5: {(apart > 1e-5).sum()}")


if __name__ == "__main__":
    main()
