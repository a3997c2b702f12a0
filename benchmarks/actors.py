"""Extraction on two actors of Ray against two processes with the plain loop, and how it ends.

    python benchmarks/actors.py --crops 8000
    python benchmarks/actors.py --crops 8000 --cameras

    python benchmarks/actors.py --crops 3000 --model ../shared/models/osnet_x0_25_msmt17.onnx

The network is the one of the demo, which costs next to nothing, or `--model`. The start of either
is not counted: rates are those of the second half of the units, because the second actor may begin
seconds after the first. With `--cameras`, the last of five cameras has pictures of 1,200 x 800
instead of crops: told is how long the last unit ran alone where units go in order of path, and
where the largest go first.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

DEMO = Path(__file__).parents[1] / "jobs" / "demo_network" / "demo.onnx"


def make_source(folder, count, cameras):
    """JPEGs of 128 x 64; with `cameras`, those of the last of five are large."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (1200, 800, 3), dtype=np.uint8)
    large = Image.fromarray(texture).resize((200, 300)).resize((800, 1200))
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if cameras and number >= count - count // 16:
            large.save(path, quality=85)
        else:
            Image.fromarray(rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)).save(path)


def prepared(folder, source, unit_size, model):
    from pipeline.archive.listing.source import list_source
    from pipeline.archive.planning.units import plan_units, units
    from pipeline.gallery.table import Gallery
    from pipeline.model.feature_models import FileModel
    from pipeline.model.networks import NetworkFile, default_recipe
    from pipeline.stages.extract import Work

    network = NetworkFile(str(model))
    recipe = default_recipe(network, {})
    listing = list_source(str(source), "none")
    gallery = Gallery.create(
        str(folder), recipe_json=recipe.to_json(), fingerprint=recipe.fingerprint,
        dimension=network_dimension(network, recipe), source=listing.root, layout="none",
    )  # fmt: skip
    planned = plan_units(listing.images, gallery.fingerprint, unit_size=unit_size)
    return units(planned), Work(listing.root, gallery.target, FileModel(network, recipe))


def network_dimension(network, recipe):
    from pipeline.model.feature_models import FileModel

    return FileModel(network, recipe).load(batch_size=1).dimension


def plain(folder, source, unit_size, model, which, times):
    """Every second unit in this process."""
    import torch

    from pipeline.stages.extract import UnitExtractor

    torch.set_num_threads(1)
    units, work = folder_work(folder, source, unit_size, model)
    extractor = UnitExtractor(work)
    for unit in list(units)[which::2]:
        record = extractor.extract(unit)
        times.put((time.time(), record.members))


def folder_work(folder, source, unit_size, model):
    return prepared(folder.with_name(f"{folder.name}-{multiprocessing.current_process().name}"),
                    source, unit_size, model)  # fmt: skip


def by_processes(folder, source, unit_size, model):
    context = multiprocessing.get_context("spawn")
    times = context.Queue()
    both = [
        context.Process(
            target=plain, args=(folder, source, unit_size, model, n, times), name=str(n)
        )
        for n in range(2)
    ]
    for process in both:
        process.start()
    units, _ = prepared(folder, source, unit_size, model)
    ended = [times.get() for _ in range(len(units))]
    for process in both:
        process.join()
    return sorted(ended)


def by_actors(folder, source, unit_size, model, *, largest_first=True):
    from pipeline.stages.extract_on_ray import extract_on_ray

    units, work = prepared(folder, source, unit_size, model)
    units = units.largest_first() if largest_first else units
    environment = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    records = extract_on_ray(units, work, actors=2, environment=environment)
    return [(time.time(), record.members) for record in records]


def rate(ended):
    middle = len(ended) // 2
    (begin, _), counted = ended[middle - 1], ended[middle:]
    return sum(images for _, images in counted) / (counted[-1][0] - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=8000)
    parser.add_argument("--unit-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cameras", action="store_true")
    parser.add_argument("--model", type=Path, default=DEMO)
    given = parser.parse_args()
    import ray

    from cluster.connect import WORKER_ENVIRONMENT

    folder = Path(tempfile.mkdtemp())
    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )  # fmt: skip
    try:
        source = folder / "source"
        make_source(source, given.crops, given.cameras)
        for number in range(given.rounds):
            if given.cameras:
                for first in (False, True):
                    out = folder / f"{first}{number}"
                    ended = by_actors(
                        out, source, given.unit_size, given.model, largest_first=first
                    )
                    whole, alone = ended[-1][0] - ended[0][0], ended[-1][0] - ended[-2][0]
                    order = "largest first" if first else "order of path"
                    print(f"{order}: the last unit alone for {alone:.2f} s of {whole:.2f} s")
                continue
            how = (source, given.unit_size, given.model)
            plainly = rate(by_processes(folder / f"plain{number}", *how))
            on_ray = rate(by_actors(folder / f"ray{number}", *how))
            print(
                f"two processes {plainly:.0f} crops a second, two actors {on_ray:.0f}; ratio of the"
                f" times {plainly / on_ray:.2f}"
            )
    finally:
        ray.shutdown()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
