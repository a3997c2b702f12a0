"""Kill an extraction at random moments, again and again: nothing may be lost or doubled.

    python benchmarks/soak.py --kills 30 --crops 2000
    python benchmarks/soak.py --kills 6 --crops 2000 --actors 2 --victim worker
    python benchmarks/soak.py --kills 30 --crops 500 --s3

`kill -9` goes to the driver (`--victim driver`) or to one of its Ray workers, actors included
(`--victim worker`; counted from the first that is there), at a moment that is random over the time
of an uninterrupted run. A killed
command is run again as it was. After every kill the gallery must be empty or whole; when a run gets
through, rows, ids, features and rejects must equal the uninterrupted run's to the byte, and nothing
else may be left in the folder. Then the next gallery is begun, until the kills are used up. With
`--s3`, galleries lie in a real S3 server on loopback (needs the repository).
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

MODEL = Path(__file__).parents[1] / "jobs" / "demo_network" / "demo.onnx"


def make_crops(folder, count):
    """Small JPEGs, one in a hundred of them damaged."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 50 + 1:04d}_c{number % 6 + 1}s1_{number:06d}_00.jpg"
        Image.fromarray(rng.integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(path)
        if number % 100 == 99:
            path.write_bytes(path.read_bytes()[:300])


def extract(source, gallery, actors):
    """One command line in this process, quietly."""
    from jobs.cli import main

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        command = ["extract", source, "--gallery", gallery, "--model", MODEL, "--actors", actors]
        flags = ["--layout", "market1501", "--unit-size", 32, "--max-rejects", 0.1]
        status = main([str(each) for each in (*command, *flags)])
    os._exit(status)


class Soak:
    def __init__(self, folder, actors, victim):
        self.source = folder / "source"
        self.actors = actors
        self.victim = victim
        # Libraries are loaded once, and a run starts at once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["jobs.cli", "pipeline.runs.extraction"])

    def start(self, gallery):
        process = self._context.Process(target=extract, args=(self.source, gallery, self.actors))
        process.start()
        return process

    def run(self, gallery):
        """A run to its end; how long it took."""
        begin = time.perf_counter()
        process = self.start(gallery)
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"a run ended with status {process.exitcode}")
        return time.perf_counter() - begin

    def killed(self, gallery, after):
        """Start a run and kill its victim after so many seconds; whether there was one to kill."""
        process = self.start(gallery)
        while self.victim == "worker" and process.is_alive() and not ray_workers_of(process.pid):
            time.sleep(0.1)
        time.sleep(after)
        if self.victim == "driver":
            victims = [process.pid] if process.is_alive() else []
        else:
            victims = ray_workers_of(process.pid)
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(victims), signal.SIGKILL)
        process.join()
        if process.exitcode not in (0, 1, -signal.SIGKILL):  # 1: failed, and goes on when run again
            raise SystemExit(f"a run ended with status {process.exitcode}")
        return bool(victims), process.exitcode == 0


def ray_workers_of(driver):
    """Process numbers of the Ray workers that descend from a process."""
    parents, workers = {}, set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().startswith(b"ray::"):
                workers.add(int(path.name))

    def descends(process):
        while process in parents and process != driver:
            process = parents[process]
        return process == driver

    return [worker for worker in sorted(workers) if descends(worker)]


def contents(gallery):
    """All that a gallery holds, and the names of the files in its folder."""
    from pipeline.gallery.files.places import root_of
    from pipeline.gallery.table import Gallery

    opened = Gallery.open(str(gallery))
    features = opened.features().read(0, opened.count).tobytes()
    files = {path.name for path in root_of(str(gallery)).glob("*.parquet")}
    return opened.rows().to_pylist(), features, opened.rejects().to_pylist(), files


def is_empty_or_whole(gallery, whole):
    from pipeline.gallery.opening import exists
    from pipeline.gallery.table import Gallery

    if not exists(str(gallery)):
        return True
    rows = Gallery.open(str(gallery)).rows().to_pylist()
    return rows in ([], whole[0])


@contextlib.contextmanager
def s3_server():
    """A place in a real S3 server, which the processes started from here can use."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.object_store import object_store

    with object_store() as store:
        os.environ.update(store.environment)
        from pipeline.gallery.files.places import root_of

        yield root_of(f"s3://{store.bucket}/soak")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--crops", type=int, default=2000)
    arguments.add_argument("--actors", type=int, default=0)
    arguments.add_argument("--victim", choices=("driver", "worker"), default="driver")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--s3", action="store_true")
    given = arguments.parse_args()
    random.seed(given.seed)
    folder = Path(tempfile.mkdtemp())
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        galleries_in = stack.enter_context(s3_server()) if given.s3 else folder
        from pipeline.gallery.files.storage import delete_folder

        make_crops(folder / "source", given.crops)
        soak = Soak(folder, given.actors, given.victim)
        soak.run(galleries_in / "first")  # which loads the libraries
        seconds = soak.run(galleries_in / "whole")
        whole = contents(galleries_in / "whole")
        print(f"uninterrupted: {seconds:.1f} s, {len(whole[0])} rows, {len(whole[2])} rejects")
        moments = seconds if given.victim == "driver" else seconds / 2
        kills, galleries, resumed = 0, 0, 0
        while kills < given.kills:
            gallery, ended, before = galleries_in / f"gallery{galleries}", False, kills
            while not ended and kills < given.kills:
                was_killed, ended = soak.killed(gallery, random.uniform(0, moments))
                kills += was_killed
                if not is_empty_or_whole(gallery, whole):
                    raise SystemExit(f"after kill {kills} {gallery} is neither empty nor whole")
            if not ended:
                soak.run(gallery)
            if contents(gallery) != whole or list((gallery / "_units").glob("*")):
                raise SystemExit(f"{gallery} is not what an uninterrupted run makes")
            galleries, resumed = galleries + 1, resumed + (kills > before)
            delete_folder(gallery)
        print(f"{kills} kills over {galleries} galleries, {resumed} of them resumed: all are whole")


if __name__ == "__main__":
    main()
