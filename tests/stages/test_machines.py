"""A machine that joins a cluster and is lost, as real processes of Ray.

`benchmarks/cluster_kills.py` has more of them, with commands, tokens, jobs and object stores.
"""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pipeline.model.functions import NetworkFunction
from pipeline.stages.extract import extract_here
from pipeline.stages.extract_on_ray import extract_on_ray
from tests.head_node import joined_head, lost, machine
from tests.stages.making import prepared, save_source

SECONDS = 300
UNITS = 4
JOINED = "REGALLERY_TEST_JOINED"
"""A variable of the machine that joins."""
STILL = "stands still"


def network(folder):
    """A function, because workers would load torch for any other network.

    A machine that has joined stands still at its second unit; the first one waits for that.
    """
    still, joined, seconds = folder / STILL, JOINED, SECONDS

    def means(crops):
        begun = still.with_name("joined" if joined in os.environ else "first")
        if joined in os.environ and begun.exists():
            still.touch()
            time.sleep(seconds)
        begun.touch()
        while joined not in os.environ and not still.exists():
            time.sleep(0.1)
        return [[*crop.mean((0, 1)), 1, 2, 3, 4, 5] for crop in crops]

    return NetworkFunction(means, "means")


def wait_for(path, running):
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        assert running.is_alive()
        time.sleep(0.1)


def units_of(gallery):
    return {path.name: path.read_bytes() for path in Path(gallery.location).glob("[!_]*.parquet")}


@pytest.mark.ray
@pytest.mark.slow
def test_a_machine_that_joins_gets_work_and_one_that_is_lost_costs_its_unit(tmp_path, cluster):
    source, written = save_source(tmp_path / "source", 2 * UNITS), []
    for extracted in (extract_here, joined_and_lost):
        folder = tmp_path / extracted.__name__
        folder.mkdir()
        gallery, units, work = prepared(folder, source, unit_size=2)
        if extracted is extract_here:
            (folder / STILL).touch()
        records = list(extracted(units, replace(work, model=network(folder))))
        assert {record.unit_id for record in records} == {unit.id for unit in units}
        written.append(units_of(gallery))
    assert written[0] == written[1]


def joined_and_lost(units, work):
    """Each worker takes a whole machine, so the pool cannot grow before one joins."""
    folder = Path(work.target.location).parent
    cpus = int(ray.cluster_resources()["CPU"])
    records = extract_on_ray(units, work, actors=1, grows=True, cpus_per_actor=cpus)
    found = []
    running = threading.Thread(target=lambda: found.extend(records), daemon=True)
    running.start()
    wait_for(folder / "first", running)
    with machine(joined_head(), num_cpus=cpus, variables={JOINED: "1"}) as second:
        wait_for(folder / STILL, running)
        lost(second)
        running.join(SECONDS)
    return found
