"""A contest: each contestant in a process of its own, one after another, round after round."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PER_IDENTITY = 15
CAMERAS = 6


def clustered(rows, dimension, falling=0.0, seed=0):
    """Unit features as a network gives them: an identity, a bias of its camera, and noise.

    The similarity of one identity's rows is about 0.6. Component t has deviation t^-falling.
    """
    rng = np.random.default_rng(seed)
    spread = np.arange(1, dimension + 1, dtype=np.float32) ** -np.float32(falling)

    def draw(count):
        return rng.standard_normal((count, dimension), dtype=np.float32) * spread

    identities, cameras = draw(max(1, rows // PER_IDENTITY)), 0.3 * draw(CAMERAS)
    out = np.empty((rows, dimension), np.float32)
    for start in range(0, rows, 8192):
        block = out[start : start + 8192]
        block[:] = identities[rng.integers(0, len(identities), len(block))]
        block += cameras[rng.integers(0, CAMERAS, len(block))]
        block += 0.8 * draw(len(block))
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def race(script, names, folder, arguments, rounds, environments=None):
    """The figures of every contestant of a script, round by round, on what `folder` holds.

    `environments` gives some contestants an environment other than the one that is.
    """
    environments = environments or {}
    runs = {name: [] for name in names}
    for _ in range(rounds):
        for name, figures in runs.items():
            command = [sys.executable, script, "--contestant", name, "--folder", str(folder)]
            command += [str(each) for each in arguments]
            printed = subprocess.run(
                command,
                env=environments.get(name),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            figures.append(json.loads(printed.stdout))
    return runs


def enter(name, run, folder, arguments=(), small=()):
    """Run a contestant here on the features in `folder`, and print what it took beyond them.

    `small` are the arguments for the first 4,200 rows, which are run before: that compiles what
    such features need, or reads what was compiled, and starts the threads.
    """
    features = np.load(folder / "features.npy")
    run(features[:4200].copy(), *small)
    before = peak()
    begun, cpu = time.perf_counter(), time.process_time()
    out, steps = run(features, *arguments)
    figures = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    figures |= {"peak": peak(), "more": peak() - before, "steps": steps}
    if out is not None:
        np.save(folder / f"{name}.npy", out)
    print(json.dumps(figures))


def only_avx2():
    """Whether this run shows what a processor without AVX-512 does."""
    return os.environ.get("REGALLERY_MAX_CPU_ISA") == "avx2"


def own_kernels():
    """The environment in which OpenBLAS takes what kernels it likes."""
    return {name: v for name, v in os.environ.items() if not name.startswith("OPENBLAS_")}


def best_kernels():
    """The environment in which OpenBLAS takes its fastest kernels for this processor.

    Where `REGALLERY_MAX_CPU_ISA` is `avx2`, every library is held to that.
    """
    environment = own_kernels()
    flags = Path("/proc/cpuinfo").read_text().split()
    if only_avx2():
        environment |= {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "FAISS_SIMD_LEVEL": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
        }
    elif "avx512f" in flags:
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
    elif "avx2" in flags:
        environment["OPENBLAS_CORETYPE"] = "Haswell"
    return environment


def peak():
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(runs, peer):
    """Medians over the rounds, and how many times faster and smaller than the `peer` each is."""
    median = {
        name: {
            part: statistics.median(run[part] for run in figures) for part in ("seconds", "more")
        }
        for name, figures in runs.items()
    }
    for name, figures in runs.items():
        seconds, more = median[name]["seconds"], median[name]["more"]
        line = f"{name:12}{seconds:9.2f} s{more:9.0f} MB more"
        if peer in median and name != peer:
            line += f"   {median[peer]['seconds'] / seconds:.1f} times faster"
            if more and median[peer]["more"]:
                line += f", {median[peer]['more'] / more:.1f} times less memory"
        print(line)
        for step in figures[0]["steps"]:
            took = statistics.median(run["steps"][step] for run in figures)
            print(f"  {step:12}{took:7.2f} s")


class Steps:
    """Seconds of one step after another."""

    def __init__(self):
        self.taken, self._clock = {}, time.perf_counter()

    def done(self, step):
        self.taken[step] = time.perf_counter() - self._clock
        self._clock = time.perf_counter()
