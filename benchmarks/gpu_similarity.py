"""The parts of `gpu.py` about similarity: neighbors, searches and counted ranks.

Every figure begins with arrays in the memory of the machine and ends with them there. Peers stop
after some seconds, between two blocks of queries; their figures are then scaled to all queries.
"""

import statistics
import threading
import time

import numpy as np
import torch
from gpu import device

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.products.half_rows import gpu_or_cpu, halve
from pipeline.core.products.kernels import product_slack

K = 10
DIMENSION = 512
QUERIES = 3368
PER_IDENTITY = 15
ON_GPU = Tiling(gpus=1)
CHUNK = 2048  # queries of a peer's block


class People:
    """Features of people who are each seen some fifteen times, made on the GPU.

    Two features of one person have a similarity of about 1 / (1 + noise^2).
    """

    def __init__(self, rows, noise, seed=0):
        self._random = torch.Generator(device()).manual_seed(seed)
        self._noise, self.count = noise, max(2, rows // PER_IDENTITY)
        self._means = self._draw(self.count)

    def _draw(self, rows):
        return torch.randn((rows, DIMENSION), generator=self._random, device=device())

    def see(self, rows, distractors=0.0):
        """Features float32 `[rows, D]` and the labels that go with them."""
        of = torch.randint(self.count, (rows,), generator=self._random, device=device())
        out = np.empty((rows, DIMENSION), np.float32)
        for start in range(0, rows, 65_536):
            means = self._means[of[start : start + 65_536]]
            seen = torch.nn.functional.normalize(means + self._noise * self._draw(len(means)))
            out[start : start + len(means)] = seen.cpu().numpy()
        identity = of.cpu().numpy().astype(np.int64) + 1
        random = np.random.default_rng(rows)
        identity[random.random(rows) < distractors] = 0
        return out, Labels(identity, random.integers(0, 6, rows))


class Busy(threading.Thread):
    """Asks twenty times a second how busy the GPU is."""

    def __init__(self):
        super().__init__(daemon=True)
        self._seen, self._done = [], threading.Event()

    def run(self):
        while not self._done.wait(0.05):
            try:
                self._seen.append(torch.cuda.utilization())
            except Exception:  # noqa: BLE001 (without driver figures, the share stays unknown)
                return

    def __enter__(self):
        if device() == "cuda":
            self.start()
        return self

    def __exit__(self, *_):
        self._done.set()

    def share(self):
        return round(statistics.mean(self._seen) / 100, 3) if self._seen else None


def timed(work, times=1):
    """The last result of `work`, and its median seconds and the busy share of the GPU."""
    taken = []
    with Busy() as busy:
        for _ in range(times):
            begun = time.perf_counter()
            found = work()
            taken.append(time.perf_counter() - begun)
    facts = {"seconds": round(statistics.median(taken), 4), "runs": [round(t, 4) for t in taken]}
    if device() == "cuda":
        facts["gpu_busy"] = busy.share()
        facts["gpu_peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        torch.cuda.reset_peak_memory_stats()
    return found, facts


def same(one, other, names):
    """Whether the arrays of two results are equal to the bit."""
    differing = [
        int((getattr(one, name) != getattr(other, name)).sum())
        for name in names
        if getattr(one, name).tobytes() != getattr(other, name).tobytes()
    ]
    return {"equal": not differing, **({"differing": differing} if differing else {})}


def exact(report, smoke):
    """The same bits from the GPU as from the CPU."""
    report.run("bound of the products", lambda: bounds(256 if smoke else 4096))
    rows = 1500 if smoke else 100_000
    for kind in KINDS:
        report.run(
            f"rows that are {kind}", lambda kind=kind: hard_rows(kind, 300 if smoke else 6000)
        )
    people = People(rows, 0.8)
    features, labels = people.see(rows, distractors=0.2)
    queries, asked = people.see(60 if smoke else QUERIES)
    sides = queries, asked, features, labels

    def both(work, names):
        there, on_gpu = timed(lambda: work("float16", ON_GPU))
        here, on_cpu = timed(lambda: work("auto", Tiling()))
        return {**same(here, there, names), "first_gpu": on_gpu, "first_cpu": on_cpu}

    def graph(products, tiling):
        return neighbors(features, K, products=products, tiling=tiling)

    def best(products, tiling):
        return search(queries, features, K, products=products, tiling=tiling)

    def ranks(products, tiling):
        return rank_counts(*sides, products=products, tiling=tiling)

    report.run(f"neighbors {rows}", lambda: both(graph, ("scores", "rows")))
    report.run(f"search {len(queries)} x {rows}", lambda: both(best, ("scores", "rows")))
    report.run(f"ranks {len(queries)} x {rows}", lambda: both(ranks, ("scores", "rows", "ahead")))


def least_scores(rows, **options):
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, K, least=least, **options)
    return least


KINDS = {
    "falling": lambda x: x * np.arange(1, x.shape[1] + 1) ** -1.0,
    "nearly alike": lambda x: x[:1] + 1e-3 * x,
    "alike but for a rounding": lambda x: x[:1] + 1e-7 * x,
    "of any length": lambda x: x * 10.0 ** np.random.default_rng(1).integers(-6, 7, (len(x), 1)),
    "signs": np.sign,
}


def hard_rows(kind, count):
    """All three on rows that are hard to tell apart."""
    x = KINDS[kind](np.random.default_rng(0).standard_normal((count, DIMENSION)))
    if kind != "of any length":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = x.astype(np.float32)
    rows[count // 2 : count // 2 + 40] = rows[:40]  # ties
    identity = np.random.default_rng(2).integers(-1, count // 15, count)
    few = 100
    sides = (
        rows[:few], Labels(identity[:few], np.zeros(few, np.int64)),
        rows[few:], Labels(identity[few:], np.ones(count - few, np.int64)),
    )  # fmt: skip
    facts = {}
    for name, work, names in (
        ("neighbors", lambda **how: neighbors(rows, K, **how), ("scores", "rows")),
        (
            "search",
            lambda **how: search(rows[:few], rows, K, self_offset=0, **how),
            ("scores", "rows"),
        ),
        ("ranks", lambda **how: rank_counts(*sides, **how), ("ahead",)),
    ):
        here, there = work(), work(products="float16", tiling=ON_GPU)
        facts[name] = same(here, there, names)["equal"]
    least = least_scores(rows), least_scores(rows, products="float16", tiling=ON_GPU)
    facts["least"] = least[0].tobytes() == least[1].tobytes()
    return {"equal": all(facts.values()), **facts}


def bounds(count):
    """How much of what the bound grants to the rounding of a sum a product takes, at most."""
    facts = {}
    for dimension in (64, 512, 2048):
        x = np.random.default_rng(dimension).standard_normal((count, dimension)).astype(np.float32)
        for kind, rows in (("mixed", x), ("positive", np.abs(x))):
            with Tiling().workers() as run:
                halves = halve(rows, count, gpu_or_cpu(), run)
            near = halves.product(0, halves, 0).double()
            true = halves.rows.double() @ halves.rows.double().t()
            unit = halves.unit(0, halves, 0)
            slack = float(product_slack(dimension, halves.length[0], halves.length[0])) / unit
            # Half of the slack is for the rounding of the score; the rest of the bound for a sum's.
            facts[f"{dimension}, {kind}"] = round(float((near - true).abs().max()) / (2 * slack), 4)
    return {"share_taken": facts, "equal": max(facts.values()) <= 1}


def speed(report, smoke):
    """Neighbors of a million rows, against peers."""
    rows = 1200 if smoke else 1_000_000
    made = {}

    def make():
        made["features"] = People(rows, 0.8).see(rows)[0]
        return {"rows": rows}

    report.run("rows", make)
    features = made["features"]
    options = {"products": "float16", "tiling": ON_GPU}
    report.run("compile", lambda: timed(lambda: neighbors(features[:20_000], K, **options))[1])

    def ours(products="float16", tiling=ON_GPU):
        made["found"], facts = timed(
            lambda: neighbors(features, K, products=products, tiling=tiling)
        )
        return {**facts, "million_pairs_a_second": round(rows**2 / 2 / facts["seconds"] / 1e6)}

    report.run("neighbors on the GPU", ours)
    report.run("upload and rounding alone", lambda: timed(lambda: rounded(features))[1])

    def check():
        chosen = np.random.default_rng(3).choice(rows, min(rows, 256), replace=False)
        best = search(features[chosen], features, K + 1)
        others = [row[row != own][:K] for row, own in zip(best.rows, chosen, strict=True)]
        wrong = (np.array(others) != made["found"].rows[chosen]).any(axis=1).sum()
        return {"equal": int(wrong) == 0, "checked": len(chosen)}

    report.run("a sample against the CPU", check)
    for name, peer in peers(features, features, K + 1, 7).items():
        report.run(name, peer)
    # Again, warm, and with larger and smaller tiles.
    report.run("neighbors on the GPU, again", ours)
    for times in (0.5, 2):
        tiling = Tiling(int(1024 * times), int(4096 * times), gpus=1)
        report.run(f"tiles {times} times as high", lambda tiling=tiling: ours(tiling=tiling))


def rounded(features):
    with ON_GPU.for_gpu().workers() as run:
        halve(features, 8192, gpu_or_cpu(), run)
    if device() == "cuda":
        torch.cuda.synchronize()


def ranks(report, smoke):
    """Ranks in a gallery of a million rows, counted on the GPU, against peers."""
    rows, many = (1500, 40) if smoke else (1_000_000, QUERIES)
    report.run("compile", lambda: timed(lambda: count(People(5000, 0.8), 2000, 100))[1])
    for name, noise in (("persons apart", 1.6), ("persons hard to tell", 4.0)):
        made = {}

        def make(noise=noise, made=made):
            people = People(rows, noise)
            made["sides"] = (*people.see(many), *people.see(rows, distractors=0.2))
            return {"queries": many, "rows": rows}

        report.run(f"{name}: rows", make)

        def ours(products, tiling, made=made):
            work = lambda: rank_counts(*made["sides"], products=products, tiling=tiling)  # noqa: E731
            made[products], facts = timed(work, 3 if products == "float16" else 1)
            return {
                **facts,
                "matches": len(made[products].ahead),
                "mean": float(made[products].ahead.mean()),
            }

        report.run(f"{name}: ranks on the GPU", lambda ours=ours: ours("float16", ON_GPU))
        report.run(f"{name}: ranks on the CPU", lambda ours=ours: ours("auto", Tiling()))
        report.run(
            f"{name}: the same bits",
            lambda made=made: same(made["auto"], made["float16"], ("scores", "rows", "ahead")),
        )
        if name == "persons apart":
            queries, _, gallery, _ = made["sides"]
            more = {"torch float32, sorted whole": ("sort", torch.float32, False)}
            for peer, work in peers(queries, gallery, 50, 4, more).items():
                report.run(peer, work)


def count(people, rows, queries):
    sides = (*people.see(queries), *people.see(rows))
    return rank_counts(*sides, products="float16", tiling=ON_GPU)


def peers(queries, gallery, k, seconds, more=None):
    """Steps that find the `k` best of `gallery` for `queries`, each for some seconds at most."""
    ways = {
        "torch float32, topk": ("topk", torch.float32, False),
        "torch TF32, topk (not exact)": ("topk", torch.float32, True),
        "torch float16, topk (not exact)": ("topk", torch.float16, False),
        **(more or {}),
    }
    steps = {
        name: lambda way=way: by_torch(queries, gallery, k, seconds, *way)
        for name, way in ways.items()
    }
    steps["faiss GpuIndexFlatIP"] = lambda: by_faiss(queries, gallery, k, seconds)
    steps["certex"] = lambda: by_certex(queries, gallery, k, seconds)
    return steps


def by_torch(queries, gallery, k, seconds, order, dtype, tf32):
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        return by_blocks(
            lambda: torch.from_numpy(gallery).to(device()).to(dtype).t(),
            lambda asked, held: _ordered(
                torch.from_numpy(asked).to(device()).to(dtype) @ held, order, k
            ),
            queries,
            seconds,
            256 if order == "sort" else CHUNK,
        )
    finally:
        torch.set_float32_matmul_precision("highest")


def _ordered(scores, order, k):
    if order == "sort":
        return scores.sort(dim=1, descending=True).indices[:, :k].cpu()
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values.cpu(), best.indices.cpu()


def by_faiss(queries, gallery, k, seconds):
    try:
        import faiss
    except ImportError:
        return {"skipped": "faiss is not installed"}
    if not hasattr(faiss, "GpuIndexFlatIP") or device() != "cuda":
        return {"skipped": "faiss without GPUs"}
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), gallery.shape[1])

    def hold():
        index.add(gallery)
        return index

    return by_blocks(hold, lambda asked, held: held.search(asked, k), queries, seconds, 8 * CHUNK)


def by_certex(queries, gallery, k, seconds):
    try:
        import certex
    except (ImportError, OSError) as error:
        return {"skipped": f"certex cannot be imported ({error})"}
    index = certex.Index(dim=gallery.shape[1], metric="ip")

    def hold():
        index.add(gallery)
        return index

    return by_blocks(hold, lambda asked, held: held.search(asked, k=k), queries, seconds, 8 * CHUNK)


def by_blocks(hold, answer, queries, seconds, size):
    """Hold the gallery, answer blocks of queries for some seconds, and scale to all of them."""
    begun = time.perf_counter()
    held = hold()
    if device() == "cuda":
        torch.cuda.synchronize()
    holding = time.perf_counter() - begun
    answer(queries[:size], held)  # loads kernels
    begun, done = time.perf_counter(), 0
    while done < len(queries) and (done == 0 or time.perf_counter() - begun < seconds):
        asked = queries[done : done + size]
        answer(asked, held)
        done += len(asked)
    taken = time.perf_counter() - begun
    return {
        "seconds": round(holding + taken * len(queries) / done, 4),
        "upload": round(holding, 3),
        "answered": done,
        "of": len(queries),
    }


PARTS = {"exact": exact, "neighbors": speed, "ranks": ranks}
