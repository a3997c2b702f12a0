"""What `cluster_kills` runs: an extraction and a neighbor graph, in folders or in a store."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from contest import clustered
from PIL import Image

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "jobs" / "demo_network" / "demo.onnx"


class Extract:
    """Crops of noise, by the network of the demo."""

    name, thing, worker = "extract", "unit", "MapWorker"

    def __init__(self, folder, place, crops):
        make_crops(folder / "source", crops)
        self._source = upload(folder / "source", place)
        self._model = MODEL
        if place != str(folder):
            self._model = f"{place}/models/{MODEL.name}"
            put(self._model, MODEL.read_bytes())

    def command(self, out):
        flags = ("--unit-size", 64, "--layout", "market1501")
        return ("extract", self._source, "--gallery", out, "--model", self._model, *flags)

    def finished(self, out):
        return {path.name for path in row_files(out)}

    def contents(self, out):
        return {path.name: path.read_bytes() for path in row_files(out)}


class Expand:
    """The neighbor graph of features that no network made."""

    name, thing, worker = "expand", "tile", "_meet"

    def __init__(self, folder, place, rows):
        self._parent = f"{place}/parent"
        np.save(folder / "features.npy", clustered(rows, 512))
        lines = "".join(f"{number}.jpg,{number % 6}\n" for number in range(rows))
        (folder / "rows.csv").write_text(f"path,camera\n{lines}")
        arguments = ("import", folder / "features.npy", "--gallery", self._parent)
        arguments += ("--format", "npy", "--made-by", "a draw")
        subprocess.run(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments), "--json"], cwd=ROOT,
            env=dict(os.environ), stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip

    def command(self, out):
        return ("expand", "--gallery", self._parent, "--out", out, "--workers", 3)

    def finished(self, out):
        from pipeline.gallery.files.places import root_of

        graph = root_of(out) / "_graph"
        return {
            path.name for path in graph.rglob("*") if path.name.startswith(("open-", "rows-"))
        }  # fmt: skip

    def contents(self, out):
        from pipeline.gallery.table import Gallery

        opened = Gallery.open(str(out))
        return opened.rows().to_pylist(), opened.features().read(0, opened.count).tobytes()


def make_crops(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 50 + 1:04d}_c{number % 6 + 1}s1_{number:06d}_00.jpg"
        Image.fromarray(rng.integers(0, 256, (256, 128, 3), dtype=np.uint8)).save(path, quality=90)


def upload(folder, place):
    """Where the files of a folder are for the commands: there, or in the store."""
    if place == str(folder.parent):
        return str(folder)
    for path in folder.iterdir():
        put(f"{place}/{folder.name}/{path.name}", path.read_bytes())
    return f"{place}/{folder.name}"


def put(url, data):
    from pipeline.gallery.files.places import root_of

    root_of(url).write_bytes(data)


def row_files(out):
    from pipeline.gallery.files.places import root_of

    root = root_of(out)
    return [path for path in root.rglob("*.parquet") if path.parent == root]
