"""A contest: each contestant in a process of its own, one after another, round after round."""

import json
import statistics
import subprocess
import sys
import time

import numpy as np
from neighbors import clustered, peak


def race(script, names, folder, arguments, rounds, environment=None):
    """The figures of every contestant of a script, round by round, on what `folder` holds."""
    runs = {name: [] for name in names}
    for _ in range(rounds):
        for name, figures in runs.items():
            command = [sys.executable, script, "--contestant", name, "--folder", str(folder)]
            command += [str(each) for each in arguments]
            printed = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            figures.append(json.loads(printed.stdout))
    return runs


def enter(name, run, folder, arguments=(), small=()):
    """Run a contestant here on the features in `folder`, and print what it took beyond them.

    `small` are the arguments for 2,100 rows.
    """
    run(clustered(2100, 64), *small)  # compiles, and starts the threads
    features = np.load(folder / "features.npy")
    before = peak()
    begun = time.perf_counter()
    out, steps = run(features, *arguments)
    figures = {"seconds": time.perf_counter() - begun, "more": peak() - before, "steps": steps}
    if out is not None:
        np.save(folder / f"{name}.npy", out)
    print(json.dumps(figures))


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
            faster, smaller = median[peer]["seconds"] / seconds, median[peer]["more"] / more
            line += f"   {faster:.1f} times faster, {smaller:.1f} times less memory"
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
