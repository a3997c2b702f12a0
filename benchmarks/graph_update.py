"""The neighbor graph after an update: made from the one before, and made anew.

    python benchmarks/graph_update.py --rows 100000 --share 0.01

A share of the rows is added to a set, half as many are removed; the neighbors that an expansion
needs must be the same to the bit both ways.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from million import Archive

from pipeline.core.row_hashes import row_signatures
from pipeline.gallery.files.npy_rows import NpyRows
from pipeline.gallery.sidecars.graph import Origin
from pipeline.stages.neighbors import build_graph
from pipeline.stages.update import RowChanges, update_graph

NEEDED, KEPT = 9, 13  # of an expansion with k = 10


def timed(work):
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def saved(folder, name, rows):
    np.save(folder / name, rows)
    return NpyRows(str(folder / name))


def compare(folder, rows, share, dimension):
    added = max(1, round(rows * share))
    features = Archive(rows, dimension).draw(rows + added, (0,))[2]
    kept = np.ones(rows + added, bool)
    kept[np.random.default_rng(0).choice(rows, added // 2, replace=False)] = False
    before = saved(folder, "before.npy", features[:rows])
    after = saved(folder, "after.npy", features[kept])
    build_graph(saved(folder, "few.npy", features[:3000]), KEPT, folder / "few")  # compiles
    sign = row_signatures(before)
    old, took = timed(
        lambda: build_graph(before, KEPT, folder / "old", ids=np.arange(rows), signatures=sign)
    )
    print(f"n = {rows}, d = {dimension}: {took:.2f} s for the first graph")
    ids = np.flatnonzero(kept)

    def update():
        signatures = row_signatures(after)
        options = {"ids": ids, "signatures": signatures, "origin": Origin()}
        changes = RowChanges.between(old, ids, signatures)
        return update_graph(old, changes, after, NEEDED, folder / "updated", **options)

    updated, seconds = timed(update)
    anew, whole = timed(lambda: build_graph(after, KEPT, folder / "anew", ids=ids))
    found, wanted = (graph.read(0, len(ids), NEEDED) for graph in (updated, anew))
    same = (found.rows == wanted.rows).all() and (found.scores == wanted.scores).all()
    print(f"{added} rows came and {added // 2} went: {seconds:.2f} s, anew {whole:.2f} s")
    print(f"{100 * seconds / whole:.1f} % of the cost; the neighbors are the same: {same}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--dimension", type=int, default=512)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), chosen.rows, chosen.share, chosen.dimension)


if __name__ == "__main__":
    main()
