"""Clusters by Jaccard distance against the dense forms of CA-Jaccard and Cluster-Contrast.

    git clone https://github.com/chen960/CA-Jaccard /tmp/CA-Jaccard
    git clone https://github.com/alibaba/cluster-contrast-reid /tmp/cluster-contrast-reid
    pip install scikit-learn faiss-cpu
    python benchmarks/clusters.py --rows 3000 --peer /tmp/CA-Jaccard \
        --cluster-contrast /tmp/cluster-contrast-reid --falling 0.7
    python benchmarks/clusters.py --rows 12936
    python benchmarks/clusters.py --rows 100000

All start at features and cameras and end at the labels of DBSCAN (eps 0.6, 4 samples): "plain" is
the distance of Cluster-Contrast, "cameras" the camera-aware one. "disk-cameras" does what
`cluster_gallery` does: neighbors and near pairs go to files in a folder for temporary files, pairs
are found up to the largest eps of a grid, and the most stable eps is chosen; its labels are those
of eps 0.6, to compare them. With --peer, the function of CA-Jaccard's authors and scikit-learn
do the same on N x N arrays; it has both distances, "peer-plain" and "peer-cameras". With
--cluster-contrast, that of Cluster-Contrast does, "contrast-plain". Each contestant runs in a
process of its own, one after another, round after round; the figures are medians over the rounds.
"""

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from contest import Steps, clustered, enter, race, show

EPS, SAMPLES, CAMERAS = 0.6, 4, 6


def sparse(by_camera):
    from pipeline.core.blocks import ArrayRows
    from pipeline.core.clusters.dbscan import dbscan
    from pipeline.core.clusters.encoding import (
        CameraEncoding,
        PlainEncoding,
        encode,
        encode_by_camera,
    )
    from pipeline.core.clusters.jaccard import jaccard_pairs
    from pipeline.core.neighbors.by_camera import neighbors_by_camera
    from pipeline.core.neighbors.pairs import neighbors

    def run(features, cameras):
        cameras, steps = cameras[: len(features)], Steps()
        if by_camera:
            near = neighbors_by_camera(features, cameras, *CameraEncoding().neighbors)
            steps.done("neighbors")
            weights = encode_by_camera(*near)
        else:
            found = neighbors(features, PlainEncoding().neighbors)
            steps.done("neighbors")
            weights = encode(ArrayRows(features), found)
        steps.done("encoding")
        pairs = jaccard_pairs(weights, EPS)
        steps.done("pairs")
        labels = dbscan(pairs, SAMPLES)
        steps.done("DBSCAN")
        return labels, steps.taken

    return run


def on_disk(features, cameras):
    from pipeline.core.blocks import ArrayRows
    from pipeline.core.clusters.dbscan import dbscan
    from pipeline.core.clusters.encoding import CameraEncoding
    from pipeline.core.clusters.stability import EpsGrid, choose_eps
    from pipeline.runs.split_graph import build_split_graph
    from pipeline.stages.clusters import encode_rows_by_camera, near_pairs

    cameras, steps = cameras[: len(features)], Steps()
    with tempfile.TemporaryDirectory() as name:
        sizes = CameraEncoding().neighbors
        near = build_split_graph(ArrayRows(features), cameras, *sizes, Path(name))
        steps.done("neighbors")
        weights = encode_rows_by_camera(*near)
        steps.done("encoding")
        pairs = near_pairs(weights, EpsGrid().highest, Path(name))
        steps.done("pairs")
    choose_eps(pairs, SAMPLES)
    steps.done("eps")
    labels = dbscan(pairs.within(EPS), SAMPLES)
    steps.done("DBSCAN")
    return labels, steps.taken


def scikit_labels(distances, steps):
    """Labels by the dense distances of a peer, and the seconds of its steps."""
    from sklearn.cluster import DBSCAN

    steps.done("distances")
    search = DBSCAN(eps=EPS, min_samples=SAMPLES, metric="precomputed", n_jobs=-1)
    labels = search.fit_predict(distances)
    steps.done("DBSCAN")
    return labels, steps.taken


def dense(clone, by_camera):
    path = clone / "caj" / "utils" / "caj_rerank.py"
    spec = importlib.util.spec_from_file_location("caj_rerank", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    # The defaults of their train_caj.py; epoch 1, since the first one warms up.
    sizes = {"k1": 30, "k2": 6, "k1_intra": 5, "k1_inter": 20, "k2_intra": 2, "k2_inter": 4}
    settings = SimpleNamespace(ckrnns=by_camera, clqe=by_camera, **sizes)

    def run(features, cameras):
        steps = Steps()
        distances = theirs.compute_jaccard_distance(features, cameras[: len(features)], 1, settings)
        return scikit_labels(distances, steps)

    return run


def contrast(clone):
    from importlib import import_module

    import torch

    # Their package imports all of its networks; its part `utils` alone needs torch and faiss.
    sys.path.insert(0, str(clone / "clustercontrast"))
    theirs = import_module("utils.faiss_rerank")

    def run(features, cameras):
        del cameras
        steps = Steps()
        distances = theirs.compute_jaccard_distance(
            torch.from_numpy(features), k1=30, k2=6, search_option=3
        )  # the defaults of their examples, and faiss on the CPU
        return scikit_labels(distances, steps)

    return run


def contestant(options):
    """The function of the contestant of this process."""
    kind, by_camera = options.contestant.split("-")[0], options.contestant.endswith("cameras")
    if kind == "disk":
        return on_disk
    if kind == "contrast":
        return contrast(options.cluster_contrast)
    return dense(options.peer, by_camera) if kind == "peer" else sparse(by_camera)


def quietly(run, *arguments):
    """Their function prints; standard output is for the figures."""
    with contextlib.redirect_stdout(sys.stderr):
        return run(*arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_936)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument(
        "--falling", type=float, default=0, help="above 0, identities overlap: some rows are noise"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="a clone of CA-Jaccard")
    parser.add_argument("--cluster-contrast", type=Path, help="a clone of cluster-contrast-reid")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        run = contestant(options)
        cameras = np.load(options.folder / "seen_by.npy")
        enter(
            options.contestant,
            lambda *given: quietly(run, *given),
            options.folder,
            (cameras,),
            small=(cameras,),
        )
        return
    names = ["plain", "cameras", "disk-cameras"]
    arguments = []
    if options.peer:
        names += ["peer-plain", "peer-cameras"]
        arguments += ["--peer", options.peer]
    if options.cluster_contrast:
        names += ["contrast-plain"]
        arguments += ["--cluster-contrast", options.cluster_contrast]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(
            folder / "features.npy", clustered(options.rows, options.dimension, options.falling)
        )
        cameras = np.random.default_rng(1).integers(0, CAMERAS, options.rows)
        np.save(folder / "seen_by.npy", cameras)
        runs = race(__file__, names, folder, arguments, options.rounds)
        print(f"{options.rows} rows, d = {options.dimension}, falling = {options.falling}")
        for kind in ("plain", "cameras"):
            ours = np.load(folder / f"{kind}.npy")
            show({each: runs[each] for each in names if each.endswith(kind)}, f"peer-{kind}")
            print(f"  {ours.max() + 1} clusters, {(ours < 0).mean():.1%} noise")
            if kind == "cameras" and (np.load(folder / "disk-cameras.npy") != ours).any():
                raise SystemExit("labels of files differ from those of memory")
            for peer in (f"peer-{kind}", f"contrast-{kind}"):
                if peer in names:
                    equal = (np.load(folder / f"{peer}.npy") == ours).mean()
                    print(f"  {equal:.3%} of the labels equal those of {peer}")


if __name__ == "__main__":
    main()
