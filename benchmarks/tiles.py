"""Stage 2 on Ray workers of one CPU each: how busy they are, and what that costs against threads.

    python benchmarks/tiles.py --rows 100000 --workers 2 4

The neighbor graph of clustered rows in a file, and the ranks of as many queries as a 30th of them,
once on the threads of this process and once on each number of workers, round after round; medians.
Before that, a small graph starts the workers and loads what is compiled. A worker is busy from the
beginning of a tile (or part) to its end; the last one runs alone from the end of the last but one.
CPU seconds are those in tiles and parts: on a shared machine their ratio is steadier. The results
must be equal to the byte. More workers than cores take turns: then the seconds say nothing, but the
rest does.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import ray
from contest import clustered

from cluster.connect import WORKER_ENVIRONMENT
from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.gallery.files.npy_rows import NpyRows
from pipeline.stages.evaluate import count_ranks
from pipeline.stages.execution import Execution
from pipeline.stages.neighbors import build_graph

K = 10


@dataclass(frozen=True)
class Watched(Execution):
    """Keeps which process folded each part, and when it began and ended."""

    spans: list = field(default_factory=list)

    def run_ready(self, fold, shared, ready, *, on_gpu=False):
        for span, found in super().run_ready(timed(fold), shared, ready, on_gpu=on_gpu):
            self.spans.append(span)
            yield found


def timed(fold):
    def run(*arguments):
        begin, spent = time.time(), time.process_time()
        found = fold(*arguments)
        return (os.getpid(), begin, time.time(), time.process_time() - spent), found

    return run


def busy(spans, workers):
    """Seconds from the first beginning to the last end, the share of them that workers were busy,
    and how long the last ran alone."""
    begin, end = min(span[1] for span in spans), max(span[2] for span in spans)
    last = {}
    for process, _, ended, _ in spans:
        last[process] = max(ended, last.get(process, 0))
    ends = sorted(last.values())
    share = sum(ended - begun for _, begun, ended, _ in spans) / (workers * (end - begin))
    return end - begin, share, ends[-1] - ends[-2] if len(ends) > 1 else end - begin


def graph_of(rows, execution):
    with tempfile.TemporaryDirectory() as folder:
        graph = build_graph(rows, K, Path(folder) / "graph", execution=execution)
        found = graph.read(0, len(rows))
        return found.scores.tobytes() + found.rows.tobytes()


def ranks_of(rows, execution):
    rng = np.random.default_rng(0)
    edge = len(rows) // 30
    labels = Labels(rng.integers(0, len(rows) // 20, len(rows)), rng.integers(0, 6, len(rows)))
    sides = rows.part(0, edge), labels.take(np.arange(edge))
    others = rows.part(edge, len(rows)), labels.take(np.arange(edge, len(rows)))
    return count_ranks(*sides, *others, execution=execution).ahead.tobytes()


WORK = {"neighbor graph": graph_of, "counted ranks": ranks_of}


def measured(work, rows, execution):
    begin, spent = time.perf_counter(), time.process_time()
    found = work(rows, execution)
    return found, time.perf_counter() - begin, time.process_time() - spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=list(WORK))
    given = parser.parse_args()
    ray.init(
        "local", num_cpus=max(given.workers), include_dashboard=False, log_to_driver=False,
        object_store_memory=512 * 2**20, runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "features.npy"
        np.save(path, clustered(given.rows, given.dimension))
        rows = NpyRows(str(path))
        threads = Execution(tiling=Tiling(threads=given.threads))
        few = rows.part(0, min(20_000, given.rows))
        for work in WORK.values():
            for execution in (threads, Execution(max(given.workers))):
                work(few, execution)
        print(f"{given.rows:,} x {given.dimension}, {len(os.sched_getaffinity(0))} cores")
        for label, work in WORK.items():
            if given.only in (None, label):
                compare(label, work, rows, threads, given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:.0f} MB")
    ray.shutdown()


def compare(label, work, rows, threads, given):
    taken = {workers: [] for workers in (0, *given.workers)}
    told, cpu = {}, {}
    for _ in range(given.rounds):
        whole, seconds, spent = measured(work, rows, threads)
        taken[0].append(seconds)
        for workers in given.workers:
            execution = Watched(workers)
            found, seconds, _ = measured(work, rows, execution)
            if found != whole:
                raise SystemExit(f"{label}: {workers} workers found something else")
            taken[workers].append(seconds)
            told[workers] = (len(execution.spans), *busy(execution.spans, workers))
            cpu[workers] = sum(each[3] for each in execution.spans) / spent
    base = statistics.median(taken[0])
    print(f"{label}: {given.threads} threads of this process {base:.2f} s")
    for workers in given.workers:
        seconds = statistics.median(taken[workers])
        parts, span, share, alone = told[workers]
        print(
            f"  {workers} workers {seconds:.2f} s, ratio {seconds / base:.2f}; {parts} parts,"
            f" workers busy {share:.1%} of {span:.2f} s, the last one alone for {alone:.2f} s;"
            f" ratio of the CPU seconds {cpu[workers]:.2f}"
        )


if __name__ == "__main__":
    main()
