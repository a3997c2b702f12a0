"""A driver that is killed takes its private cluster with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STATED_SECONDS = 10  # in docs/cluster.md

DRIVER = """
import os, time, ray
from cluster.connect import connect

@ray.remote
class Worker:
    def pid(self):
        return os.getpid()

    def work(self):
        time.sleep(600)

with connect(num_cpus=1, num_gpus=0):
    worker = Worker.remote()
    print(ray.get(worker.pid.remote()), flush=True)
    ray.get(worker.work.remote())
"""


def below(pid: int) -> dict[int, str]:
    """The processes that a process and its children have started, with their start."""
    starts, children = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        if fields := stat(int(folder.name)):
            starts[int(folder.name)] = fields[19]
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = {}, [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = starts[child]
            waiting.append(child)
    return found


def stat(pid: int) -> list[str]:
    """State, parent and so on of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int, start: str) -> bool:
    fields = stat(pid)
    return bool(fields) and fields[0] != "Z" and fields[19] == start


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_of_a_private_cluster_outlives_a_killed_driver():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=environment | {"PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        try:
            worker = int(driver.stdout.readline())
            processes = below(driver.pid)
        finally:
            driver.kill()
    end = time.monotonic() + STATED_SECONDS
    assert worker in processes
    assert len(processes) >= 6  # gcs, raylet, two agents, the worker, and the guard itself
    while any(alive(*each) for each in processes.items()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [stat(pid) for pid, start in processes.items() if alive(pid, start)]
