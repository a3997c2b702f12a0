"""The parts of `gpu.py` about extraction: ResNet-50 in float16 with flip, from JPEG bytes."""

import io
import itertools
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from gpu import device
from gpu_similarity import Busy

from pipeline.archive.decoding.images import decode
from pipeline.model.extractor import Extractor
from pipeline.model.networks import NetworkFile, default_recipe

SIZE = (128, 64)  # of a crop in its file: what Market-1501 has
BATCH = 256
HERE = Path(__file__).parent
_LONG = 150  # seconds; the part is stopped before


def draw(count):
    """JPEG bytes of `count` pictures that are smooth with some noise, as crops are."""
    from PIL import Image

    random, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (8, 4, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(smooth + random.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def save_network(folder):
    """A ResNet-50 with random weights, as a checkpoint."""
    import torchvision

    torch.manual_seed(0)
    path = Path(folder) / "resnet50.pth"
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    return str(path)


def load(checkpoint, smoke, *, batch=BATCH, threads=8):
    file = NetworkFile("torchvision:resnet50", checkpoint)
    where = "cuda:0" if device() == "cuda" else "cpu"
    precision = "float16" if where != "cpu" else "float32"
    size = {"height": 32, "width": 16} if smoke else {"height": 256, "width": 128}
    recipe = default_recipe(file, {"flip": True, **size})
    return Extractor(
        file, recipe, batch_size=batch, device=where, threads=threads, precision=precision
    )


def decoded(files, batch, threads):
    """Batches of pictures, decoded ahead on threads by one batch, as an actor does it."""
    with ThreadPoolExecutor(threads) as pool:
        waiting, ahead, held = iter(files), deque(), []
        for file in itertools.islice(waiting, batch):
            ahead.append(pool.submit(decode, file))
        while ahead:
            held.append(ahead.popleft().result())
            for file in itertools.islice(waiting, 1):
                ahead.append(pool.submit(decode, file))
            if len(held) == batch or not ahead:
                yield held
                held = []


def run(extractor, files, threads):
    """Features of all files, and the seconds that they took."""
    begun = time.perf_counter()
    rows = np.concatenate(list(extractor.over(decoded(files, extractor.batch_size, threads))))
    return rows, time.perf_counter() - begun


def sizes(smoke):
    """How many pictures a run has, and the size of a batch."""
    return (24, 8) if smoke else (16_384, BATCH)


def many(count, smoke):
    drawn = draw(12 if smoke else 512)
    return [drawn[i % len(drawn)] for i in range(count)]


def extraction(report, smoke):
    """Crops a second, and how long the GPU has nothing to do."""
    count, batch = sizes(smoke)
    threads = max(1, len(os.sched_getaffinity(0)) - 2)
    files, made = many(count, smoke), {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_network(folder)

        def start():
            made["extractor"] = load(checkpoint, smoke, batch=batch)
            run(made["extractor"], files[: 4 * batch], threads)  # compiles, and loads kernels
            return {"crops": count, "batch": batch, "decoding threads": threads}

        report.run("start", start)

        def whole():
            taken = []
            with Busy() as busy:
                for _ in range(3):
                    made["rows"], seconds = run(made["extractor"], files, threads)
                    taken.append(seconds)
            seconds = statistics.median(taken)
            made["seconds"] = seconds
            return {"crops a second": round(count / seconds), "gpu_busy": busy.share()}

        report.run("from JPEG bytes to features", whole)
        report.run("the network alone", lambda: alone(made, count, batch, smoke))
        report.run("decoding alone", lambda: decoding(files, batch, threads))
        report.run("resizing and more, of pictures in hand", lambda: in_hand(made, files, batch))
        report.run("the same bits again", lambda: again(made, files, batch, threads))
        report.run("against float32 on the CPU", lambda: on_cpu(checkpoint, made, files))
        for larger in () if smoke else (512, 1024):

            def other(larger=larger):
                extractor = load(checkpoint, smoke, batch=larger)
                run(extractor, files[: 2 * larger], threads)
                return {"crops a second": round(count / run(extractor, files, threads)[1])}

            report.run(f"batches of {larger}", other)


def alone(made, count, batch, smoke):
    """The network on batches that lie on the GPU: what it would take if it never waited."""
    extractor = made["extractor"]
    network = extractor._network
    recipe = extractor.recipe
    images = torch.rand(batch, 3, recipe.height, recipe.width, device=network.device)
    rounds = 2 if smoke else 40
    network(images)
    begun = time.perf_counter()
    waits = [network.start(images) for _ in range(rounds)]
    for wait in waits:
        wait()
    each = (time.perf_counter() - begun) / rounds
    needed = each * 2 * count / batch  # two views
    return {
        "views a second": round(batch / each),
        "crops a second": round(batch / each / 2),
        "share of time the GPU waits": round(1 - needed / made["seconds"], 3),
    }


def decoding(files, batch, threads):
    begun = time.perf_counter()
    for _ in decoded(files, batch, threads):
        pass
    return {"crops a second": round(len(files) / (time.perf_counter() - begun))}


def in_hand(made, files, batch):
    """All but decoding, once."""
    pictures = [decode(file) for file in files[: 8 * batch]]
    begun = time.perf_counter()
    made["extractor"](pictures)
    return {"crops a second": round(len(pictures) / (time.perf_counter() - begun))}


def again(made, files, batch, threads):
    """The order and the company of a crop change no bit."""
    some = files[: 3 * batch][::-1]
    rows, _ = run(made["extractor"], some, threads)
    first = made["rows"][: len(some)][::-1]
    return {"equal": rows.tobytes() == first.tobytes(), "differing": int((rows != first).sum())}


def on_cpu(checkpoint, made, files):
    file = NetworkFile("torchvision:resnet50", checkpoint)
    threads = len(os.sched_getaffinity(0))
    here = Extractor(file, made["extractor"].recipe, batch_size=8, threads=threads)
    rows = here([decode(data) for data in files[:8]])
    there = made["rows"][:8]
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(there, axis=1)
    least = float(((rows * there).sum(axis=1) / lengths).min())
    return {"least cosine": round(least, 6), "equal": least > 0.999}


def memory(report, smoke):
    """Run a batch that does not fit in GPU memory: halved once, with one warning."""
    if device() != "cuda":
        report.run("out of memory", lambda: {"skipped": "only a GPU runs out of its memory"})
        return
    batch, told = 32 if smoke else 1024, []

    class Keep(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())

    logging.getLogger("pipeline").addHandler(Keep())
    pictures = [decode(file) for file in draw(64)] * (-(-batch // 64))

    def starve():
        with tempfile.TemporaryDirectory() as folder:
            extractor = load(save_network(folder), smoke, batch=batch)
            idle = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            plenty = extractor(pictures[:batch])
            peak = torch.cuda.max_memory_allocated()
            extractor._kept_inputs.clear()
            torch.cuda.empty_cache()
            total = torch.cuda.mem_get_info()[1]
            rows = None
            # The least memory in which a half fits is not known: less and less is given.
            for share in (0.85, 0.7, 0.6, 0.5):
                torch.cuda.set_per_process_memory_fraction((idle + share * (peak - idle)) / total)
                rows = extractor(pictures[:batch])
                if told:
                    break
                torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0)
            cosine = (plenty * rows).sum(axis=1)
            cosine /= np.linalg.norm(plenty, axis=1) * np.linalg.norm(rows, axis=1)
            return {
                "peak_gb": round(peak / 1e9, 3),
                "share of the peak that was given": share,
                "told": told,
                "least cosine": round(float(cosine.min()), 6),
                "equal": len(told) == 1 and bool(cosine.min() > 0.999),
            }

    report.run("out of memory", starve)


def actors(report, smoke):
    """Two actors on one GPU against one."""
    count, batch = sizes(smoke)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_network(folder)
        rates = {}
        for number in (1, 2):

            def race(number=number):
                rates[number], how = together(number, checkpoint, count, batch, smoke)
                return {"crops a second": round(rates[number]), "through": how}

            report.run(f"{number} actor{'s' * (number > 1)}", race)
        report.run("gain", lambda: {"two over one": round(rates[2] / rates[1], 3)})


def together(number, checkpoint, count, batch, smoke):
    """Crops a second of so many actors that begin at once, each with its share of the CPUs."""
    threads = max(1, (len(os.sched_getaffinity(0)) - 2) // number)
    settings = (checkpoint, count // (2 * number), batch, threads, smoke)
    try:
        import ray
    except ImportError:
        return _processes(number, settings), "processes: Ray is not installed"
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (HERE, HERE.parent)))  # of the workers
    ray.init(
        num_gpus=1, num_cpus=max(number, len(os.sched_getaffinity(0))), log_to_driver=False,
        include_dashboard=False,
    )  # fmt: skip
    try:
        actor = ray.remote(num_cpus=1, num_gpus=1 / number)(Actor)
        pool = [actor.remote(*settings) for _ in range(number)]
        ray.get([each.ready.remote() for each in pool])
        begun = time.perf_counter()
        rows = sum(ray.get([each.run.remote() for each in pool]))
        return rows / (time.perf_counter() - begun), "Ray"
    finally:
        ray.shutdown()


class Actor:
    """An actor of extraction, which holds what it is to do."""

    def __init__(self, checkpoint, count, batch, threads, smoke):
        self._files, self._threads = many(count, smoke), threads
        self._extractor = load(checkpoint, smoke, batch=batch, threads=max(1, threads // 2))
        run(self._extractor, self._files[: 4 * batch], threads)

    def ready(self):
        """Whether it has begun."""
        return True

    def run(self):
        """How many crops it has extracted."""
        return len(run(self._extractor, self._files, self._threads)[0])


def _processes(number, settings):
    context = multiprocessing.get_context("spawn")
    start, rows = context.Barrier(number + 1), context.Queue()
    pool = [context.Process(target=_work, args=(start, rows, settings)) for _ in range(number)]
    for each in pool:
        each.start()
    try:
        start.wait(_LONG)
        begun = time.perf_counter()
        done = sum(rows.get(timeout=_LONG) for _ in pool)
        return done / (time.perf_counter() - begun)
    finally:
        for each in pool:
            each.terminate()
            each.join()


def _work(start, rows, settings):
    actor = Actor(*settings)
    start.wait(_LONG)
    rows.put(actor.run())


PARTS = {"extraction": extraction, "memory": memory, "actors": actors}
