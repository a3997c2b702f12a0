"""Where an extraction runs: in this process, unless its pace shows that Ray pays."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster.profiles import ActorResources
from pipeline.gallery.opening import lock_gallery
from pipeline.runs import pace, units
from pipeline.runs.reporting import reported
from pipeline.runs.settings import ActorSettings
from pipeline.runs.units import Cut, extract_units, may_stay
from pipeline.stages import extract_on_ray
from pipeline.stages.extract import extract_here
from tests.stages.making import prepared, save_source


def extracted(folder, source):
    folder.mkdir()
    gallery, work_units, work = prepared(folder, source)
    members = sum(len(unit.members) for unit in work_units)
    cut = Cut(range(members), work_units, [], None)
    steps = []
    with (
        lock_gallery(gallery.location, "test") as lock,
        reported(lock, lambda name, length: steps.append) as report,
    ):
        done, actors = extract_units(
            cut, work, ActorSettings(), listed_rejects=0, limit=0, report=report
        )
    assert sum(steps) == members
    after = gallery.commit(done, run_id="run")
    return after.features().read(0, members).tobytes(), actors


def test_work_moves_to_ray_where_that_pays_and_gives_the_same_rows(tmp_path, monkeypatch):
    """Ray itself is in `tests/stages/test_extract.py`."""
    moved = []

    def on_ray(units, work, *, step, **options):
        moved.append((len(units), options["actors"]))
        return extract_here(units, work, step)

    @contextlib.contextmanager
    def on_cluster(on):
        yield ActorResources(actors=3, cpus_per_actor=1, gpus_per_actor=0, threads=1), {}

    source = save_source(tmp_path / "source", 40)
    monkeypatch.setattr(units, "may_stay", lambda on: True)
    monkeypatch.setattr(units, "on_cluster", on_cluster)
    monkeypatch.setattr(extract_on_ray, "extract_on_ray", on_ray)
    here, actors = extracted(tmp_path / "here", source)
    assert (actors, moved) == (0, [])
    monkeypatch.setattr(pace, "RAY_START_SECONDS", -1.0)
    there, actors = extracted(tmp_path / "moved", source)
    assert (actors, moved) == (3, [(3, 3)])
    assert there == here


def test_whoever_asks_for_ray_gets_it(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert may_stay(ActorSettings())
    for asked in ({"actors": 1}, {"address": "auto"}, {"num_cpus": 2}, {"num_gpus": 0.5}):
        assert not may_stay(ActorSettings(**asked))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not may_stay(ActorSettings())
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    assert not may_stay(ActorSettings())


# How a private cluster for extraction begins: what its workers lack, and what they have.
BEGUN = """
import os, ray
from cluster.connect import connect
from pipeline.runs.settings import ActorSettings
from pipeline.runs.units import on_cluster

GIVEN = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

@ray.remote(num_cpus=1)
def look():
    names = ("THP_MEM_ALLOC_ENABLE", "MALLOC_ARENA_MAX", *GIVEN)
    return os.nice(0), *(os.environ.get(name) for name in names)

asked = ActorSettings(actors=1)
with on_cluster(asked) as (resources, missing):
    print(resources.actors, missing)
    with on_cluster(asked) as (_, missing):
        print(missing)
    with on_cluster(ActorSettings(actors=1, address="auto")) as (_, missing):
        print(missing)
    print(*ray.get(look.remote()))
    with connect() as cluster, connect() as inner:
        assert inner == cluster
    print(len(cluster.nodes), cluster.started_here, set(GIVEN) <= cluster.variables.keys())
    print(os.environ["RAY_AUTH_MODE"], [name for name in GIVEN if name in os.environ])
print(ray.is_initialized())
"""


@pytest.mark.ray
def test_a_private_cluster_starts_quietly_with_its_variables_and_is_gone_afterwards():
    """An actor with variables of its own needs a process of its own, which starts when it does."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name[:4] != "RAY_" and name not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", BEGUN],
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1 {}", "{}", "{}",
        "0 1 1 1 1",  # not nice, both settings of the allocator, and one thread a CPU
        "1 True True", "token []",
        "False",
    ]  # fmt: skip
    assert done.stderr == ""


@pytest.mark.ray
def test_workers_of_another_cluster_get_their_variables(cluster):
    asked = ActorSettings(actors=1, num_cpus=2)
    with units.on_cluster(asked) as (_, environment):
        assert environment == {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
